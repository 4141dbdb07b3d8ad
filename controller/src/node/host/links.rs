//! `tun0`, its address and routes, and what else of the node's links the pod network depends on.
//!
//! Pods reach the node, and the node the pods, through `tun0`: an internal port of the bridge that Open vSwitch
//! makes. Its address is the first of the node's subnet. The route to all pods of the cluster goes over it; the
//! narrower one that the kernel would add for the node's own subnet must not exist, so that all traffic to pods has
//! the same path and source address.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use futures::channel::mpsc::UnboundedReceiver;
use futures::{StreamExt, TryStreamExt};
use ipnet::Ipv4Net;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::libc;
use rtnetlink::packet_core::NetlinkMessage;
use rtnetlink::sys::SocketAddr;
use rtnetlink::{
    AddressMessageBuilder, Handle, LinkUnspec, MulticastGroup, RouteMessageBuilder, new_multicast_connection,
};
use tokio::time::{Instant, timeout_at};

const IP_FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

/// What `tun0` shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tun0Spec {
    /// The link's name.
    pub name: String,
    /// Its only IPv4 address: the node's in its subnet, with the subnet's prefix length.
    pub address: Ipv4Net,
    /// Its MTU in bytes.
    pub mtu: u16,
    /// Its only IPv4 routes in the main table.
    pub routes: Vec<HostRoute>,
}

/// A route of the node over `tun0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostRoute {
    /// Where to.
    pub dst: Ipv4Net,
    /// Whether the destination is on the link itself, as pods are, or anywhere, as services are.
    pub scope_link: bool,
}

impl HostRoute {
    fn scope(self) -> RouteScope {
        if self.scope_link { RouteScope::Link } else { RouteScope::Universe }
    }
}

