//! The network between the nodes: a switch, its router, and a host beyond the router.

use super::LabError;
use super::link::Links;
use super::state::Underlay;

/// The switch, a bridge of the kernel; the router's address is its own.
const SWITCH: &str = "sw";

/// The node's end of its wire.
pub(super) const UPLINK: &str = "uplink";

/// Makes the underlay's namespace with switch and router.
///
/// The host beyond is an address on the router's loopback. Nodes and pods only know the way to it, so packets to it
/// leave the node as they would leave for anywhere.
///
/// # Errors
/// Those of [`Links`].
pub(super) async fn create(netns: &str, underlay: &Underlay) -> Result<Links, LabError> {
    let links = Links::create(netns).await?;
    links.add_bridge(SWITCH).await?;
    links.add_address(SWITCH, underlay.router, underlay.network.prefix_len()).await?;
    links.add_address("lo", underlay.outside, 32).await?;
    // The router's own packets would reach a node's user space datapath without a checksum.
    links.complete_checksums(SWITCH).await?;
    links.forward().await?;
    Ok(links)
}

/// Connects the namespace of node number `number` (from 1 on).
///
/// # Errors
/// Those of [`Links`].
pub(super) async fn connect(underlay: &Links, number: usize, node: &Links) -> Result<(), LabError> {
    let port = format!("port{number}");
    underlay.add_veth(&port, UPLINK, node).await?;
    underlay.enslave(&port, SWITCH).await?;
    node.set_up(UPLINK).await
}
