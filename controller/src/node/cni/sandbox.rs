//! Wiring a pod's sandbox: a veth pair between the pod's network namespace and the node's, the pod's address and
//! routes.
//!
//! The pair is made by one netlink request that puts the pod's end directly into the pod's namespace, with its final
//! name, MAC and MTU: moving a finished link between namespaces instead costs milliseconds. All that is done inside
//! the pod is one more request. Nothing waits for IPv6 duplicate address detection.
//!
//! The host's end is the last to come up, with the alias that says that the pod is wired whole, and before the caller adds
//! it to the bridge; until then no packet of the pod gets anywhere.
//!
//! Each change of a link, address or route of the node has `ovs-vswitchd` look at all its ports again, which keeps the
//! pod waiting, the longer the more pods there are. So the host's end changes once after it is made, when all else is
//! done, and there is nothing about it that need not be: no IPv6, and of the flags none left that the switch would set.

use std::fmt::Write as _;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use ipnet::Ipv4Net;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoData, InfoVeth, LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{RouteMessage, RouteMetric, RouteProtocol, RouteScope};
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{SockFlag, SockType, setsockopt, socket, sockopt};
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::{AddressMessageBuilder, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};
use tracing::debug;

use super::super::host::links;
use super::super::netns::{self, NetNs, NetNsError};

mod block_list;
mod netlink;

pub use block_list::BlockList;
pub use flowtables::feature::pods::mac as pod_mac;
use netlink::{Failed, Request};

/// What a pod's sandbox gets.
#[derive(Clone, Debug)]
pub struct SandboxSpec {
    /// The pod's network namespace.
    pub netns: NetNs,
    /// The name of the interface in it, usually `eth0`.
    pub ifname: String,
    /// The name of the other end, on the node; see [`host_veth_name`].
    pub host_veth: String,
    /// The MAC of the interface in the pod; see [`pod_mac`].
    pub mac: [u8; 6],
    /// The MTU of both ends in bytes, 68 to 65535.
    pub mtu: u32,
    /// The pod's address, with the prefix length of the node's subnet.
    pub address: Ipv4Net,
    /// The node's address in its subnet.
    pub gateway: Ipv4Addr,
    /// The pod's routes besides the one to the node's subnet that comes with the address; see [`pod_routes`].
    pub routes: Vec<PodRoute>,
    /// Whether the host's end is read by a datapath in user space, to which the kernel must leave all that comes: the
    /// pod may not leave checksums to be completed by a later device (see [`netns::set_tx_checksum_offload`]), and the
    /// node's own stack answers no ARP.
    pub userspace_datapath: bool,
    /// What the pod may not reach, if anything.
    pub block_list: Option<BlockList>,
    /// The alias that the host's end gets when all else is done, 1 to 255 bytes.
    pub alias: Option<String>,
}

/// A route of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodRoute {
    /// Where to.
    pub dst: Ipv4Net,
    /// By which router; none for what is on the link itself.
    pub via: Option<Ipv4Addr>,
    /// The route's MTU in bytes, if it is less than the interface's.
    pub mtu: Option<u32>,
}

/// What was wired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wired {
    /// The name of the host's end.
    pub host_veth: String,
    /// Its MAC.
    pub host_mac: [u8; 6],
    /// The MAC of the pod's end.
    pub pod_mac: [u8; 6],
    /// The index of the host's end in the node's namespace.
    pub host_ifindex: u32,
}

