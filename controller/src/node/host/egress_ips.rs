//! The egress IPs that the node hosts: addresses beside its own, on the same link and in the same network.
//!
//! The label `LINK:eip` says which addresses are ours, as it did in the replaced system: those and no others are removed
//! when the node does not host them any more, whoever added them and however long ago. Neighbours are told where an
//! address is by two announcements (RFC 5227 §2.3): it was on another node a moment ago.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::time::Duration;

use ipnet::Ipv4Net;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use nix::ifaddrs::getifaddrs;
use nix::libc;
use nix::net::if_::if_indextoname;
use nix::sys::socket::{self, LinkAddr, MsgFlags, SockFlag, SockType, sendto};
use rtnetlink::{AddressMessageBuilder, Handle};
use tokio::time::sleep;
use tracing::warn;

use super::links::{LinkError, addresses, beside, errno, network, open_error, step};

/// `IFNAMSIZ` of linux/if.h without the zero at the end: also how long a label can be.
const LABEL_LENGTH: usize = 15;
const SUFFIX: &str = ":eip";
/// The label on links whose name leaves no room for the suffix.
const SHORT: &str = "eip";
/// RFC 5227 §1.1, `ANNOUNCE_INTERVAL`.
const ANNOUNCE_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// What came of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Placed {
    /// What was changed, in words.
    pub changes: Vec<String>,
    /// The addresses that the node can't have, and why.
    pub refused: Vec<(Ipv4Addr, String)>,
}

/// Whether an address with this label is an egress IP.
pub fn is_label(label: &str) -> bool {
    label.ends_with(SUFFIX) || label == SHORT
}

fn label(link: &str) -> String {
    let label = format!("{link}{SUFFIX}");
    if label.len() <= LABEL_LENGTH { label } else { SHORT.to_owned() }
}

/// Makes the egress IPs of a node be those that are wanted.
///
/// # Errors
/// The kernel can't be asked. What it refuses of one address is in the result.
pub async fn ensure(node_ip: Ipv4Addr, wanted: &BTreeSet<Ipv4Addr>) -> Result<Placed, LinkError> {
    let (connection, netlink, _) = rtnetlink::new_connection().map_err(open_error)?;
    beside(connection, place_all(&netlink, node_ip, wanted)).await
}

async fn place_all(
    netlink: &Handle,
    node_ip: Ipv4Addr,
    wanted: &BTreeSet<Ipv4Addr>,
) -> Result<Placed, LinkError> {
    let present = addresses(netlink).await?;
    let mut placed = Placed::default();
    let of_node = |address: &AddressMessage| network(address).filter(|net| net.addr() == node_ip);
    let link = present.iter().find_map(|address| Some((address.header.index, of_node(address)?)));
    for address in &present {
        let Some(net) = network(address).filter(|_| is_ours(address)) else { continue };
        let stays = link.is_some_and(|(index, _)| index == address.header.index);
        if wanted.contains(&net.addr()) && stays {
            continue;
        }
        match netlink.address().del(address.clone()).execute().await {
            Ok(()) => placed.changes.push(format!("egress IP {} removed", net.addr())),
            // It went with another one.
            Err(error) if errno(&error) == Some(libc::EADDRNOTAVAIL) => {}
            Err(error) => return Err(step(format!("remove the egress IP {net}"), error)),
        }
    }
    // The kernel removes an address together with an older one of its subnet.
    let present: BTreeSet<Ipv4Addr> = match placed.changes.is_empty() {
        true => present.iter().filter_map(network).map(|net| net.addr()).collect(),
        false => addresses(netlink).await?.iter().filter_map(network).map(|net| net.addr()).collect(),
    };
    let mut added = Vec::new();
    for ip in wanted {
        match place(netlink, *ip, node_ip, link, &present).await {
            Ok(None) => {}
            Ok(Some(change)) => {
                placed.changes.push(change);
                added.push(*ip);
            }
            Err(reason) => placed.refused.push((*ip, reason)),
        }
    }
    if let Some((index, _)) = link.filter(|_| !added.is_empty()) {
        announce(index, added);
    }
    Ok(placed)
}

