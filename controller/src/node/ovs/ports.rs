//! Pods' ports as OVSDB has them. OVSDB is the one place where it is written which port is whose: the agent
//! keeps no record of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use flowtables::pipeline::port::FIRST_POD;
use openflow::OfPort;
use ovsdb::ovs::interface_rows;
use ovsdb::{Client, Replica, Row};

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

    fn of(interface: &Row) -> Option<Self> {
        let id = |key| interface.map_get("external_ids", key);
        let text = |key| id(key).unwrap_or_default().to_owned();
        Some(Self {
            host_veth: interface.str("name")?.to_owned(),
            sandbox: id("sandbox")?.to_owned(),
            ifname: id("ifname").unwrap_or("eth0").to_owned(),
            ip: id("ip")?.parse().ok()?,
            namespace: text("namespace"),
            name: text("name"),
            uid: text("uid"),
            port: number(interface, "ofport"),
        })
    }
}

/// A port number that the switch has given, or is asked for.
fn number(interface: &Row, column: &str) -> Option<OfPort> {
    valid(interface.i64(column)?)
}

fn valid(number: i64) -> Option<OfPort> {
    u16::try_from(number).ok().filter(|number| *number != 0).map(|number| OfPort(number.into()))
}

/// The number of a port: what the switch has given it, or, as long as it has not said, what it is asked for. None for a
/// port that it could not make, of which it says -1.
fn port(given: Option<i64>, asked: Option<i64>) -> Option<OfPort> {
    valid(given.or(asked)?)
}

/// What is made of the replica, kept until the replica is another: it is asked for far more often than it changes.
pub struct Kept<T> {
    make: fn(&Replica) -> T,
    last: Mutex<Option<(u64, Arc<T>)>>,
}

impl<T> Kept<T> {
    /// Nothing is made before it is asked for.
    #[must_use]
    pub fn new(make: fn(&Replica) -> T) -> Self {
        Self { make, last: Mutex::default() }
    }

    /// Of the replicas of one client, whichever it is now. The same one gives the same `Arc`.
    pub fn of(&self, replica: &Replica) -> Arc<T> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((generation, kept)) if *generation == replica.generation() => Arc::clone(kept),
            _ => {
                let made = Arc::new((self.make)(replica));
                *last = Some((replica.generation(), Arc::clone(&made)));
                made
            }
        }
    }
}

/// The legs of all pods on the bridge, in the order of their ports' names.
#[must_use]
pub fn legs(replica: &Replica) -> Vec<Leg> {
    let mut legs: Vec<Leg> = interface_rows(replica, BRIDGE).filter_map(|row| Leg::of(row)).collect();
    legs.sort_unstable_by(|a, b| a.host_veth.cmp(&b.host_veth));
    legs
}

/// The legs whose link the switch finds down, at either end (ovs-vswitchd.conf.db(5), Interface, `link_state`).
pub fn legs_down(replica: &Replica) -> impl Iterator<Item = Leg> {
    interface_rows(replica, BRIDGE)
        .filter(|row| row.str("link_state") == Some("down"))
        .filter_map(|row| Leg::of(row))
}

/// The leg of a sandbox.
#[must_use]
pub fn leg(replica: &Replica, sandbox: &str) -> Option<Leg> {
    interface_rows(replica, BRIDGE)
        // One of many: only it is read whole.
        .filter(|row| row.map_get("external_ids", "sandbox") == Some(sandbox))
        .find_map(|row| Leg::of(row))
}

