//! The OpenFlow ports that every node has.

use std::ops::Range;

use openflow::OfPort;

/// The tunnel to the other nodes.
pub const VXLAN0: OfPort = OfPort(1);
/// The host's own leg in the pod network: gateway of its pods, way to services and to the outside.
pub const TUN0: OfPort = OfPort(2);
/// Pods get this port or a higher one.
pub const FIRST_POD: OfPort = OfPort(3);

/// The ports that pods can have. From 0xff00 on Open vSwitch has none to give, as in OpenFlow 1.0.
pub const PODS: Range<OfPort> = FIRST_POD..OfPort(0xff00);

/// What a person calls the port: `vxlan0`, `tun0`, `port N`, or `LOCAL`, the bridge's own.
#[must_use]
pub fn name(port: OfPort) -> String {
    match port {
        VXLAN0 => "vxlan0".to_owned(),
        TUN0 => "tun0".to_owned(),
        OfPort::LOCAL => "LOCAL".to_owned(),
        OfPort(n) => format!("port {n}"),
    }
}