/// Why a sandbox was not wired.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// A link on the node has the name of the host's end.
    #[error(
        "could not create the veth pair: a link named {name} exists on the node; if it is left from an earlier attempt, a DEL of the container removes it"
    )]
    HostVethExists {
        /// The name.
        name: String,
    },
    /// A link in the pod has the name of its end.
    #[error(
        "could not create the veth pair: the pod has an interface named {name} already; delete it, or choose another name (CNI_IFNAME)"
    )]
    InterfaceExists {
        /// The name.
        name: String,
    },
    /// The gateway is not where the pod could reach it.
    #[error("the gateway {gateway} is not in the subnet of the pod's address {address}")]
    Gateway {
        /// The gateway.
        gateway: Ipv4Addr,
        /// The pod's address.
        address: Ipv4Net,
    },
    /// A step failed.
    #[error("could not {step}: {source}{undo}")]
    Step {
        /// The step, in words.
        step: String,
        /// The kernel's answer.
        source: io::Error,
        /// What could not be undone, with a leading separator; usually empty.
        undo: String,
    },
    /// The pod's namespace could not be entered.
    #[error("{error}{undo}")]
    NetNs {
        /// Why.
        #[source]
        error: NetNsError,
        /// What could not be undone, with a leading separator; usually empty.
        undo: String,
    },
}

impl SandboxError {
    fn step(step: impl Into<String>, source: io::Error) -> SandboxError {
        SandboxError::Step { step: step.into(), source, undo: String::new() }
    }

    fn lost(step: &str) -> SandboxError {
        SandboxError::step(step, io::Error::other("the thread that did it ended without a result"))
    }
}

impl From<NetNsError> for SandboxError {
    fn from(error: NetNsError) -> SandboxError {
        SandboxError::NetNs { error, undo: String::new() }
    }
}

/// The name of the host's end: `veth` and 8 hexadecimal digits that depend on the container and its interface only,
/// so that a repeated call meets the same link.
pub fn host_veth_name(container_id: &str, ifname: &str) -> String {
    // FNV-1a: its result is the same in every build, which the standard library does not promise of its own.
    let hash = container_id
        .bytes()
        .chain([0])
        .chain(ifname.bytes())
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("veth{hash:08x}")
}

/// The routes of a pod: by the node to the outside and to services; on the link, where the pipeline answers and
/// switches, to all pods and to multicast groups.
pub fn pod_routes(
    gateway: Ipv4Addr,
    service_network: Ipv4Net,
    cluster_networks: &[Ipv4Net],
    mtu: Option<u32>,
) -> Vec<PodRoute> {
    let net = |a, b, c, d, prefix| Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix);
    let via = |dst| PodRoute { dst, via: Some(gateway), mtu };
    let on_link = |dst| PodRoute { dst, via: None, mtu };
    let mut routes = vec![via(net(0, 0, 0, 0, 0)), via(service_network)];
    routes.extend(cluster_networks.iter().copied().map(on_link));
    routes.push(on_link(net(224, 0, 0, 0, 4)));
    routes
}

/// Wires a sandbox, or leaves everything as it was. If the future is dropped the wiring still goes on to its end:
/// [`unwire`] removes it.
///
/// # Errors
/// Any [`SandboxError`].
pub async fn wire(spec: &SandboxSpec) -> Result<Wired, SandboxError> {
    let spec = spec.clone();
    let wired = tokio::task::spawn_blocking(move || wire_blocking(&spec));
    wired.await.map_err(|_| SandboxError::lost("wire the sandbox"))?
}

/// As [`wire`], on the calling thread.
///
/// # Errors
/// Any [`SandboxError`].
pub fn wire_blocking(spec: &SandboxSpec) -> Result<Wired, SandboxError> {
    let SandboxSpec { gateway, address, .. } = *spec;
    if !address.contains(&gateway) {
        return Err(SandboxError::Gateway { gateway, address });
    }
    let (wired, pod_ifindex) = create_pair(spec)?;
    let configured = prepare_host_end(spec)
        .and_then(|()| netns::run_in(&spec.netns, || configure_pod(spec, pod_ifindex))?)
        .and_then(|()| bring_up(spec, wired.host_ifindex));
    configured.map_err(|error| {
        let undone = unwire_blocking(&spec.host_veth).err().map(|undo| format!("; and then {undo}"));
        match error {
            SandboxError::Step { step, source, .. } => {
                SandboxError::Step { step, source, undo: undone.unwrap_or_default() }
            }
            SandboxError::NetNs { error, .. } => {
                SandboxError::NetNs { error, undo: undone.unwrap_or_default() }
            }
            other => other,
        }
    })?;
    Ok(wired)
}

