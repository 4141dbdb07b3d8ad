//! The node's firewall: one nftables table, `ip openshift-sdn`.
//!
//! The chains that it jumps to have the names of the replaced system's iptables chains, so that people find what they
//! know (`nft list table ip openshift-sdn`). The whole table is replaced in one transaction, and only if it differs:
//! there is no moment without a rule, and a rule that someone deleted, added or moved is put right.
//!
//! | chain | reached from | does |
//! |---|---|---|
//! | `OPENSHIFT-FIREWALL-ALLOW` | input | rejects new connections to egress IPs; accepts VXLAN, and what comes from pods to the node |
//! | `OPENSHIFT-BLOCK-OUTPUT` | output, and forward before all else | rejects new connections to the machine config server |
//! | `OPENSHIFT-FIREWALL-FORWARD` | forward | drops resends of connections that conntrack has forgotten, accepts pods' traffic |
//! | `OPENSHIFT-EGRESS-IP` | postrouting, before anybody's masquerading | gives what a namespace with an egress IP sends that address |
//! | `OPENSHIFT-MASQUERADE`, `OPENSHIFT-MASQUERADE-2` | postrouting | gives what leaves the cluster the node's address |
//! | `raw-prerouting` | - | with a datapath in user space, drops the kernel's copy of what pods send |
//! | `OPENSHIFT-NOTRACK` | prerouting and output, before conntrack | keeps VXLAN out of conntrack |
//!
//! In the replaced system `OPENSHIFT-BLOCK-OUTPUT` came after the rule that accepts all of the pods' traffic, so it did not
//! hold for pods; here it comes first.
//!
//! The mark of a namespace's packets can have the bit by which kube-proxy asks for masquerading. Who rewrites a packet's
//! source first decides, so egress IPs have a hook of their own in front of the one where kube-proxy's rules are. Marked
//! packets that service NAT has sent back into the cluster get the node's address there.
//!
//! A verdict `accept` ends this table's chain only: another table on the same hook that drops, as a firewall of the
//! node's administrator may do, still drops. The link of `tun0` must be trusted there.

use std::io;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use nftables::helper::{DEFAULT_NFT, NftablesError, apply_ruleset_raw, get_current_ruleset_raw};
use serde_json::{Value, json};

/// The table's name; its family is `ip`.
pub const TABLE: &str = "openshift-sdn";

/// The bit of the packet mark by which kube-proxy asks for its own masquerading (its option
/// `iptables-masquerade-bit`, 14 unless set).
pub const KUBE_PROXY_MASQUERADE: u32 = 1 << 14;

/// The TCP ports of the machine config server, which hands out secrets to new nodes.
const MACHINE_CONFIG: [u16; 2] = [22623, 22624];

/// The host ends of pods' veths.
const HOST_VETHS: &str = "veth*";

// Upper case as people know them; in lower case some would be words of nft's language, and could not be typed.
const ALLOW: &str = "OPENSHIFT-FIREWALL-ALLOW";
const BLOCK: &str = "OPENSHIFT-BLOCK-OUTPUT";
const FORWARD: &str = "OPENSHIFT-FIREWALL-FORWARD";
const MASQUERADE: &str = "OPENSHIFT-MASQUERADE";
const MASQUERADE_2: &str = "OPENSHIFT-MASQUERADE-2";
const EGRESS: &str = "OPENSHIFT-EGRESS-IP";
const NOTRACK: &str = "OPENSHIFT-NOTRACK";

/// Before the priority `srcnat` (100), where kube-proxy's rules and our own masquerading are.
const BEFORE_SRCNAT: i32 = 99;

/// What the firewall depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirewallSpec {
    /// The networks of the cluster's pods.
    pub cluster_networks: Vec<Ipv4Net>,
    /// The link between node and pods, `tun0`.
    pub tun: String,
    /// The UDP port of VXLAN.
    pub vxlan_port: u16,
    /// The datapath runs in user space: it leaves the kernel a copy of each packet that comes from a pod, which the
    /// kernel would route past all tables of the pipeline.
    pub userspace_datapath: bool,
    /// The egress IPs that the node hosts.
    pub egress_ips: Vec<EgressSnat>,
}

/// Packets of a namespace and the address under which they leave.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EgressSnat {
    /// The address.
    pub ip: Ipv4Addr,
    /// The mark that the pipeline gives the packets.
    pub mark: u32,
    /// The namespace, for people.
    pub namespace: String,
}

/// What [`ensure`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// Nothing: the table was as it shall be.
    Nothing,
    /// There was no table.
    Created,
    /// The table was different.
    Replaced,
}

/// Why the firewall could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum FirewallError {
    /// The program `nft` can't be run.
    #[error("could not run nft: {0}; install the package nftables")]
    NoNft(#[source] io::Error),
    /// `nft` refused the table.
    #[error("nft did not accept the table ip {TABLE}: {message}")]
    Refused {
        /// What it printed.
        message: String,
    },
    /// What `nft` printed is not what it prints.
    #[error("nft's output is not understood: {0}")]
    Output(String),
    /// The thread that ran `nft` ended without a result.
    #[error("the thread that ran nft ended without a result")]
    Lost,
}

