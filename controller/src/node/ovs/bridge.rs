//! The bridge and its two fixed ports, through OVSDB. What is right already is left alone: a restart of the
//! agent changes nothing, a wrong option is corrected in place.

use std::net::Ipv4Addr;

use flowtables::feature::pods::mac;
use flowtables::pipeline::port::{TUN0, VXLAN0};
use openflow::{MacAddr, OfPort};
use ovsdb::Client;
use ovsdb::ovs::{BridgeSpec, FailMode, OvsError, PortSpec, PortWriter, ensure_bridge, ensure_port};

/// Name of the bridge.
pub const BRIDGE: &str = "br0";
/// Name of the tunnel port.
pub const VXLAN: &str = "vxlan0";
/// Name of the host's port.
pub const TUN: &str = "tun0";

/// What the bridge depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridge {
    /// `netdev` for the userspace datapath, `system` for the kernel's.
    pub datapath_type: String,
    /// UDP port of the tunnels.
    pub vxlan_port: u16,
    /// MTU of `tun0`, bytes.
    pub mtu: u16,
    /// The node's address in its subnet. `tun0` gets the MAC address that goes with it: one of Open vSwitch's choosing
    /// would be another one whenever the port is made anew, and pods would go on sending to the old one.
    pub gateway: Ipv4Addr,
}

/// Why the bridge is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum BridgeError {
    /// The switch refused something, or it or its database does not answer.
    #[error("could not set up {BRIDGE}: {0}")]
    Ovs(#[from] OvsError),
    /// The port has a number that something else holds.
    #[error(
        "{what} has OpenFlow port {got} instead of {want}: remove the port that holds {want} (`ovs-vsctl show`)"
    )]
    Number {
        /// The port.
        what: &'static str,
        /// Its number.
        got: u16,
        /// The number it must have.
        want: OfPort,
    },
}

impl Bridge {
    /// Makes bridge and ports as they must be.
    ///
    /// # Errors
    /// When the switch refuses or does not answer.
    pub async fn ensure(&self, client: &Client, ports: &PortWriter) -> Result<(), BridgeError> {
        let bridge = BridgeSpec {
            fail_mode: Some(FailMode::Secure),
            protocols: vec!["OpenFlow13".to_owned()],
            datapath_type: self.datapath_type.clone(),
            ..BridgeSpec::new(BRIDGE)
        };
        ensure_bridge(client, &bridge).await?;

        let options = [
            ("remote_ip", "flow".to_owned()),
            ("key", "flow".to_owned()),
            ("dst_port", self.vxlan_port.to_string()),
        ];
        let vxlan = PortSpec {
            interface_type: "vxlan".to_owned(),
            options: options.map(|(key, value)| (key.to_owned(), value)).into(),
            ..fixed(VXLAN, VXLAN0)
        };
        port(client, ports, VXLAN, &vxlan, VXLAN0).await?;
        let tun = PortSpec {
            interface_type: "internal".to_owned(),
            mtu_request: Some(self.mtu.into()),
            mac: Some(MacAddr(mac(self.gateway)).to_string()),
            ..fixed(TUN, TUN0)
        };
        port(client, ports, TUN, &tun, TUN0).await
    }
}

fn fixed(name: &str, port: OfPort) -> PortSpec {
    PortSpec { ofport_request: u16::try_from(port.0).ok(), ..PortSpec::new(name) }
}

async fn port(
    client: &Client,
    ports: &PortWriter,
    what: &'static str,
    spec: &PortSpec,
    want: OfPort,
) -> Result<(), BridgeError> {
    let got = match client.replica().named("Port", &spec.name) {
        // Nothing is to be written, mostly: that waits for nobody.
        Some(_) => ensure_port(client, BRIDGE, spec).await?,
        None => ports.ensure(spec).await?,
    };
    if u32::from(got) == want.0 { Ok(()) } else { Err(BridgeError::Number { what, got, want }) }
}