/// Brings up the host's end, and says on it that the pod was wired whole: the last step.
fn bring_up(spec: &SandboxSpec, host_ifindex: u32) -> Result<(), SandboxError> {
    super::fault::point("add:wired")
        .map_err(|error| SandboxError::step("wire the sandbox", io::Error::other(error)))?;
    let mut link = LinkUnspec::new_with_index(host_ifindex).up();
    if spec.userspace_datapath {
        // As the switch would set it: that would be one change more.
        link = link.promiscuous(true);
    }
    let mut link = link.build();
    link.attributes.extend(spec.alias.clone().map(LinkAttribute::IfAlias));
    run(vec![route_request(0, RouteNetlinkMessage::SetLink(link))]).map_err(
        |Failed { source, .. }| {
            SandboxError::step(format!("bring up {} and name it", spec.host_veth), source)
        },
    )?;
    Ok(())
}

fn write_alias(mut link: LinkMessage, alias: &str) -> Result<(), SandboxError> {
    link.attributes.push(LinkAttribute::IfAlias(alias.to_owned()));
    run(vec![route_request(0, RouteNetlinkMessage::SetLink(link))])
        .map_err(|Failed { source, .. }| SandboxError::step("name the veth pair", source))?;
    Ok(())
}

/// Names the host's end of a veth pair that is wired already.
///
/// # Errors
/// [`SandboxError::Step`].
pub async fn set_alias(host_veth: &str, alias: Option<String>) -> Result<(), SandboxError> {
    let Some(alias) = alias else { return Ok(()) };
    let link = LinkUnspec::new_with_name(host_veth).build();
    let named = tokio::task::spawn_blocking(move || write_alias(link, &alias));
    named.await.map_err(|_| SandboxError::lost("name the veth pair"))?
}

/// Whether the calling thread's namespace has a link of that name.
///
/// # Errors
/// [`SandboxError::Step`]: it is not known, which is no reason to take a pod for gone.
pub fn link_exists(name: &str) -> Result<bool, SandboxError> {
    Links::open()?.has(name)
}

/// Asks which links there are in the namespace of the thread that has opened it: any number of them, at a fraction of a
/// microsecond each.
pub struct Links(OwnedFd);

impl Links {
    /// # Errors
    /// [`SandboxError::Step`]: there is no socket to be had.
    pub fn open() -> Result<Self, SandboxError> {
        unbound().map(Self).map_err(|errno| SandboxError::step("look for links".to_owned(), errno.into()))
    }

    /// Whether there is a link of that name.
    ///
    /// # Errors
    /// [`SandboxError::Step`]: it is not known.
    pub fn has(&self, name: &str) -> Result<bool, SandboxError> {
        // Of a longer one the kernel takes the beginning.
        if name.is_empty() || name.len() >= libc::IFNAMSIZ {
            return Ok(false);
        }
        // if_nametoindex(3) has the kernel run modprobe(8) twice for a name that is not there, netlink has it wait for the
        // lock on all links, and proc_pid_net(5) adds up the packets of each.
        let bind = |socket: &OwnedFd| setsockopt(socket, sockopt::BindToDevice, &name.into());
        let bound = match bind(&self.0) {
            // Without CAP_NET_RAW a socket is bound only once.
            Err(Errno::EPERM) => unbound().and_then(|socket| bind(&socket)),
            bound => bound,
        };
        match bound {
            Ok(()) => Ok(true),
            Err(Errno::ENODEV) => Ok(false),
            Err(errno) => Err(SandboxError::step(format!("look for the link {name}"), errno.into())),
        }
    }
}