/// Makes the table as it shall be.
///
/// # Errors
/// Any [`FirewallError`]; the table is as it was then.
pub async fn ensure(spec: &FirewallSpec) -> Result<Changed, FirewallError> {
    let wanted = objects(spec);
    on_blocking_thread(move || {
        let present = list()?;
        let changed = match present {
            Some(present) if present == wanted => return Ok(Changed::Nothing),
            Some(_) => Changed::Replaced,
            None => Changed::Created,
        };
        let added = wanted.into_iter().map(|object| json!({ "add": object }));
        apply(clear().into_iter().chain(added).collect())?;
        Ok(changed)
    })
    .await
}

/// Removes the table. No table is no error.
///
/// # Errors
/// Any [`FirewallError`].
pub async fn remove() -> Result<(), FirewallError> {
    on_blocking_thread(|| apply(clear().into())).await
}

async fn on_blocking_thread<T: Send + 'static>(
    f: impl FnOnce() -> Result<T, FirewallError> + Send + 'static,
) -> Result<T, FirewallError> {
    tokio::task::spawn_blocking(f).await.map_err(|_| FirewallError::Lost)?
}

/// The table's objects in the words, and the order, in which `nft -j list table` has them.
fn objects(spec: &FirewallSpec) -> Vec<Value> {
    let mut chains = vec![
        base("input", "filter", "input", 0),
        base("forward", "filter", "forward", 0),
        base("output", "filter", "output", 0),
        base("postrouting", "nat", "postrouting", 100),
        base("egress-postrouting", "nat", "postrouting", BEFORE_SRCNAT),
        base("raw-prerouting", "filter", "prerouting", -300),
        base("raw-output", "filter", "output", -300),
    ];
    let named = [ALLOW, BLOCK, FORWARD, MASQUERADE, MASQUERADE_2, EGRESS, NOTRACK];
    chains.extend(named.map(|name| json!({ "chain": { "family": "ip", "table": TABLE, "name": name } })));

    // In the order of their chains, as they are listed.
    let mut rules = Rules::default();
    rules.add("input", "firewall overrides", [jump(ALLOW)]);
    rules.add("forward", "firewall overrides", [jump(BLOCK)]);
    rules.add("forward", "firewall overrides", [jump(FORWARD)]);
    rules.add("output", "firewall overrides", [jump(BLOCK)]);
    rules.add("postrouting", "rules for masquerading OpenShift traffic", [jump(MASQUERADE)]);
    for network in &spec.cluster_networks {
        let from = equal(field("ip", "saddr"), prefix(network));
        rules.add("egress-postrouting", "pod-to-external traffic", [from, jump(EGRESS)]);
    }
    if spec.userspace_datapath {
        let from_pod = equal(json!({ "meta": { "key": "iifname" } }), json!(HOST_VETHS));
        rules.add(
            "raw-prerouting",
            "the kernel's copy of what the bridge takes",
            [from_pod, verdict("drop")],
        );
    }
    rules.add("raw-prerouting", "disable conntrack for vxlan", [jump(NOTRACK)]);
    rules.add("raw-output", "disable conntrack for vxlan", [jump(NOTRACK)]);

    for EgressSnat { ip, namespace, .. } in &spec.egress_ips {
        let to = equal(field("ip", "daddr"), json!(ip));
        rules.add(ALLOW, &format!("egress IP of {namespace}"), [to, connection("new"), reject()]);
    }
    let vxlan = || equal(field("udp", "dport"), json!(spec.vxlan_port));
    let from_tun = equal(json!({ "meta": { "key": "iifname" } }), json!(spec.tun));
    rules.add(ALLOW, "VXLAN incoming", [vxlan(), verdict("accept")]);
    rules.add(ALLOW, "from SDN to localhost", [from_tun, verdict("accept")]);

    for port in MACHINE_CONFIG {
        let port = equal(field("tcp", "dport"), json!(port));
        rules.add(BLOCK, "machine config server", [port, tcp_syn(), reject()]);
    }

    for network in &spec.cluster_networks {
        let from = || equal(field("ip", "saddr"), prefix(network));
        let to = equal(field("ip", "daddr"), prefix(network));
        let comment = "attempted resend after connection close";
        rules.add(FORWARD, comment, [from(), connection("invalid"), verdict("drop")]);
        rules.add(FORWARD, "forward traffic from SDN", [to, verdict("accept")]);
        rules.add(FORWARD, "forward traffic to SDN", [from(), verdict("accept")]);
    }

    let marked = json!({ "&": [{ "meta": { "key": "mark" } }, KUBE_PROXY_MASQUERADE] });
    let by_kube_proxy = equal(marked, json!(KUBE_PROXY_MASQUERADE));
    rules.add(MASQUERADE, "masqueraded by kube-proxy", [by_kube_proxy, verdict("return")]);
    let comment = "masquerade pod-to-external traffic";
    for network in &spec.cluster_networks {
        let from = equal(field("ip", "saddr"), prefix(network));
        rules.add(MASQUERADE, comment, [from, jump(MASQUERADE_2)]);
    }
    for network in &spec.cluster_networks {
        let to = equal(field("ip", "daddr"), prefix(network));
        rules.add(MASQUERADE_2, comment, [to, verdict("return")]);
    }
    rules.add(MASQUERADE_2, comment, [verdict("masquerade")]);

    for EgressSnat { ip, mark, namespace } in &spec.egress_ips {
        let marked = || equal(json!({ "meta": { "key": "mark" } }), json!(mark));
        let comment = format!("egress IP of {namespace}");
        for network in &spec.cluster_networks {
            let to = equal(field("ip", "daddr"), prefix(network));
            rules.add(EGRESS, &comment, [marked(), to, verdict("masquerade")]);
        }
        rules.add(EGRESS, &comment, [marked(), json!({ "snat": { "addr": ip } })]);
    }

    rules.add(NOTRACK, "disable conntrack for vxlan", [vxlan(), verdict("notrack")]);

    let table = json!({ "table": { "family": "ip", "name": TABLE } });
    [table].into_iter().chain(chains).chain(rules.0).collect()
}

