//! Pods' ports as OVSDB has them. OVSDB is the one place where it is written which port is whose: the agent
//! keeps no record of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use flowtables::pipeline::port::FIRST_POD;
use openflow::OfPort;
use ovsdb::ovs::{InterfaceView, interfaces};
use ovsdb::{Client, Replica};

use super::bridge::BRIDGE;
use crate::view::PodPort;

/// The greatest port number that a switch gives to a port (OF1.3.5 §7.2.1, `OFPP_MAX`).
const LAST: OfPort = OfPort(0xfeff);

/// A pod's leg, as the `external_ids` of its Interface name it.
///
/// `sandbox` and `ip` are the keys that the replaced system wrote too, and no others: a leg that it left has no Pod
/// object's name until it is taken over (`cni::takeover`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leg {
    /// Name of the host end of the veth, which is the port's name.
    pub host_veth: String,
    /// Container id of the CNI ADD.
    pub sandbox: String,
    /// Interface name inside the pod.
    pub ifname: String,
    /// The pod's address.
    pub ip: Ipv4Addr,
    /// Namespace of the Pod object; empty as long as the pod is not known.
    pub namespace: String,
    /// Name of the Pod object, likewise.
    pub name: String,
    /// UID of the Pod object; empty where the runtime did not say it.
    pub uid: String,
    /// The OpenFlow port, once the switch has one for it.
    pub port: Option<OfPort>,
}

impl Leg {
    /// Namespace and name of the Pod object.
    pub fn pod(&self) -> impl std::fmt::Display + '_ {
        std::fmt::from_fn(|f| write!(f, "{}/{}", self.namespace, self.name))
    }

    /// Whether the Pod object is known that it belongs to.
    #[must_use]
    pub fn is_named(&self) -> bool {
        !self.namespace.is_empty() && !self.name.is_empty()
    }

    /// The `external_ids` that describe it.
    #[must_use]
    pub fn external_ids(&self) -> BTreeMap<String, String> {
        let ids = [
            ("sandbox", &self.sandbox),
            ("ifname", &self.ifname),
            ("ip", &self.ip.to_string()),
            ("namespace", &self.namespace),
            ("name", &self.name),
            ("uid", &self.uid),
        ];
        ids.into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(key, value)| (key.to_owned(), value.clone()))
            .collect()
    }

    fn of(interface: &InterfaceView) -> Option<Self> {
        let id = |key: &str| interface.external_ids.get(key).cloned();
        Some(Self {
            host_veth: interface.name.clone(),
            sandbox: id("sandbox")?,
            ifname: id("ifname").unwrap_or_else(|| "eth0".to_owned()),
            ip: id("ip")?.parse().ok()?,
            namespace: id("namespace").unwrap_or_default(),
            name: id("name").unwrap_or_default(),
            uid: id("uid").unwrap_or_default(),
            port: interface.ofport.map(|port| OfPort(port.into())),
        })
    }
}

/// The legs of all pods on the bridge.
#[must_use]
pub fn legs(replica: &Replica) -> Vec<Leg> {
    interfaces(replica, BRIDGE).iter().filter_map(Leg::of).collect()
}

/// The named legs that the switch has a port for, as the view takes them.
#[must_use]
pub fn pod_ports(replica: &Replica) -> Vec<PodPort> {
    let mut ports: Vec<PodPort> = legs(replica)
        .into_iter()
        .filter(Leg::is_named)
        .filter_map(|leg| {
            Some(PodPort {
                namespace: leg.namespace,
                name: leg.name,
                sandbox: leg.sandbox,
                ip: leg.ip,
                port: leg.port?,
            })
        })
        .collect();
    ports.sort();
    ports
}

fn taken(replica: &Replica, reserved: &BTreeSet<OfPort>) -> BTreeSet<OfPort> {
    interfaces(replica, BRIDGE)
        .iter()
        .flat_map(|interface| [interface.ofport, interface.ofport_request])
        .flatten()
        .map(|port| OfPort(port.into()))
        .chain(reserved.iter().copied())
        .collect()
}

/// The first port number from 3 on that neither the bridge nor `reserved` uses.
#[must_use]
pub fn first_free(replica: &Replica, reserved: &BTreeSet<OfPort>) -> Option<OfPort> {
    let taken = taken(replica, reserved);
    (FIRST_POD.0..=LAST.0).map(OfPort).find(|port| !taken.contains(port))
}

/// Whether neither the bridge nor `reserved` uses a port number.
#[must_use]
pub fn is_free(replica: &Replica, reserved: &BTreeSet<OfPort>, port: OfPort) -> bool {
    !taken(replica, reserved).contains(&port)
}

/// Resolves when OVSDB has no interface of that name.
pub async fn no_interface(ovsdb: &Client, name: &str) {
    let mut changes = ovsdb.changes();
    while ovsdb.replica().named("Interface", name).is_some() {
        if changes.changed().await.is_err() {
            // The client is closed.
            std::future::pending::<()>().await;
        }
    }
}