/// A socket by which nothing is sent.
fn unbound() -> nix::Result<OwnedFd> {
    socket(nix::sys::socket::AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
}

/// The alias of a link of the node; none if it has none, or there is no such link.
///
/// # Errors
/// [`SandboxError::Step`]: it is not known.
pub async fn link_alias(name: &str) -> Result<Option<String>, SandboxError> {
    let alias = |attribute| match attribute {
        LinkAttribute::IfAlias(alias) if !alias.is_empty() => Some(alias),
        _ => None,
    };
    Ok(host_link(name).await?.and_then(|link| link.attributes.into_iter().find_map(alias)))
}

/// Whether a link of the node is set up, whatever its other end is; `None` if there is no such link.
///
/// # Errors
/// [`SandboxError::Step`]: it is not known.
pub async fn is_up(name: &str) -> Result<Option<bool>, SandboxError> {
    Ok(host_link(name).await?.map(|link| link.header.flags.contains(LinkFlags::Up)))
}

/// Sets up a link of the node that somebody has set down. Tells whether it was.
///
/// # Errors
/// [`SandboxError::Step`].
pub async fn bring_up_again(name: &str) -> Result<bool, SandboxError> {
    if is_up(name).await? != Some(false) {
        return Ok(false);
    }
    let up = RouteNetlinkMessage::SetLink(LinkUnspec::new_with_name(name).up().build());
    let set = tokio::task::spawn_blocking(move || run(vec![route_request(0, up)])).await;
    set.map_err(|_| SandboxError::lost("bring up a link"))?
        .map_err(|Failed { source, .. }| SandboxError::step(format!("bring up {name}"), source))?;
    Ok(true)
}

/// What the kernel tells of a link of the node.
async fn host_link(name: &str) -> Result<Option<LinkMessage>, SandboxError> {
    // For most there is none, which is known without the lock that the kernel has for links.
    if !link_exists(name)? {
        return Ok(None);
    }
    let link = name.to_owned();
    let asked = tokio::task::spawn_blocking(move || ask_link(get_link(&link))).await;
    match asked.map_err(|_| SandboxError::lost("read a link"))? {
        Ok(link) => Ok(link),
        // It has gone since.
        Err(Failed { source, .. }) if source.raw_os_error() == Some(libc::ENODEV) => Ok(None),
        Err(Failed { source, .. }) => Err(SandboxError::step(format!("read the link {name}"), source)),
    }
}

fn ask_link(request: RouteNetlinkMessage) -> Result<Option<LinkMessage>, Failed> {
    Ok(run(vec![route_request(0, request)])?.into_iter().find_map(|answer| match answer {
        RouteNetlinkMessage::NewLink(link) => Some(link),
        _ => None,
    }))
}

/// The MAC address of a pod's end of a veth pair, by the name of the host's end: what the pod says of itself. None if the
/// link is no such one, or gone.
///
/// # Errors
/// [`SandboxError::Step`]: it is not known.
pub async fn mac_in_pod(host_veth: &str) -> Result<Option<[u8; 6]>, SandboxError> {
    let name = host_veth.to_owned();
    let asked = tokio::task::spawn_blocking(move || mac_of_peer(&name)).await;
    match asked.map_err(|_| SandboxError::lost("ask for the pod's MAC address"))? {
        Ok(mac) => Ok(mac),
        Err(Failed { source, .. }) if source.raw_os_error() == Some(libc::ENODEV) => Ok(None),
        Err(Failed { source, .. }) => {
            Err(SandboxError::step(format!("ask for the MAC address behind {host_veth}"), source))
        }
    }
}

fn mac_of_peer(host_veth: &str) -> Result<Option<[u8; 6]>, Failed> {
    let Some(host) = ask_link(get_link(host_veth))? else { return Ok(None) };
    let peer = host.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Link(index) => Some(*index),
        _ => None,
    });
    // The number that the node's namespace knows the pod's by.
    let namespace = host.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::LinkNetNsId(id) => Some(*id),
        _ => None,
    });
    let (Some(peer), Some(namespace)) = (peer, namespace) else { return Ok(None) };
    let mut there = LinkUnspec::new_with_index(peer).build();
    there.attributes.push(LinkAttribute::IfNetnsId(namespace));
    Ok(ask_link(RouteNetlinkMessage::GetLink(there))?.as_ref().and_then(link_mac))
}

