//! What no pod may reach, enforced inside the pod's own namespace.
//!
//! The machine config server of the cluster hands out secrets, and a cloud's metadata service the node's identity;
//! both are for nodes only. The table has the name, the chains and the order of the replaced system's, so what
//! people know from `nft list ruleset` in a pod stays. It is written through netlink in one transaction: starting
//! the `nft` program would take longer than all of the rest of the wiring.

use std::net::Ipv4Addr;
use std::{io, iter};

use netlink_packet_netfilter::nftables::{
    Bitwise, ChainAttribute, ChainMessage, Cmp, DataAttribute, Expressions, Hook, Immediate, InetHookNumber,
    Meta, MetaKey, NfTablesMessage, Operator, Payload, Register, RuleAttribute, RuleMessage, TableAttribute,
    TableMessage, Verdict, VerdictAttribute,
};
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
};
use nix::libc;
use rtnetlink::packet_core::{DefaultNla, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::sys::protocols::NETLINK_NETFILTER;

use super::netlink::{self, Request};

/// The table's name in the pod, family `ip`.
pub(super) const TABLE: &str = "openshift-block-output";
const BLOCK: &str = "block";

/// What is blocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockList {
    /// First and last TCP port of the machine config server, on any address: new connections are rejected.
    pub machine_config: (u16, u16),
    /// The address of the cloud's metadata service: all TCP and UDP but DNS is rejected.
    pub metadata: Ipv4Addr,
}

impl Default for BlockList {
    fn default() -> BlockList {
        BlockList { machine_config: (22623, 22624), metadata: Ipv4Addr::new(169, 254, 169, 254) }
    }
}

impl BlockList {
    /// For a platform, by the name that the cluster's infrastructure object has for it.
    pub fn for_platform(platform: &str) -> BlockList {
        match platform {
            "AlibabaCloud" => {
                BlockList { metadata: Ipv4Addr::new(100, 100, 100, 200), ..BlockList::default() }
            }
            _ => BlockList::default(),
        }
    }

    /// Writes the table in the calling thread's namespace.
    pub(super) fn install(&self) -> io::Result<()> {
        const DNS: u16 = 53;
        let (first, last) = self.machine_config;
        let machine_config = [
            vec![l4_protocol(), equal(&[TCP])],
            vec![destination_port(), compare(Operator::GreatherThanEqual, &first.to_be_bytes())],
            vec![compare(Operator::LessThanEqual, &last.to_be_bytes())],
            vec![tcp_flags(), masked(TCP_FIN | TCP_SYN | TCP_RST | TCP_ACK), equal(&[TCP_SYN])],
            vec![reject()],
        ];
        let metadata = |protocol| {
            [
                vec![destination_address(), equal(&self.metadata.octets())],
                vec![l4_protocol(), equal(&[protocol])],
                vec![destination_port(), compare(Operator::NotEqual, &DNS.to_be_bytes())],
                vec![reject()],
            ]
        };
        let table = [
            new_table(NLM_F_CREATE | NLM_F_EXCL),
            new_chain(BLOCK, None),
            new_chain("output", Some(InetHookNumber::LocalOut)),
            new_chain("forward", Some(InetHookNumber::Forward)),
            new_rule(BLOCK, machine_config.concat()),
            new_rule(BLOCK, metadata(UDP).concat()),
            new_rule(BLOCK, metadata(TCP).concat()),
            new_rule("output", vec![goto(BLOCK)]),
            new_rule("forward", vec![goto(BLOCK)]),
        ];
        match write(table.to_vec()) {
            // An ADD that was interrupted has left one. Deleting keeps who closes the socket waiting for 8 ms and more,
            // until no processor can still hold a reference: not done for nothing.
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
                let replaced = [new_table(NLM_F_CREATE), delete_table()].into_iter().chain(table);
                write(replaced.collect())
            }
            written => written,
        }
    }
}

/// All of it or nothing.
fn write(steps: Vec<Request<NetfilterMessage>>) -> io::Result<()> {
    let begin = iter::once(boundary(ControlMessage::BatchBegin));
    let batch = begin.chain(steps).chain([boundary(ControlMessage::BatchEnd)]).collect();
    netlink::run(NETLINK_NETFILTER, batch).map(drop).map_err(|failed| failed.source)
}

// Of IP and TCP.
const TCP: u8 = 6;
const UDP: u8 = 17;
const TCP_FIN: u8 = 0x01;
const TCP_SYN: u8 = 0x02;
const TCP_RST: u8 = 0x04;
const TCP_ACK: u8 = 0x10;

// Of linux/netfilter.h and linux/netfilter/nf_tables.h, as far as the crate has no name for them.
const NF_ACCEPT: u32 = 1;
const PRIORITY_FILTER: u32 = 0;
const PAYLOAD_NETWORK_HEADER: u32 = 1;
const PAYLOAD_TRANSPORT_HEADER: u32 = 2;
const REJECT_TYPE: u16 = 1;
const REJECT_TYPE_ICMP_UNREACH: u32 = 0;
const REJECT_ICMP_CODE: u16 = 2;
const ICMP_PORT_UNREACH: u8 = 3;

