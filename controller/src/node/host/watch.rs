//! Tells at once when somebody changes what the agent has set up on the node's own network stack: `tun0`, addresses,
//! egress IPs among them, routes, the forwarding of IPv4, or the nftables table; and when somebody changes another table,
//! which may stop the cluster's traffic.
//!
//! It only says that it is time to look; the agent compares and puts right. Its own changes are reported like any other,
//! and found to be as they shall be.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::AddressAttribute;
use netlink_packet_route::link::LinkAttribute;
use netlink_packet_route::route::RouteAttribute;
use nix::libc;
use nix::net::if_::if_nametoindex;
use rtnetlink::packet_core::{NLM_F_REPLACE, NetlinkPayload};
use rtnetlink::sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, TokioSocket};
use rtnetlink::{MulticastGroup, new_multicast_connection};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{debug, warn};

use super::egress_ips;
use super::firewall::TABLE;
use crate::node::cni::sandbox::link_exists;

/// Changes mostly come several at a time, as from a reload of a firewall: looking once after them is enough.
const GATHER: Duration = Duration::from_millis(20);

/// Watches until the future is dropped, and notifies of each change, and apart from them of those of others' tables. If the
/// kernel can't be asked it ends, with a warning: everything is looked at periodically as well.
pub async fn watch(tun: String, changed: Arc<Notify>, others: Arc<Notify>) {
    tokio::join!(
        async { missed(links(tun, &changed).await) },
        async { missed(forwarding(&changed).await) },
        async { missed(tables(&changed, &others).await) },
    );
}

fn missed(ended: io::Result<()>) {
    if let Err(error) = ended {
        warn!("changes to the node's network show at the next periodic look only: {error}");
    }
}

/// Links, addresses and routes, from rtnetlink(7).
async fn links(tun: String, changed: &Notify) -> io::Result<()> {
    let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv4Route];
    let (connection, _handle, mut events) = new_multicast_connection(&groups)?;
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    while let Some((message, _)) = events.next().await {
        // Of a route that another takes the place of nothing else is told.
        let replaces = message.header.flags & NLM_F_REPLACE != 0;
        let is_tun = |index| link_exists(&tun).unwrap_or(true) && if_nametoindex(tun.as_str()) == Ok(index);
        let message = match message.payload {
            NetlinkPayload::InnerMessage(message) => Some(message),
            // So many that some are lost.
            NetlinkPayload::Overrun(_) => None,
            _ => continue,
        };
        let concerns = message.is_none_or(|message| match &message {
            // Pods' links come and go all the time.
            RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link) => link
                .attributes
                .iter()
                .any(|attribute| matches!(attribute, LinkAttribute::IfName(name) if *name == tun)),
            RouteNetlinkMessage::NewAddress(address) | RouteNetlinkMessage::DelAddress(address) => {
                let is_egress_ip = |attribute: &AddressAttribute| matches!(attribute, AddressAttribute::Label(label) if egress_ips::is_label(label));
                is_tun(address.header.index) || address.attributes.iter().any(is_egress_ip)
            }
            RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route) => {
                let mut attributes = route.attributes.iter();
                replaces
                    || attributes.any(|attribute| matches!(attribute, RouteAttribute::Oif(to) if is_tun(*to)))
            }
            _ => false,
        });
        if concerns {
            sleep(GATHER).await;
            // What has come meanwhile is looked at together with it.
            while let Some(Some(_)) = events.next().now_or_never() {}
            debug!("links, addresses or routes have changed");
            changed.notify_one();
        }
    }
    Err(io::Error::other("the kernel's events of links, addresses and routes have ended"))
}

/// The node's setting `ip_forward`, of which rtnetlink(7) tells as of the configuration of all links at once
/// (linux/netconf.h).
async fn forwarding(changed: &Notify) -> io::Result<()> {
    const NETCONFA_IFINDEX: u16 = 1;
    const NETCONFA_IFINDEX_ALL: i32 = -1;
    let mut of_all = [0; 8];
    of_all[..2].copy_from_slice(&8_u16.to_ne_bytes());
    of_all[2..4].copy_from_slice(&NETCONFA_IFINDEX.to_ne_bytes());
    of_all[4..].copy_from_slice(&NETCONFA_IFINDEX_ALL.to_ne_bytes());
    let events = Events::of(NETLINK_ROUTE, MulticastGroup::Ipv4Netconf as u32)?;
    loop {
        // Each link has a configuration too, and pods' links come and go all the time.
        if events.next().await?.is_none_or(|message| contains(&message, &of_all)) {
            events.gather().await;
            debug!("IPv4 settings of the node have changed");
            changed.notify_one();
        }
    }
}

/// Tables of nftables: events of the group `NFNLGRP_NFTABLES` (linux/netfilter/nfnetlink.h), those that name our table apart.
async fn tables(changed: &Notify, others: &Notify) -> io::Result<()> {
    const NFNLGRP_NFTABLES: u32 = 7;
    let events = Events::of(NETLINK_NETFILTER, NFNLGRP_NFTABLES)?;
    let name = [TABLE.as_bytes(), &[0]].concat();
    loop {
        let message = events.next().await?;
        let ours = message.map(|message| contains(&message, &name));
        // Of those that are lost any may have been about our table, or another.
        if ours != Some(true) {
            others.notify_one();
        }
        if ours != Some(false) {
            events.gather().await;
            // Among those that came meanwhile.
            others.notify_one();
            debug!("the nftables table ip {TABLE} has changed");
            changed.notify_one();
        }
    }
}

fn contains(message: &[u8], part: &[u8]) -> bool {
    message.windows(part.len()).any(|window| window == part)
}

/// What the kernel tells a group of listeners, for messages that no library reads.
struct Events(TokioSocket);

impl Events {
    fn of(protocol: isize, group: u32) -> io::Result<Self> {
        let mut socket = TokioSocket::new(protocol)?;
        socket.socket_mut().bind_auto()?;
        socket.socket_mut().add_membership(group)?;
        Ok(Self(socket))
    }

    /// Waits for a moment, and passes over what comes meanwhile.
    async fn gather(&self) {
        sleep(GATHER).await;
        while self.next().now_or_never().is_some_and(|more| more.is_ok()) {}
    }

    /// The next message, or nothing if there were so many that some are lost.
    async fn next(&self) -> io::Result<Option<Vec<u8>>> {
        loop {
            match self.0.recv_from_full().await {
                Ok((message, _)) => return Ok(Some(message)),
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