/// Why the node's links could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Open vSwitch has not made the link.
    #[error(
        "there is no link {name}, {} s after the port was added to the bridge: is ovs-vswitchd running? Its log, and \
         the column `error` of the Interface in OVSDB, say why it did not make it",
        within.as_secs()
    )]
    Missing {
        /// The link.
        name: String,
        /// How long it was waited for.
        within: Duration,
    },
    /// A destination is routed elsewhere.
    #[error(
        "there is a route to {dst} over another link than {name}: the cluster's networks must not be used elsewhere on \
         this node; remove it (ip route delete {dst}), or change the ClusterNetwork"
    )]
    RoutedElsewhere {
        /// The destination.
        dst: Ipv4Net,
        /// The link it shall be routed over.
        name: String,
    },
    /// Forwarding is off and can't be switched on.
    #[error(
        "IPv4 forwarding is off, and {IP_FORWARD} can't be written: {0}; set net.ipv4.ip_forward=1 on the node"
    )]
    Forwarding(#[source] io::Error),
    /// The kernel refused a step.
    #[error("could not {step}: {source}")]
    Step {
        /// The step, in words.
        step: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// Makes `tun0` and IPv4 forwarding as they shall be; waits so long for the link if it isn't there yet. Gives back what
/// was changed, in words, in order; nothing if nothing was.
///
/// Can be dropped at any time; the next call goes on where it was.
///
/// # Errors
/// Any [`LinkError`].
pub async fn ensure(spec: &Tun0Spec, within: Duration) -> Result<Vec<String>, LinkError> {
    let (connection, netlink, mut events) =
        new_multicast_connection(&[MulticastGroup::Link]).map_err(open_error)?;
    let work = async {
        let link = appeared(&netlink, &mut events, &spec.name, within).await?;
        let mut tun0 = Link { netlink, index: link.header.index, spec, changes: Vec::new() };
        tun0.link(&link).await?;
        tun0.address().await?;
        tun0.routes().await?;
        let mut changes = tun0.changes;
        changes.extend(forwarding()?);
        Ok(changes)
    };
    beside(connection, work).await
}

/// Does what asks the kernel over this connection. Both are one task: between two, each request and each answer would wake
/// another thread.
///
/// # Errors
/// Those of the work; [`LinkError::Step`] if the connection ends before it, which would look like an empty answer.
pub(super) async fn beside<T>(
    connection: impl Future<Output = ()>,
    work: impl Future<Output = Result<T, LinkError>>,
) -> Result<T, LinkError> {
    tokio::select! {
        done = work => done,
        () = connection => Err(LinkError::Step {
            step: "ask the kernel about links and addresses".to_owned(),
            source: io::ErrorKind::ConnectionAborted.into(),
        }),
    }
}

/// The link of that name, as soon as there is one.
async fn appeared(
    netlink: &Handle,
    events: &mut UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>,
    name: &str,
    within: Duration,
) -> Result<LinkMessage, LinkError> {
    let deadline = Instant::now() + within;
    loop {
        // Asked only now, after the events are subscribed to: a link made in between is not missed.
        match netlink.link().get().match_name(name.to_owned()).execute().try_next().await {
            Ok(Some(link)) => return Ok(link),
            Ok(None) => {}
            Err(error) if errno(&error) == Some(libc::ENODEV) => {}
            Err(error) => return Err(step(format!("look for the link {name}"), error)),
        }
        let missing = || LinkError::Missing { name: name.to_owned(), within };
        timeout_at(deadline, events.next()).await.map_err(|_| missing())?.ok_or_else(missing)?;
    }
}

struct Link<'a> {
    netlink: Handle,
    index: u32,
    spec: &'a Tun0Spec,
    changes: Vec<String>,
}

impl Link<'_> {
    async fn link(&mut self, link: &LinkMessage) -> Result<(), LinkError> {
        let (name, mtu) = (&self.spec.name, u32::from(self.spec.mtu));
        let was = link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Mtu(mtu) => Some(*mtu),
            _ => None,
        });
        if was != Some(mtu) {
            let change = LinkUnspec::new_with_index(self.index).mtu(mtu).build();
            self.netlink
                .link()
                .set(change)
                .execute()
                .await
                .map_err(|error| step(format!("set the MTU of {name} to {mtu}"), error))?;
            self.changes.push(format!("{name}: MTU {mtu} instead of {}", was.unwrap_or_default()));
        }
        if !link.header.flags.contains(LinkFlags::Up) {
            let change = LinkUnspec::new_with_index(self.index).up().build();
            let up = self.netlink.link().set(change).execute().await;
            up.map_err(|error| step(format!("bring up {name}"), error))?;
            self.changes.push(format!("{name}: up"));
        }
        Ok(())
    }

    async fn address(&mut self) -> Result<(), LinkError> {
        let (name, wanted) = (&self.spec.name, self.spec.address);
        let (mut present, stale): (Vec<_>, Vec<_>) =
            self.addresses().await?.into_iter().partition(|address| network(address) == Some(wanted));
        // Before the right one is added: the kernel removes an address together with the older one of its subnet.
        let any_stale = !stale.is_empty();
        for address in stale {
            let shown =
                network(&address).map_or_else(|| "an address".to_owned(), |address| address.to_string());
            let removed = self.netlink.address().del(address).execute().await;
            match removed {
                Ok(()) => self.changes.push(format!("{name}: address {shown} removed")),
                Err(error) if errno(&error) == Some(libc::EADDRNOTAVAIL) => {}
                Err(error) => return Err(step(format!("remove the address {shown} of {name}"), error)),
            }
        }
        if any_stale {
            present = self.addresses().await?;
            present.retain(|address| network(address) == Some(wanted));
        }
        if present.is_empty() {
            let mut message = AddressMessageBuilder::<Ipv4Addr>::new()
                .index(self.index)
                .address(wanted.addr(), wanted.prefix_len())
                .build();
            // The kernel shall not add the route to the node's own subnet.
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Noprefixroute));
            let mut add = self.netlink.address().add(self.index, wanted.addr().into(), wanted.prefix_len());
            *add.message_mut() = message;
            add.execute()
                .await
                .map_err(|error| step(format!("add the address {wanted} to {name}"), error))?;
            self.changes.push(format!("{name}: address {wanted} added"));
        }
        Ok(())
    }

    async fn addresses(&self) -> Result<Vec<AddressMessage>, LinkError> {
        let mut all = addresses(&self.netlink).await?;
        all.retain(|address| address.header.index == self.index);
        Ok(all)
    }

    async fn routes(&mut self) -> Result<(), LinkError> {
        let name = &self.spec.name;
        let mut missing: BTreeMap<Ipv4Net, HostRoute> =
            self.spec.routes.iter().map(|route| (route.dst.trunc(), *route)).collect();
        for route in self.routes_over_it().await? {
            let dst = destination(&route);
            if missing.get(&dst).is_some_and(|wanted| is_as(&route, *wanted)) {
                missing.remove(&dst);
                continue;
            }
            match self.netlink.route().del(route).execute().await {
                Ok(()) => self.changes.push(format!("{name}: route to {dst} removed")),
                // Gone meanwhile, with an address or a link that went down.
                Err(error) if errno(&error) == Some(libc::ESRCH) => {}
                Err(error) => return Err(step(format!("remove the route to {dst} over {name}"), error)),
            }
        }
        for (dst, route) in missing {
            let message = RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(dst.addr(), dst.prefix_len())
                .output_interface(self.index)
                .scope(route.scope())
                .build();
            match self.netlink.route().add(message).execute().await {
                Ok(()) => self.changes.push(format!("{name}: route to {dst} added")),
                Err(error) if errno(&error) == Some(libc::EEXIST) => {
                    return Err(LinkError::RoutedElsewhere { dst, name: name.clone() });
                }
                Err(error) => return Err(step(format!("add the route to {dst} over {name}"), error)),
            }
        }
        Ok(())
    }

    /// The unicast routes of the main table over this link.
    async fn routes_over_it(&self) -> Result<Vec<RouteMessage>, LinkError> {
        let any = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let all: Vec<RouteMessage> = self
            .netlink
            .route()
            .get(any)
            .execute()
            .try_collect()
            .await
            .map_err(|error| step(format!("list the routes over {}", self.spec.name), error))?;
        let over_it = |route: &RouteMessage| {
            route.header.table == RouteHeader::RT_TABLE_MAIN
                && route.header.kind == RouteType::Unicast
                && route.attributes.contains(&RouteAttribute::Oif(self.index))
        };
        Ok(all.into_iter().filter(over_it).collect())
    }
}