/// Removes a veth pair by the name of the host's end. `false` if there is none. Returns as soon as the pair is gone;
/// a thread waits the 10 to 40 ms longer that the kernel then needs to clean up.
///
/// # Errors
/// [`SandboxError::Step`].
pub async fn unwire(host_veth: &str) -> Result<bool, SandboxError> {
    let name = host_veth.to_owned();
    let unwired = tokio::task::spawn_blocking(move || unwire_blocking(&name));
    unwired.await.map_err(|_| SandboxError::lost("remove the veth pair"))?
}

/// As [`unwire`], on the calling thread.
///
/// # Errors
/// [`SandboxError::Step`].
pub fn unwire_blocking(host_veth: &str) -> Result<bool, SandboxError> {
    // That there is none is known without the lock that the kernel has for links.
    if !link_exists(host_veth)? {
        return Ok(false);
    }
    netlink::delete_link(host_veth)
        .map_err(|source| SandboxError::step(format!("remove the link {host_veth}"), source))
}

/// Writes the block list in a pod's namespace; [`wire`] does it if [`SandboxSpec::block_list`] is set.
///
/// # Errors
/// [`SandboxError::Step`], [`SandboxError::NetNs`].
pub async fn block_list(netns: &NetNs, list: BlockList) -> Result<(), SandboxError> {
    netns::spawn_in(netns, move || install(&list)).await?
}

fn install(list: &BlockList) -> Result<(), SandboxError> {
    list.install().map_err(|source| {
        let table = block_list::TABLE;
        SandboxError::step(
            format!("write the nftables table ip {table} in the pod (does the kernel have nf_tables?)"),
            source,
        )
    })
}

fn route_request(flags: u16, message: RouteNetlinkMessage) -> Request<RouteNetlinkMessage> {
    Request::new(flags, message)
}

fn run(requests: Vec<Request<RouteNetlinkMessage>>) -> Result<Vec<RouteNetlinkMessage>, Failed> {
    netlink::run(NETLINK_ROUTE, requests)
}

/// Makes the pair in the namespaces of the calling thread and of the pod, with both ends down. Gives back the index of
/// the pod's end.
fn create_pair(spec: &SandboxSpec) -> Result<(Wired, u32), SandboxError> {
    let failed = |source| SandboxError::step("create the veth pair", source);
    let peer = LinkMessageBuilder::<LinkUnspec>::new()
        .name(spec.ifname.as_str())
        .address(spec.mac.to_vec())
        .mtu(spec.mtu)
        .setns_by_fd(spec.netns.as_fd().as_raw_fd())
        .build();
    let pair = LinkMessageBuilder::<LinkVeth>::new(&spec.host_veth, &spec.ifname)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .mtu(spec.mtu)
        .build();
    let created = run(vec![
        route_request(NLM_F_CREATE | NLM_F_EXCL, RouteNetlinkMessage::NewLink(pair)),
        route_request(0, get_link(&spec.host_veth)),
    ]);
    let answers = match created {
        Ok(answers) => answers,
        Err(Failed { index: 0, source }) if source.raw_os_error() == Some(libc::EEXIST) => {
            // One answer for both ends; what the node has tells which.
            return Err(match run(vec![route_request(0, get_link(&spec.host_veth))]) {
                Ok(_) => SandboxError::HostVethExists { name: spec.host_veth.clone() },
                Err(_) => SandboxError::InterfaceExists { name: spec.ifname.clone() },
            });
        }
        Err(Failed { source, .. }) => return Err(failed(source)),
    };
    let link = answers.into_iter().find_map(|answer| match answer {
        RouteNetlinkMessage::NewLink(link) => Some(link),
        _ => None,
    });
    let described =
        link.as_ref().and_then(|link| Some((link.header.index, link_mac(link)?, peer_index(link)?)));
    let Some((host_ifindex, host_mac, pod_ifindex)) = described else {
        let _ = unwire_blocking(&spec.host_veth);
        return Err(failed(io::Error::other("the kernel does not tell its indices and MAC")));
    };
    debug!(veth = spec.host_veth, host_ifindex, pod_ifindex, "veth pair created");
    Ok((Wired { host_veth: spec.host_veth.clone(), host_mac, pod_mac: spec.mac, host_ifindex }, pod_ifindex))
}