/// Adds one address, if it is not there; says so, or why it can't be.
async fn place(
    netlink: &Handle,
    ip: Ipv4Addr,
    node_ip: Ipv4Addr,
    link: Option<(u32, Ipv4Net)>,
    present: &BTreeSet<Ipv4Addr>,
) -> Result<Option<String>, String> {
    if ip == node_ip {
        return Err("is the node's own address: give the namespace another one".to_owned());
    }
    let (index, net) =
        link.ok_or_else(|| format!("can't be hosted: no link of the node has its address {node_ip}"))?;
    let name = link_name(index).map_err(|error| error.to_string())?;
    if !net.contains(&ip) {
        let net = net.trunc();
        return Err(format!("is not in the network {net} of {name}, where the node has its address"));
    }
    if present.contains(&ip) {
        return Ok(None);
    }
    let mut message =
        AddressMessageBuilder::<Ipv4Addr>::new().index(index).address(ip, net.prefix_len()).build();
    message.attributes.push(AddressAttribute::Label(label(&name)));
    let mut add = netlink.address().add(index, ip.into(), net.prefix_len());
    *add.message_mut() = message;
    add.execute().await.map_err(|error| step(format!("add the address to {name}"), error).to_string())?;
    Ok(Some(format!("egress IP {ip} added to {name}")))
}

fn is_ours(address: &AddressMessage) -> bool {
    let is_label =
        |attribute: &AddressAttribute| matches!(attribute, AddressAttribute::Label(label) if is_label(label));
    address.attributes.iter().any(is_label)
}

fn link_name(index: u32) -> io::Result<String> {
    let name = if_indextoname(index)?;
    Ok(name.to_string_lossy().into_owned())
}

/// Tells the neighbours, now and once more: switches and hosts that were busy with the move may have missed it.
fn announce(index: u32, ips: Vec<Ipv4Addr>) {
    tokio::spawn(async move {
        for pause in [Duration::ZERO, ANNOUNCE_AGAIN_AFTER] {
            sleep(pause).await;
            for ip in &ips {
                if let Err(error) = announce_once(index, *ip) {
                    warn!(%ip, "could not tell the neighbours of the egress IP: {error}");
                }
            }
        }
    });
}

fn announce_once(index: u32, ip: Ipv4Addr) -> io::Result<()> {
    let packets = socket::socket(
        socket::AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        None,
    )?;
    let link = link_address(index)?;
    let mac = link.addr().ok_or_else(|| io::Error::other("the link has no Ethernet address"))?;
    sendto(packets.as_raw_fd(), &announcement(mac, ip), &link, MsgFlags::empty())?;
    Ok(())
}