/// An address message's address with its prefix length.
pub(super) fn network(address: &AddressMessage) -> Option<Ipv4Net> {
    // `Local` is the interface's own address; `Address` is the other end's on a point-to-point link.
    let local = address.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(IpAddr::V4(address)) => Some(*address),
        _ => None,
    });
    Ipv4Net::new(local?, address.header.prefix_len).ok()
}

fn destination(route: &RouteMessage) -> Ipv4Net {
    let address = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(*address),
        _ => None,
    });
    Ipv4Net::new(address.unwrap_or(Ipv4Addr::UNSPECIFIED), route.header.destination_prefix_length)
        .unwrap_or_default()
}

fn is_as(route: &RouteMessage, wanted: HostRoute) -> bool {
    let plain = |attribute: &RouteAttribute| {
        !matches!(
            attribute,
            RouteAttribute::Gateway(_) | RouteAttribute::Priority(_) | RouteAttribute::Metrics(_)
        )
    };
    route.header.scope == wanted.scope() && route.header.tos == 0 && route.attributes.iter().all(plain)
}

/// Switches IPv4 forwarding on. Tells whether it was off.
fn forwarding() -> Result<Option<String>, LinkError> {
    let now = std::fs::read_to_string(IP_FORWARD).map_err(LinkError::Forwarding)?;
    if now.trim() != "0" {
        return Ok(None);
    }
    std::fs::write(IP_FORWARD, "1").map_err(LinkError::Forwarding)?;
    Ok(Some("IPv4 forwarding switched on".to_owned()))
}

/// A network that the node is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalNetwork {
    /// The link that it is on.
    pub link: String,
    /// The network.
    pub network: Ipv4Net,
}

/// A network of the node that is also one of the cluster's: addresses in both can't be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The node's.
    pub local: LocalNetwork,
    /// The cluster's.
    pub cluster: Ipv4Net,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LocalNetwork { link, network } = &self.local;
        write!(
            f,
            "the network {network} on {link} overlaps with the cluster's {}: addresses in both can't be reached; give \
             the ClusterNetwork, or {link}, another network",
            self.cluster
        )
    }
}

