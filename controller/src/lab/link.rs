//! [`Links`]: links, addresses and routes of one namespace of a lab.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use futures::TryStreamExt;
use netlink_packet_route::link::{InfoData, InfoVeth};
use rtnetlink::{Handle, LinkBridge, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::LabError;
use super::bridge::BR_PHY;
use super::process::Launch;
use crate::node::netns::{self, NetNs};

/// A namespace with a name, and a netlink socket inside it.
#[derive(Debug)]
pub(super) struct Links {
    name: String,
    ns: NetNs,
    handle: Handle,
}

impl Links {
    /// Makes the namespace, and sets its loopback up.
    ///
    /// # Errors
    /// [`LabError::NetNs`], [`LabError::Link`].
    pub(super) async fn create(name: &str) -> Result<Self, LabError> {
        let links = Self::of(name, NetNs::create_named(name)?)?;
        without_ipv6(&links.ns).await?;
        links.set_up("lo").await?;
        Ok(links)
    }

    fn of(name: &str, ns: NetNs) -> Result<Self, LabError> {
        let handle = netns::netlink_in(&ns)?;
        Ok(Self { name: name.to_owned(), ns, handle })
    }

    /// The namespace.
    pub(super) fn netns(&self) -> &NetNs {
        &self.ns
    }

    /// Makes a bridge that is up.
    ///
    /// # Errors
    /// [`LabError::Link`].
    pub(super) async fn add_bridge(&self, link: &str) -> Result<(), LabError> {
        let message = LinkBridge::new(link).build();
        self.done(format!("make bridge {link}"), self.handle.link().add(message).execute().await)
    }

    /// Makes a veth pair: `link` here, `peer` in another namespace. Neither is up.
    ///
    /// # Errors
    /// [`LabError::Link`].
    pub(super) async fn add_veth(&self, link: &str, peer: &str, peer_in: &Self) -> Result<(), LabError> {
        let there = LinkUnspec::new_with_name(peer).setns_by_fd(peer_in.ns.as_fd().as_raw_fd()).build();
        let message = LinkVeth::new(link, peer).set_info_data(InfoData::Veth(InfoVeth::Peer(there))).build();
        self.done(format!("make veth {link}"), self.handle.link().add(message).execute().await)
    }

    /// Makes a link a port of a bridge, and sets it up.
    ///
    /// # Errors
    /// [`LabError::Link`], [`LabError::NoLink`].
    pub(super) async fn enslave(&self, link: &str, bridge: &str) -> Result<(), LabError> {
        let bridge = self.index(bridge).await?;
        let message = LinkUnspec::new_with_index(self.index(link).await?).controller(bridge).up().build();
        self.done(format!("make {link} a port"), self.handle.link().set(message).execute().await)
    }

    /// Sets a link up.
    ///
    /// # Errors
    /// [`LabError::Link`], [`LabError::NoLink`].
    pub(super) async fn set_up(&self, link: &str) -> Result<(), LabError> {
        let message = LinkUnspec::new_with_index(self.index(link).await?).up().build();
        self.done(format!("set {link} up"), self.handle.link().set(message).execute().await)
    }

    /// Gives a link an address.
    ///
    /// # Errors
    /// [`LabError::Link`], [`LabError::NoLink`].
    pub(super) async fn add_address(
        &self,
        link: &str,
        address: Ipv4Addr,
        prefix: u8,
    ) -> Result<(), LabError> {
        let index = self.index(link).await?;
        let request = self.handle.address().add(index, IpAddr::V4(address), prefix);
        self.done(format!("give {link} the address {address}/{prefix}"), request.execute().await)
    }

    /// Adds the default route.
    ///
    /// # Errors
    /// [`LabError::Link`].
    pub(super) async fn add_default_route(&self, router: Ipv4Addr) -> Result<(), LabError> {
        let route = RouteMessageBuilder::<Ipv4Addr>::new().gateway(router).build();
        self.done(format!("route through {router}"), self.handle.route().add(route).execute().await)
    }

    /// Switches a link's transmit checksum offload off: what leaves the link is complete, also when a program and
    /// not the kernel takes it up at the other end.
    ///
    /// # Errors
    /// [`LabError::Io`].
    pub(super) async fn complete_checksums(&self, link: &str) -> Result<(), LabError> {
        let name = link.to_owned();
        netns::spawn_in(&self.ns, move || netns::set_tx_checksum_offload(&name, false))
            .await?
            .map_err(|source| LabError::io("switch off checksum offload of", Path::new(link), source))
    }

    /// Makes the namespace a router.
    ///
    /// # Errors
    /// [`LabError::Io`].
    pub(super) async fn forward(&self) -> Result<(), LabError> {
        sysctl(&self.ns, &[("ipv4/ip_forward", "1")]).await
    }

    /// Keeps the kernel's hands off what a user space datapath switches.
    ///
    /// Such a datapath reads a device as a packet capture does: the kernel gets every packet too. It would answer
    /// ARP requests for the node's addresses on whatever port they arrive, with that port's Ethernet address, and
    /// would route what a pod sends to the Ethernet address of its port past all flows.
    ///
    /// # Errors
    /// [`LabError::Io`], [`LabError::Failed`].
    pub(super) async fn leave_ports_to_the_switch(&self, nft: &Path) -> Result<(), LabError> {
        sysctl(&self.ns, &[("ipv4/conf/all/arp_ignore", "1")]).await?;
        let rules = format!(
            "table ip osdn-lab {{\nchain strays {{\ntype filter hook prerouting priority raw; policy accept;\n\
             iifname != {{ \"lo\", \"tun0\", \"{BR_PHY}\" }} counter drop\n}}\n}}\n"
        );
        Launch::new(nft).arg(rules).run(&self.ns).await
    }

    async fn index(&self, link: &str) -> Result<u32, LabError> {
        let missing = || LabError::NoLink { netns: self.name.clone(), link: link.to_owned() };
        let found = self.handle.link().get().match_name(link).execute().try_next().await;
        match found {
            Ok(found) => found.map(|message| message.header.index).ok_or_else(missing),
            // The kernel says ENODEV rather than nothing when it is asked for one link.
            Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -nix::libc::ENODEV => {
                Err(missing())
            }
            Err(source) => {
                Err(LabError::Link { step: format!("find link {link}"), netns: self.name.clone(), source })
            }
        }
    }

    fn done(&self, step: String, result: Result<(), rtnetlink::Error>) -> Result<(), LabError> {
        result.map_err(|source| LabError::Link { step, netns: self.name.clone(), source })
    }
}

/// Switches IPv6 off in a new namespace: the pod network has none, and what the kernel sends of its own accord on
/// every link would fill the counters of dropped packets.
///
/// # Errors
/// [`LabError::Io`].
pub(super) async fn without_ipv6(ns: &NetNs) -> Result<(), LabError> {
    if !Path::new("/proc/sys/net/ipv6").exists() {
        return Ok(());
    }
    sysctl(ns, &[("ipv6/conf/all/disable_ipv6", "1"), ("ipv6/conf/default/disable_ipv6", "1")]).await
}

/// Sets switches below `/proc/sys/net`, which shows those of the namespace of the thread that opens a file.
async fn sysctl(ns: &NetNs, switches: &'static [(&'static str, &'static str)]) -> Result<(), LabError> {
    netns::spawn_in(ns, move || {
        for (switch, value) in switches {
            let path = Path::new("/proc/sys/net").join(switch);
            fs::write(&path, value).map_err(|source| LabError::io("write", &path, source))?;
        }
        Ok(())
    })
    .await?
}