fn message(
    family: NetfilterProtoFamily,
    subsystem: u16,
    inner: impl Into<NetfilterMessageInner>,
) -> NetfilterMessage {
    NetfilterMessage::new(NetfilterHeader::new(family, 0, subsystem), inner)
}

fn boundary(message_type: ControlMessage) -> Request<NetfilterMessage> {
    let subsystem = u16::try_from(libc::NFNL_SUBSYS_NFTABLES).unwrap_or_default();
    Request::unconfirmed(message(NetfilterProtoFamily::Unspec, subsystem, message_type))
}

fn step(flags: u16, inner: NfTablesMessage) -> Request<NetfilterMessage> {
    Request::new(flags, message(NetfilterProtoFamily::IPv4, 0, inner))
}

fn delete_table() -> Request<NetfilterMessage> {
    let attributes = vec![TableAttribute::Name(TABLE.into())];
    step(0, NfTablesMessage::DeleteTable(TableMessage { attributes }))
}

fn new_table(flags: u16) -> Request<NetfilterMessage> {
    let attributes = vec![TableAttribute::Name(TABLE.into())];
    step(flags, NfTablesMessage::NewTable(TableMessage { attributes }))
}

fn new_chain(name: &str, hook: Option<InetHookNumber>) -> Request<NetfilterMessage> {
    let mut attributes = vec![ChainAttribute::Table(TABLE.into()), ChainAttribute::Name(name.into())];
    if let Some(hook) = hook {
        attributes
            .push(ChainAttribute::Hook(vec![Hook::Number(hook.into()), Hook::Priority(PRIORITY_FILTER)]));
        attributes.push(ChainAttribute::Policy(NF_ACCEPT));
        attributes.push(ChainAttribute::Type("filter".into()));
    }
    step(NLM_F_CREATE, NfTablesMessage::NewChain(ChainMessage { attributes }))
}

fn new_rule(chain: &str, expressions: Vec<Expressions>) -> Request<NetfilterMessage> {
    let attributes = vec![
        RuleAttribute::Table(TABLE.into()),
        RuleAttribute::Chain(chain.into()),
        RuleAttribute::Expressions(expressions.into_iter().map(Into::into).collect()),
    ];
    step(NLM_F_CREATE | NLM_F_APPEND, NfTablesMessage::NewRule(RuleMessage { attributes }))
}

fn l4_protocol() -> Expressions {
    Expressions::Meta(vec![Meta::DestinationRegister(Register::Reg1), Meta::Key(MetaKey::L4Proto)])
}

fn payload(base: u32, offset: u32, length: u32) -> Expressions {
    Expressions::Payload(vec![
        Payload::DestinationRegister(Register::Reg1),
        Payload::Base(base),
        Payload::Offset(offset),
        Payload::Len(length),
    ])
}

fn destination_address() -> Expressions {
    payload(PAYLOAD_NETWORK_HEADER, 16, 4)
}

/// Of TCP and UDP alike.
fn destination_port() -> Expressions {
    payload(PAYLOAD_TRANSPORT_HEADER, 2, 2)
}

fn tcp_flags() -> Expressions {
    payload(PAYLOAD_TRANSPORT_HEADER, 13, 1)
}

fn masked(mask: u8) -> Expressions {
    Expressions::Bitwise(vec![
        Bitwise::SourceRegister(Register::Reg1),
        Bitwise::DestinationRegister(Register::Reg1),
        Bitwise::Length(1),
        Bitwise::Mask(DataAttribute::Value(vec![mask])),
        Bitwise::Xor(DataAttribute::Value(vec![0])),
    ])
}

fn compare(operator: Operator, value: &[u8]) -> Expressions {
    Expressions::Cmp(vec![
        Cmp::SourceRegister(Register::Reg1),
        Cmp::Op(operator),
        Cmp::Data(DataAttribute::Value(value.to_vec())),
    ])
}

fn equal(value: &[u8]) -> Expressions {
    compare(Operator::Equal, value)
}

fn goto(chain: &str) -> Expressions {
    let verdict = vec![VerdictAttribute::Code(Verdict::Goto), VerdictAttribute::Chain(chain.into())];
    Expressions::Immediate(vec![
        Immediate::DestinationRegister(Register::Verdict),
        Immediate::Data(DataAttribute::Verdict(verdict)),
    ])
}

fn reject() -> Expressions {
    Expressions::Other {
        expression_type: "reject".into(),
        attributes: vec![
            DefaultNla::new(REJECT_TYPE, REJECT_TYPE_ICMP_UNREACH.to_be_bytes().to_vec()),
            DefaultNla::new(REJECT_ICMP_CODE, vec![ICMP_PORT_UNREACH]),
        ],
    }
}
