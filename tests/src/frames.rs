//! Frames of our own making, sent from inside a network namespace as a hostile pod would.

use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context;
use controller::node::netns::{NetNs, run_in};
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, sendto, socket,
};

use crate::run;

/// A MAC address.
pub type Mac = [u8; 6];

const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
const ICMP_ECHO_REQUEST: u8 = 8;
const ICMP_ECHO_REPLY: u8 = 0;

/// An ICMP echo request.
pub struct Ping<'a> {
    /// The address that the packet says it comes from.
    pub from: &'a str,
    /// Where to.
    pub to: &'a str,
}

impl Ping<'_> {
    /// The frame, to the MAC address that a pod with the destination's address has.
    ///
    /// # Errors
    /// An address is no IPv4 address.
    pub fn frame(&self) -> anyhow::Result<Vec<u8>> {
        self.frame_to(pod_mac(self.to.parse()?))
    }

    /// The frame to this MAC address.
    ///
    /// # Errors
    /// An address is no IPv4 address.
    pub fn frame_to(&self, mac: Mac) -> anyhow::Result<Vec<u8>> {
        let (from, to): (Ipv4Addr, Ipv4Addr) = (self.from.parse()?, self.to.parse()?);
        let mut icmp = vec![ICMP_ECHO_REQUEST, 0, 0, 0, 0, 1, 0, 1];
        icmp.extend([b'x'; 16]);
        fill_checksum(&mut icmp, 2);
        let length = u16::try_from(20 + icmp.len())?.to_be_bytes();
        // Version and length, TOS, total length, identification, fragment, TTL, protocol ICMP, checksum.
        let mut ip = vec![0x45, 0, length[0], length[1], 0, 1, 0, 0, 64, 1, 0, 0];
        ip.extend(from.octets());
        ip.extend(to.octets());
        fill_checksum(&mut ip, 10);
        Ok([&mac[..], &pod_mac(from), &ETHERTYPE_IPV4, &ip, &icmp].concat())
    }
}

/// An ARP request.
pub struct Arp<'a> {
    /// `arp_spa`.
    pub sender: &'a str,
    /// `arp_sha`.
    pub sender_mac: &'a str,
    /// `arp_tpa`.
    pub target: &'a str,
}

impl Arp<'_> {
    /// The frame, to everyone.
    ///
    /// # Errors
    /// An address is none.
    pub fn frame(&self) -> anyhow::Result<Vec<u8>> {
        let (sender, target): (Ipv4Addr, Ipv4Addr) = (self.sender.parse()?, self.target.parse()?);
        let mac = parse_mac(self.sender_mac)?;
        // Ethernet and IPv4 addresses of 6 and 4 bytes, request.
        let head = [0, 1, 8, 0, 6, 4, 0, 1];
        Ok([&[0xff; 6][..], &mac, &ETHERTYPE_ARP, &head, &mac, &sender.octets(), &[0; 6], &target.octets()]
            .concat())
    }
}

fn pod_mac(ip: Ipv4Addr) -> Mac {
    let [a, b, c, d] = ip.octets();
    [0x0a, 0x58, a, b, c, d]
}

fn parse_mac(text: &str) -> anyhow::Result<Mac> {
    let bytes: Result<Vec<u8>, _> = text.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect();
    bytes?.try_into().ok().with_context(|| format!("{text} is no MAC address"))
}

/// RFC 1071 over `bytes`, whose checksum field at `at` is 0.
fn fill_checksum(bytes: &mut [u8], at: usize) {
    let sum: u32 =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u32::from)).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    let checksum = !(folded as u16);
    bytes[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
}

/// Sends a frame out of a link of a namespace, as it is.
///
/// # Errors
/// The namespace or link is not there, or the kernel refuses.
pub fn send(netns: &Path, link: &str, frame: &[u8]) -> anyhow::Result<()> {
    run_in(&NetNs::open(netns)?, || -> anyhow::Result<()> {
        let socket = packet_socket()?;
        sendto(socket.as_raw_fd(), frame, &link_address(link)?, MsgFlags::empty())?;
        Ok(())
    })?
}