fn base(name: &str, kind: &str, hook: &str, priority: i32) -> Value {
    json!({ "chain": {
        "family": "ip", "table": TABLE, "name": name,
        "type": kind, "hook": hook, "prio": priority, "policy": "accept",
    } })
}

#[derive(Default)]
struct Rules(Vec<Value>);

impl Rules {
    fn add<const N: usize>(&mut self, chain: &str, comment: &str, expr: [Value; N]) {
        let expr = expr.to_vec();
        self.0.push(json!({ "rule": {
            "family": "ip", "table": TABLE, "chain": chain, "comment": comment, "expr": expr,
        } }));
    }
}

fn field(protocol: &str, field: &str) -> Value {
    json!({ "payload": { "protocol": protocol, "field": field } })
}

fn prefix(network: &Ipv4Net) -> Value {
    match network.prefix_len() {
        32 => json!(network.addr()),
        len => json!({ "prefix": { "addr": network.network(), "len": len } }),
    }
}

fn equal(left: Value, right: Value) -> Value {
    json!({ "match": { "op": "==", "left": left, "right": right } })
}

/// A state that conntrack has the packet's connection in.
fn connection(state: &str) -> Value {
    json!({ "match": { "op": "in", "left": { "ct": { "key": "state" } }, "right": state } })
}

/// The flags of a packet that opens a connection.
fn tcp_syn() -> Value {
    let flags = json!({ "&": [field("tcp", "flags"), ["fin", "syn", "rst", "ack"]] });
    equal(flags, json!("syn"))
}

fn jump(chain: &str) -> Value {
    json!({ "jump": { "target": chain } })
}

fn verdict(name: &str) -> Value {
    json!({ name: null })
}

fn reject() -> Value {
    json!({ "reject": { "type": "icmp", "expr": "port-unreachable" } })
}

/// Commands that leave no table, whether there was one or not.
fn clear() -> [Value; 2] {
    let table = json!({ "table": { "family": "ip", "name": TABLE } });
    [json!({ "add": table }), json!({ "delete": table })]
}

/// The table's objects as they are, without what differs from one listing to the next; none if there is no table.
fn list() -> Result<Option<Vec<Value>>, FirewallError> {
    let listed = match get_current_ruleset_raw(DEFAULT_NFT, ["list", "table", "ip", TABLE]) {
        Ok(listed) => listed,
        // No such table; any other reason shows when the table is written.
        Err(NftablesError::NftFailed { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut listed: Value =
        serde_json::from_str(&listed).map_err(|error| FirewallError::Output(error.to_string()))?;
    let objects = listed.get_mut("nftables").and_then(Value::as_array_mut).map(std::mem::take);
    let mut objects = objects.ok_or_else(|| FirewallError::Output("it has no key nftables".to_owned()))?;
    objects.retain(|object| object.get("metainfo").is_none());
    for object in objects.iter_mut().filter_map(Value::as_object_mut) {
        for inner in object.values_mut().filter_map(Value::as_object_mut) {
            inner.remove("handle");
        }
    }
    Ok(Some(objects))
}

/// Carries out commands in one transaction.
fn apply(commands: Vec<Value>) -> Result<(), FirewallError> {
    let none: [&str; 0] = [];
    apply_ruleset_raw(&json!({ "nftables": commands }).to_string(), DEFAULT_NFT, none)?;
    Ok(())
}

impl From<NftablesError> for FirewallError {
    fn from(error: NftablesError) -> FirewallError {
        match error {
            NftablesError::NftExecution { inner, .. } => FirewallError::NoNft(inner),
            NftablesError::NftFailed { stderr, .. } => {
                FirewallError::Refused { message: stderr.trim().to_owned() }
            }
            other => FirewallError::Output(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests;