/// The link as packet(7) addresses it.
fn link_address(index: u32) -> io::Result<LinkAddr> {
    let found = getifaddrs()?
        .filter_map(|found| found.address.and_then(|address| address.as_link_addr().copied()))
        .find(|link| u32::try_from(link.ifindex()) == Ok(index));
    found.ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// An Ethernet frame to all: an ARP request (RFC 826) in which sender and target are the same (RFC 5227 §2.3).
fn announcement(mac: [u8; 6], ip: Ipv4Addr) -> Vec<u8> {
    const ALL: [u8; 6] = [0xff; 6];
    const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
    // Hardware type Ethernet, protocol type IPv4, lengths of their addresses, operation "request".
    const REQUEST: [u8; 8] = [0, 1, 0x08, 0, 6, 4, 0, 1];
    let ip = ip.octets();
    [&ALL[..], &mac, &ETHERTYPE_ARP, &REQUEST, &mac, &ip, &[0; 6], &ip].concat()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::node::netns::testing::{Namespace, says};

    const NODE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

    fn set(ips: &[&str]) -> BTreeSet<Ipv4Addr> {
        ips.iter().map(|ip| ip.parse().unwrap()).collect()
    }

    /// A node with its address, and a host beside it that knows the node's neighbours.
    fn node_and_neighbour(test: &str, link: &str) -> [Namespace; 2] {
        let [node, neighbour] = ["n", "b"].map(|end| Namespace::new(&format!("{test}-{end}")));
        node.says(&format!("ip link add name {link} type veth peer name eth0 netns {}", neighbour.name));
        node.says(&format!("ip address add {NODE}/24 dev {link}"));
        neighbour.says("ip address add 192.0.2.2/24 dev eth0");
        node.says(&format!("ip link set {link} up"));
        neighbour.says("ip link set eth0 up");
        [node, neighbour]
    }

    fn labelled() -> Vec<String> {
        let shown = says("ip -o -4 address show");
        let ours = shown.lines().filter(|line| line.contains("eip"));
        ours.map(|line| line.split_whitespace().nth(3).unwrap().to_owned()).collect()
    }

    #[test]
    fn come_and_go_and_only_ours_go() {
        let [node, _neighbour] = node_and_neighbour("eip", "eth0");
        node.block_on(|| async {
            // Of the replaced system, or of an earlier run; and an administrator's.
            says("ip address add 192.0.2.9/24 dev eth0 label eth0:eip");
            says("ip address add 192.0.2.50/24 dev eth0");
            let wanted = set(&["192.0.2.10", "192.0.2.11"]);
            let placed = ensure(NODE, &wanted).await.unwrap();
            assert_eq!(
                placed.changes,
                [
                    "egress IP 192.0.2.9 removed",
                    "egress IP 192.0.2.10 added to eth0",
                    "egress IP 192.0.2.11 added to eth0",
                ]
            );
            assert_eq!(ensure(NODE, &wanted).await.unwrap(), Placed::default());
            assert_eq!(labelled(), ["192.0.2.10/24", "192.0.2.11/24"]);
            // NetworkManager and its like flush addresses.
            says("ip address del 192.0.2.11/24 dev eth0");
            assert_eq!(ensure(NODE, &wanted).await.unwrap().changes, ["egress IP 192.0.2.11 added to eth0"]);
            assert_eq!(ensure(NODE, &set(&[])).await.unwrap().changes.len(), 2);
            assert_eq!(labelled(), [""; 0]);
            let left = says("ip -o -4 address show eth0");
            assert!(left.contains("192.0.2.1/24") && left.contains("192.0.2.50/24"), "{left}");
        });
    }

    #[test]
    fn what_the_node_cannot_have_is_refused_and_the_rest_placed() {
        let [node, _neighbour] = node_and_neighbour("eiprefused", "eth0");
        node.block_on(|| async {
            let wanted = set(&["192.0.2.1", "198.51.100.7", "192.0.2.7"]);
            let placed = ensure(NODE, &wanted).await.unwrap();
            assert_eq!(placed.changes, ["egress IP 192.0.2.7 added to eth0"]);
            let reasons: Vec<String> =
                placed.refused.iter().map(|(ip, reason)| format!("{ip} {reason}")).collect();
            assert_eq!(
                reasons,
                [
                    "192.0.2.1 is the node's own address: give the namespace another one",
                    "198.51.100.7 is not in the network 192.0.2.0/24 of eth0, where the node has its address",
                ]
            );
            let elsewhere = ensure("203.0.113.1".parse().unwrap(), &set(&["203.0.113.2"])).await.unwrap();
            assert!(elsewhere.refused.first().unwrap().1.contains("no link of the node has its address"));
            assert_eq!(elsewhere.changes, ["egress IP 192.0.2.7 removed"], "the node's address has moved");
        });
    }

    #[test]
    fn a_long_name_leaves_room_for_a_short_label() {
        let [node, _neighbour] = node_and_neighbour("eiplong", "a-long-name0");
        node.block_on(|| async {
            ensure(NODE, &set(&["192.0.2.7"])).await.unwrap();
            assert_eq!(labelled(), ["192.0.2.7/24"]);
            assert_eq!(ensure(NODE, &set(&[])).await.unwrap().changes, ["egress IP 192.0.2.7 removed"]);
        });
    }

    /// A neighbour that had the address at another MAC has it at the node's without asking.
    #[test]
    fn neighbours_are_told() {
        let [node, neighbour] = node_and_neighbour("eiptold", "eth0");
        let entry = || neighbour.says("ip neighbour show 192.0.2.7");
        neighbour.says("ip neighbour add 192.0.2.7 lladdr 02:00:00:00:00:99 dev eth0 nud stale");
        let link = node.says("ip -o link show eth0");
        let mac = link.split("link/ether ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
        node.block_on(|| async move {
            ensure(NODE, &set(&["192.0.2.7"])).await.unwrap();
            let told = async {
                while !entry().contains(&mac) {
                    sleep(Duration::from_millis(10)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(30), told).await.unwrap();
        });
    }
}