/// Sends a frame and counts the echo replies from `address` that come within `time`.
///
/// # Errors
/// The namespace or link is not there, or the kernel refuses.
pub fn answers(
    netns: &Path,
    link: &str,
    frame: &[u8],
    address: &str,
    time: Duration,
) -> anyhow::Result<usize> {
    let from: Ipv4Addr = address.parse()?;
    run_in(&NetNs::open(netns)?, || -> anyhow::Result<usize> {
        let socket = packet_socket()?;
        bind(socket.as_raw_fd(), &link_address(link)?)?;
        sendto(socket.as_raw_fd(), frame, &link_address(link)?, MsgFlags::empty())?;
        let end = Instant::now() + time;
        let mut count = 0;
        let mut buffer = [0; 2048];
        while Instant::now() < end {
            let Ok(length) = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) else {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            };
            let got = &buffer[..length];
            let is_reply = got.get(12..14) == Some(&ETHERTYPE_IPV4)
                && got.get(26..30) == Some(&from.octets())
                && got.get(34) == Some(&ICMP_ECHO_REPLY);
            count += usize::from(is_reply);
        }
        Ok(count)
    })?
}

/// Sends `inner` in a VXLAN datagram from an ordinary socket of a namespace.
///
/// # Errors
/// The namespace is not there, `from` is none of its addresses, or the kernel refuses.
pub fn vxlan(netns: &Path, from: Option<&str>, to: &str, vnid: u32, inner: &[u8]) -> anyhow::Result<()> {
    let header = [0x0800_0000_u32.to_be_bytes(), (vnid << 8).to_be_bytes()].concat();
    let datagram = [&header, inner].concat();
    run_in(&NetNs::open(netns)?, || -> anyhow::Result<()> {
        let socket = UdpSocket::bind((from.unwrap_or("0.0.0.0"), 0))?;
        socket.send_to(&datagram, (to, 4789))?;
        Ok(())
    })?
}

/// The MAC address of a link.
///
/// # Errors
/// The namespace or link is not there.
pub fn mac_of(netns: &Path, link: &str) -> anyhow::Result<Mac> {
    let links = links(netns)?;
    let wanted = links.iter().find(|found| found["ifname"] == link);
    parse_mac(wanted.and_then(|found| found["address"].as_str()).with_context(|| format!("no link {link}"))?)
}

/// The MAC address of the other end of a veth pair.
///
/// # Errors
/// A namespace or link is not there.
pub fn peer_mac(netns: &Path, peer: &Path, link: &str) -> anyhow::Result<Mac> {
    let links_here = links(netns)?;
    let here =
        links_here.iter().find(|found| found["ifname"] == link).with_context(|| format!("no link {link}"))?;
    let index = &here["link_index"];
    let links_there = links(peer)?;
    let there = links_there.iter().find(|found| found["ifindex"] == *index).context("no peer")?;
    parse_mac(there["address"].as_str().context("no MAC address")?)
}

fn links(netns: &Path) -> anyhow::Result<Vec<serde_json::Value>> {
    let name = netns.file_name().and_then(|name| name.to_str()).context("a named namespace")?;
    Ok(serde_json::from_str(&run(Command::new("ip").args(["-n", name, "-json", "link", "show"]))?)?)
}

fn packet_socket() -> anyhow::Result<std::os::fd::OwnedFd> {
    Ok(socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)?)
}

/// The link-layer address of a link of the calling thread's namespace.
fn link_address(link: &str) -> anyhow::Result<LinkAddr> {
    getifaddrs()?
        .filter(|found| found.interface_name == link)
        .find_map(|found| found.address?.as_link_addr().copied())
        .with_context(|| format!("no link {link}"))
}
