//! Tells at once when somebody changes what the agent has set up on the node's own network stack: `tun0`, addresses,
//! egress IPs among them, routes, or the nftables table; and when somebody changes another table, which may stop the cluster's traffic.
//!
//! It only says that it is time to look; the agent compares and puts right. Its own changes are reported like any other,
//! and found to be as they shall be.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use futures::StreamExt;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::AddressAttribute;
use netlink_packet_route::link::LinkAttribute;
use netlink_packet_route::route::RouteAttribute;
use nix::libc;
use nix::net::if_::if_nametoindex;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::sys::Socket;
use rtnetlink::sys::protocols::NETLINK_NETFILTER;
use rtnetlink::{MulticastGroup, new_multicast_connection};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{debug, warn};

use super::egress_ips;
use super::firewall::TABLE;

/// Changes mostly come several at a time, as from a reload of a firewall: looking once after them is enough.
const GATHER: Duration = Duration::from_millis(20);

/// Watches until the future is dropped, and notifies of each change, and apart from them of those of others' tables. If the
/// kernel can't be asked it ends, with a warning: everything is looked at periodically as well.
pub async fn watch(tun: String, changed: Arc<Notify>, others: Arc<Notify>) {
    let tables_changed = Arc::clone(&changed);
    // Blocks in the kernel, and ends with the process.
    let started = thread::Builder::new()
        .name("nft-events".into())
        .spawn(move || missed(tables(&tables_changed, &others)));
    if let Err(error) = started {
        missed(Err(error));
    }
    missed(links(tun, changed).await);
}

fn missed(ended: io::Result<()>) {
    if let Err(error) = ended {
        warn!("changes to the node's network show at the next periodic look only: {error}");
    }
}

/// Links, addresses and routes, from rtnetlink(7).
async fn links(tun: String, changed: Arc<Notify>) -> io::Result<()> {
    let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv4Route];
    let (connection, _handle, mut events) = new_multicast_connection(&groups)?;
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    while let Some((message, _)) = events.next().await {
        let NetlinkPayload::InnerMessage(message) = message.payload else { continue };
        let index = if_nametoindex(tun.as_str()).ok();
        let concerns = match &message {
            // Pods' links come and go all the time.
            RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link) => link
                .attributes
                .iter()
                .any(|attribute| matches!(attribute, LinkAttribute::IfName(name) if *name == tun)),
            RouteNetlinkMessage::NewAddress(address) | RouteNetlinkMessage::DelAddress(address) => {
                let is_egress_ip = |attribute: &AddressAttribute| matches!(attribute, AddressAttribute::Label(label) if egress_ips::is_label(label));
                Some(address.header.index) == index || address.attributes.iter().any(is_egress_ip)
            }
            RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route) => route
                .attributes
                .iter()
                .any(|attribute| matches!(attribute, RouteAttribute::Oif(to) if Some(*to) == index)),
            _ => false,
        };
        if concerns {
            sleep(GATHER).await;
            debug!("links, addresses or routes have changed");
            changed.notify_one();
        }
    }
    Ok(())
}

/// Tables of nftables: events of the group `NFNLGRP_NFTABLES` (linux/netfilter/nfnetlink.h), those that name our table apart.
fn tables(changed: &Notify, others: &Notify) -> io::Result<()> {
    const NFNLGRP_NFTABLES: u32 = 7;
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.add_membership(NFNLGRP_NFTABLES)?;
    let name = [TABLE.as_bytes(), &[0]].concat();
    loop {
        let ours = match socket.recv_from_full() {
            Ok((message, _)) => message.windows(name.len()).any(|window| window == name),
            // So many events that some are lost: any of them may have been about our table, or another.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                others.notify_one();
                true
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if ours {
            thread::sleep(GATHER);
            debug!("the nftables table ip {TABLE} has changed");
            changed.notify_one();
        } else {
            others.notify_one();
        }
    }
}
