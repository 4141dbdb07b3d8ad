//! The OpenFlow ports that every node has.

use openflow::OfPort;

/// The tunnel to the other nodes.
pub const VXLAN0: OfPort = OfPort(1);
/// The host's own leg in the pod network: gateway of its pods, way to services and to the outside.
pub const TUN0: OfPort = OfPort(2);
/// Pods get this port or a higher one.
pub const FIRST_POD: OfPort = OfPort(3);

/// What a person calls the port: `vxlan0`, `tun0` or `port N`.
#[must_use]
pub fn name(port: OfPort) -> String {
    match port {
        VXLAN0 => "vxlan0".to_owned(),
        TUN0 => "tun0".to_owned(),
        OfPort(n) => format!("port {n}"),
    }
}