/// Which of the node's networks overlap with the cluster's, cluster and service networks alike.
pub fn conflicts(local: &[LocalNetwork], cluster: &[Ipv4Net]) -> Vec<Conflict> {
    let overlap = |a: &Ipv4Net, b: &Ipv4Net| a.contains(b) || b.contains(a);
    let of_one = |local: &LocalNetwork| {
        let overlapping = cluster.iter().filter(|cluster| overlap(cluster, &local.network));
        overlapping.map(|cluster| Conflict { local: local.clone(), cluster: *cluster }).collect::<Vec<_>>()
    };
    local.iter().flat_map(of_one).collect()
}

/// The IPv4 networks of the node's links, but loopback and the named one.
///
/// # Errors
/// [`LinkError::Step`].
pub async fn local_networks(but: &str) -> Result<Vec<LocalNetwork>, LinkError> {
    let (connection, netlink, _) = rtnetlink::new_connection().map_err(open_error)?;
    let work = async {
        let mut networks = Vec::new();
        // Not all links: each pod has one, and none of those an address.
        let mut names: BTreeMap<u32, Option<String>> = BTreeMap::new();
        for address in addresses(&netlink).await? {
            let index = address.header.index;
            let name = match names.entry(index) {
                Entry::Occupied(known) => known.get().clone(),
                Entry::Vacant(new) => new.insert(name_but_of_loopback(&netlink, index).await?).clone(),
            };
            if let (Some(link), Some(network)) = (name.filter(|name| name != but), network(&address)) {
                networks.push(LocalNetwork { link, network: network.trunc() });
            }
        }
        Ok(networks)
    };
    beside(connection, work).await
}

/// The name of a link; none if it is a loopback, or gone.
async fn name_but_of_loopback(netlink: &Handle, index: u32) -> Result<Option<String>, LinkError> {
    match netlink.link().get().match_index(index).execute().try_next().await {
        Ok(link) => Ok(link
            .filter(|link| !link.header.flags.contains(LinkFlags::Loopback))
            .and_then(|link| link_name(&link))),
        Err(error) if errno(&error) == Some(libc::ENODEV) => Ok(None),
        Err(error) => Err(step(format!("ask for the name of the link number {index}"), error)),
    }
}

fn link_name(link: &LinkMessage) -> Option<String> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })
}

pub(super) fn open_error(source: io::Error) -> LinkError {
    LinkError::Step { step: "open a netlink socket".to_owned(), source }
}

pub(super) fn errno(error: &rtnetlink::Error) -> Option<i32> {
    match error {
        rtnetlink::Error::NetlinkError(error) => error.to_io().raw_os_error(),
        _ => None,
    }
}

/// The node's IPv4 addresses, on whatever link.
pub(super) async fn addresses(netlink: &Handle) -> Result<Vec<AddressMessage>, LinkError> {
    let mut get = netlink.address().get();
    // Each pod's link has one of IPv6.
    get.message_mut().header.family = AddressFamily::Inet;
    get.execute().try_collect().await.map_err(|error| step("list the node's addresses".to_owned(), error))
}

pub(super) fn step(step: String, error: rtnetlink::Error) -> LinkError {
    let source = match error {
        rtnetlink::Error::NetlinkError(error) => error.to_io(),
        other => io::Error::other(other),
    };
    LinkError::Step { step, source }
}

/// Keeps the kernel from answering ARP on a link whose packets belong to a datapath in user space: the kernel sees
/// a copy of each, and would claim the node's own addresses for the link.
///
/// # Errors
/// The link is not there, or its settings can't be written.
pub fn ignore_arp(link: &str) -> io::Result<()> {
    // Documentation/networking/ip-sysctl.rst, arp_ignore: 8 does not reply for any local address.
    std::fs::write(format!("/proc/sys/net/ipv4/conf/{link}/arp_ignore"), "8")
}

/// Switches IPv6 off on a link that is down, before it would get an address of its own. Nothing to do where the kernel
/// has no IPv6.
///
/// # Errors
/// The settings can't be written.
pub fn without_ipv6(link: &str) -> io::Result<()> {
    match std::fs::write(format!("/proc/sys/net/ipv6/conf/{link}/disable_ipv6"), "1") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        written => written,
    }
}

#[cfg(test)]
mod tests;