/// The named legs that the switch has a port for, or has been asked for one and is about to make, as the view takes them.
///
/// The flows of a new port so reach the switch while it makes the port, and are there before the pod can send.
#[must_use]
pub fn pod_ports(replica: &Replica) -> Vec<PodPort> {
    let pod_port = |row: &Arc<Row>| {
        // Made at every change: what a leg has besides is not read.
        let id = |key| row.map_get("external_ids", key).filter(|value| !value.is_empty());
        Some(PodPort {
            namespace: id("namespace")?.to_owned(),
            name: id("name")?.to_owned(),
            sandbox: id("sandbox")?.to_owned(),
            ip: id("ip")?.parse().ok()?,
            port: port(row.i64("ofport"), row.i64("ofport_request"))?,
        })
    };
    let mut ports: Vec<PodPort> = interface_rows(replica, BRIDGE).filter_map(pod_port).collect();
    ports.sort();
    ports
}

fn taken(replica: &Replica, reserved: &BTreeSet<OfPort>) -> BTreeSet<OfPort> {
    interface_rows(replica, BRIDGE)
        .flat_map(|row| ["ofport", "ofport_request"].map(|column| number(row, column)))
        .flatten()
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Instant;

    use ovsdb::Monitored;
    use ovsdb::session::{Config, Session};

    use super::*;

    const SCHEMA: &str = r#"{"name": "D", "version": "1.0.0", "tables": {"T": {"columns": {"name": {"type": "string"}}, "isRoot": true}}}"#;
    const ROW: &str = "550e8400-e29b-41d4-a716-446655440000";

    /// A session that has fetched one row, of this name.
    fn session(before: Option<Arc<Replica>>, name: &str) -> Session {
        let now = Instant::now();
        let config = Arc::new(Config::new("D", Monitored::new().all_columns("T")));
        let mut session = Session::new(config, before, now);
        let rows = format!(r#"[false,"{ROW}",{{"T":{{"{ROW}":{{"initial":{{"name":"{name}"}}}}}}}}]"#);
        session.receive(format!(r#"{{"id":0,"result":{SCHEMA},"error":null}}"#).as_bytes(), now).unwrap();
        let sent = session.outgoing().to_vec();
        let ids = serde_json::Deserializer::from_slice(&sent).into_iter::<serde_json::Value>();
        let id = ids.flatten().last().unwrap()["id"].clone();
        session.receive(format!(r#"{{"id":{id},"result":{rows},"error":null}}"#).as_bytes(), now).unwrap();
        session
    }

    #[test]
    fn what_is_made_of_a_replica_is_kept_until_there_is_another() {
        let kept = Kept::new(|replica: &Replica| -> Vec<String> {
            replica.rows("T").filter_map(|row| row.str("name")).map(ToOwned::to_owned).collect()
        });
        let mut first = session(None, "a");
        let old = first.replica().clone();
        let made = kept.of(&old);
        assert_eq!(*made, ["a"]);
        assert!(Arc::ptr_eq(&made, &kept.of(&old)));
        let update = format!(
            r#"{{"id":null,"method":"update3","params":["D-1","{ROW}",{{"T":{{"{ROW}":{{"modify":{{"name":"b"}}}}}}}}]}}"#
        );
        first.receive(update.as_bytes(), Instant::now()).unwrap();
        assert_eq!(*kept.of(first.replica()), ["b"]);
        // The server was away and has another database: fetched anew, not resumed.
        let second = session(Some(first.replica().clone()), "c");
        assert_eq!(*kept.of(second.replica()), ["c"]);
        assert_eq!(*kept.of(&old), ["a"]);
        assert_eq!(*kept.of(second.replica()), ["c"]);
    }

    #[test]
    fn a_port_has_the_number_that_it_was_given_or_may_expect() {
        let expected = [
            ((None, None), None),
            ((None, Some(7)), Some(OfPort(7))),
            ((Some(8), Some(7)), Some(OfPort(8))),
            ((Some(-1), Some(7)), None),
            ((Some(8), None), Some(OfPort(8))),
            ((None, Some(0)), None),
            ((None, Some(0x1_0000)), None),
        ];
        for ((given, asked), number) in expected {
            assert_eq!(port(given, asked), number, "given {given:?}, asked {asked:?}");
        }
    }
}