/// What the host's end must be before it comes up: without IPv6, which would give it addresses and routes.
fn prepare_host_end(spec: &SandboxSpec) -> Result<(), SandboxError> {
    let failed = |what: &str| {
        let step = format!("{what} {}", spec.host_veth);
        move |source| SandboxError::step(step, source)
    };
    links::without_ipv6(&spec.host_veth).map_err(failed("switch off IPv6 on"))?;
    if spec.userspace_datapath {
        links::ignore_arp(&spec.host_veth).map_err(failed("switch off ARP on"))?;
    }
    Ok(())
}

fn get_link(name: &str) -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetLink(LinkUnspec::new_with_name(name).build())
}

fn link_mac(link: &LinkMessage) -> Option<[u8; 6]> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Address(mac) => mac.as_slice().try_into().ok(),
        _ => None,
    })
}

fn peer_index(link: &LinkMessage) -> Option<u32> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Link(index) => Some(*index),
        _ => None,
    })
}

/// Configures the pod's end, and the loopback, in the calling thread's namespace.
fn configure_pod(spec: &SandboxSpec, index: u32) -> Result<(), SandboxError> {
    /// The same in every namespace: the kernel makes the loopback first.
    const LOOPBACK: u32 = 1;
    let ifname = &spec.ifname;
    if spec.userspace_datapath {
        netns::set_tx_checksum_offload(ifname, false).map_err(|source| {
            SandboxError::step(format!("switch off transmit checksum offload of {ifname}"), source)
        })?;
    }
    let up = |index| RouteNetlinkMessage::SetLink(LinkUnspec::new_with_index(index).up().build());
    let address = AddressMessageBuilder::<Ipv4Addr>::new()
        .index(index)
        .address(spec.address.addr(), spec.address.prefix_len())
        .build();
    let mut steps = vec![
        ("bring up the pod's loopback".to_owned(), route_request(0, up(LOOPBACK))),
        (format!("bring up {ifname}"), route_request(0, up(index))),
        (
            format!("add the address {} to {ifname}", spec.address),
            route_request(NLM_F_CREATE | NLM_F_EXCL, RouteNetlinkMessage::NewAddress(address)),
        ),
    ];
    for route in &spec.routes {
        let mut step = format!("add the route to {} on {ifname}", route.dst);
        if let Some(via) = route.via {
            let _ = write!(step, " via {via}");
        }
        let message = RouteNetlinkMessage::NewRoute(route_message(route, index));
        // Without NLM_F_EXCL a route that is there already, as the node's subnet may be, would be added again.
        steps.push((step, route_request(NLM_F_CREATE | NLM_F_EXCL, message)));
    }
    let (names, requests): (Vec<_>, Vec<_>) = steps.into_iter().unzip();
    run(requests).map_err(|Failed { index, source }| {
        let step = names.get(index).map_or("configure the pod", String::as_str);
        SandboxError::step(step, source)
    })?;
    spec.block_list.as_ref().map_or(Ok(()), install)
}

fn route_message(route: &PodRoute, index: u32) -> RouteMessage {
    let mut builder = RouteMessageBuilder::<Ipv4Addr>::new()
        .protocol(RouteProtocol::Boot)
        .destination_prefix(route.dst.network(), route.dst.prefix_len())
        .output_interface(index);
    builder = match route.via {
        Some(via) => builder.gateway(via),
        None => builder.scope(RouteScope::Link),
    };
    let mut message = builder.build();
    if let Some(mtu) = route.mtu {
        let metrics = vec![RouteMetric::Mtu(mtu)];
        message.attributes.push(netlink_packet_route::route::RouteAttribute::Metrics(metrics));
    }
    message
}

#[cfg(test)]
mod tests;
