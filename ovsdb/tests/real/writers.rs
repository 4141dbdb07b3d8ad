//! A second writer commits between a first one's look at its replica and its transaction: nobody is overwritten, and
//! the result is never half of each.
//!
//! The first writer is behind a proxy that keeps back what the server says, so that it plans on what was true before.

use std::collections::BTreeMap;

use ovsdb::ovs::{
    BridgeSpec, FailMode, OvsError, PortSpec, QosSpec, ensure_bridge, ensure_external_ids, ensure_port,
    ensure_qos,
};
use ovsdb::{Client, Endpoint};

use crate::harness::{Ovs, eventually, soon};
use crate::proxy::Proxy;

struct Race {
    ovs: Ovs,
    proxy: Proxy,
    first: Client,
}

impl Race {
    /// A switch with a bridge br0.
    async fn new() -> Race {
        Race::on(Ovs::switch(), &["add-br", "br0", "--", "set", "Bridge", "br0", "datapath_type=dummy"]).await
    }

    async fn on(ovs: Ovs, setup: &[&str]) -> Race {
        if !setup.is_empty() {
            ovs.vsctl(setup);
        }
        let proxy = Proxy::new(&ovs.path("proxy.sock"), ovs.socket());
        let endpoint = Endpoint::Unix(ovs.path("proxy.sock"));
        let first = Client::connect(&endpoint, "Open_vSwitch", ovsdb::ovs::monitored()).await.unwrap();
        Race { ovs, proxy, first }
    }

    /// What the first writer gets when the second one, `ovs-vsctl`, has overtaken it.
    async fn overtaken<T: Send + 'static>(
        &self,
        second: &[&str],
        first: impl Future<Output = T> + Send + 'static,
    ) -> T {
        // The first writer knows all that was before.
        let root = |replica: &ovsdb::Replica| replica.rows("Open_vSwitch").next()?.i64("next_cfg");
        if let Ok(now) =
            self.ovs.vsctl(["--no-wait", "--if-exists", "get", "Open_vSwitch", ".", "next_cfg"]).parse()
        {
            eventually(&self.first, |replica| (root(replica) == Some(now)).then_some(())).await;
        }
        self.proxy.hold();
        self.ovs.vsctl(["--no-wait"].iter().chain(second));
        let first = tokio::spawn(first);
        soon(self.proxy.transaction_sent()).await;
        self.proxy.release();
        soon(first).await.unwrap()
    }

    /// As [`Race::overtaken`], with the first writer ensuring a port.
    async fn port(&self, second: &[&str], spec: PortSpec) -> Result<u16, OvsError> {
        let client = self.first.clone();
        self.overtaken(second, async move { ensure_port(&client, "br0", &spec).await }).await
    }

    fn get(&self, table: &str, name: &str, column: &str) -> String {
        self.ovs.vsctl(["--no-wait", "get", table, name, column])
    }
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn internal(name: &str) -> PortSpec {
    PortSpec { interface_type: "internal".into(), ..PortSpec::new(name) }
}

#[tokio::test]
async fn anothers_keys_stay() {
    let race = Race::new().await;
    ensure_port(&race.first, "br0", &internal("p")).await.unwrap();
    let spec = PortSpec { external_ids: map(&[("mine", "1")]), ..internal("p") };
    race.port(&["set", "Interface", "p", "external_ids:theirs=1"], spec).await.unwrap();
    assert_eq!(race.get("Interface", "p", "external_ids"), "{mine=\"1\", theirs=\"1\"}");

    let client = race.first.clone();
    let keys = BTreeMap::from([("mine".to_owned(), None), ("more".to_owned(), Some("2".to_owned()))]);
    let ids = async move { ensure_external_ids(&client, "Interface", "p", &keys).await };
    race.overtaken(&["set", "Interface", "p", "external_ids:third=1"], ids).await.unwrap();
    assert_eq!(race.get("Interface", "p", "external_ids"), "{more=\"2\", theirs=\"1\", third=\"1\"}");

    let client = race.first.clone();
    let spec = BridgeSpec {
        datapath_type: "dummy".into(),
        other_config: map(&[("mine", "1")]),
        ..BridgeSpec::new("br0")
    };
    let bridge = async move { ensure_bridge(&client, &spec).await };
    race.overtaken(&["set", "Bridge", "br0", "other_config:theirs=1"], bridge).await.unwrap();
    assert_eq!(race.get("Bridge", "br0", "other_config"), "{mine=\"1\", theirs=\"1\"}");
}

#[tokio::test]
async fn the_last_spec_holds_in_whole() {
    let race = Race::new().await;
    ensure_port(&race.first, "br0", &PortSpec { options: map(&[("o", "0")]), ..internal("p") })
        .await
        .unwrap();
    let spec = PortSpec { options: map(&[("o", "1")]), ..internal("p") };
    race.port(&["set", "Interface", "p", "mtu_request=1400"], spec).await.unwrap();
    let now = ["options", "mtu_request"].map(|column| race.get("Interface", "p", column));
    assert_eq!(now, ["{o=\"1\"}", "[]"], "the spec of the one who came last");

    let client = race.first.clone();
    let spec = BridgeSpec {
        datapath_type: "dummy".into(),
        fail_mode: Some(FailMode::Secure),
        ..BridgeSpec::new("br0")
    };
    let bridge = async move { ensure_bridge(&client, &spec).await };
    race.overtaken(&["set", "Bridge", "br0", "protocols=OpenFlow15"], bridge).await.unwrap();
    let now = ["fail_mode", "protocols"].map(|column| race.get("Bridge", "br0", column));
    assert_eq!(now, ["secure", "[]"]);
}

#[tokio::test]
async fn a_port_goes_to_the_bridge_that_took_the_place_of_the_one_seen() {
    let race = Race::new().await;
    let before = race.get("Bridge", "br0", "_uuid");
    let replaced =
        ["del-br", "br0", "--", "add-br", "br0", "--", "set", "Bridge", "br0", "datapath_type=dummy"];
    race.port(&replaced, internal("p")).await.unwrap();
    assert_ne!(race.get("Bridge", "br0", "_uuid"), before);
    assert_eq!(race.ovs.vsctl(["list-ports", "br0"]), "p");
}

#[tokio::test]
async fn a_port_that_moved_is_left_alone() {
    let race = Race::new().await;
    race.ovs.vsctl(["add-br", "br1", "--", "set", "Bridge", "br1", "datapath_type=dummy"]);
    ensure_port(&race.first, "br0", &internal("p")).await.unwrap();
    let uuid = race.get("Port", "p", "_uuid");
    let moved = ["remove", "Bridge", "br0", "ports", &uuid, "--", "add", "Bridge", "br1", "ports", &uuid];
    let outcome = race.port(&moved, PortSpec { mtu_request: Some(1400), ..internal("p") }).await;
    assert!(
        matches!(&outcome, Err(OvsError::PortElsewhere { owner, .. }) if owner == "bridge br1"),
        "{outcome:?}"
    );
    assert_eq!(race.get("Interface", "p", "mtu_request"), "[]");
}

#[tokio::test]
async fn a_bridge_goes_to_the_root_row_that_took_the_place_of_the_one_seen() {
    let race = Race::new().await;
    let client = race.first.clone();
    let spec = BridgeSpec { datapath_type: "dummy".into(), ..BridgeSpec::new("br1") };
    let bridge = async move { ensure_bridge(&client, &spec).await };
    race.overtaken(&["--all", "destroy", "Open_vSwitch", "--", "init"], bridge).await.unwrap();
    assert_eq!(race.ovs.vsctl(["list-br"]), "br1", "the other bridge went with its root row");
}

#[tokio::test]
async fn a_fresh_database_gets_one_root_row() {
    let ovs = Ovs::server();
    let mut race = Race::on(ovs, &[]).await;
    race.ovs.start_switch();
    let client = race.first.clone();
    let spec = BridgeSpec { datapath_type: "dummy".into(), ..BridgeSpec::new("br0") };
    let bridge = async move { ensure_bridge(&client, &spec).await };
    race.overtaken(&["init"], bridge).await.unwrap();
    assert_eq!(race.ovs.vsctl(["list-br"]), "br0");
}

fn qos(rate: &str) -> QosSpec {
    QosSpec {
        qos_type: "linux-htb".into(),
        other_config: map(&[("max-rate", rate)]),
        queues: BTreeMap::from([(0, map(&[("min-rate", rate)]))]),
        external_ids: BTreeMap::new(),
    }
}

#[tokio::test]
async fn queues_go_to_the_port_that_took_the_place_of_the_one_seen() {
    let race = Race::new().await;
    ensure_port(&race.first, "br0", &internal("p")).await.unwrap();
    let client = race.first.clone();
    let queues = async move { ensure_qos(&client, "p", Some(&qos("1000"))).await };
    let replaced =
        ["del-port", "p", "--", "add-port", "br0", "p", "--", "set", "Interface", "p", "type=internal"];
    race.overtaken(&replaced, queues).await.unwrap();
    let uuid = race.get("Port", "p", "qos");
    assert_eq!(race.ovs.vsctl(["--bare", "--columns=_uuid", "list", "QoS"]), uuid, "one row, in use");
}

#[tokio::test]
async fn shared_queues_are_left_to_those_who_share_them() {
    for (second, table, kept, own) in [
        // The whole QoS by now is another port's too.
        (&["set", "Port", "o", "qos=QOS"][..], "QoS", "{max-rate=\"1000\"}", "{max-rate=\"2000\"}"),
        // One queue of it.
        (
            &[
                "set",
                "Port",
                "o",
                "qos=@q",
                "--",
                "--id=@q",
                "create",
                "QoS",
                "type=linux-htb",
                "queues=5=QUEUE",
            ],
            "Queue",
            "{min-rate=\"1000\"}",
            "{min-rate=\"2000\"}",
        ),
    ] {
        let race = Race::new().await;
        for name in ["p", "o"] {
            ensure_port(&race.first, "br0", &internal(name)).await.unwrap();
        }
        ensure_qos(&race.first, "p", Some(&qos("1000"))).await.unwrap();
        let uuids =
            ["QoS", "Queue"].map(|table| race.ovs.vsctl(["--bare", "--columns=_uuid", "list", table]));
        let second: Vec<String> =
            second.iter().map(|word| word.replace("QOS", &uuids[0]).replace("QUEUE", &uuids[1])).collect();
        let second: Vec<&str> = second.iter().map(String::as_str).collect();
        let client = race.first.clone();
        let queues = async move { ensure_qos(&client, "p", Some(&qos("2000"))).await };
        race.overtaken(&second, queues).await.unwrap();
        let shared = if table == "QoS" { &uuids[0] } else { &uuids[1] };
        assert_eq!(race.get(table, shared, "other_config"), kept, "{table}");
        let all = race.ovs.vsctl(["--bare", "--columns=other_config", "list", table]);
        let bare = own.trim_matches(['{', '}']).replace('"', "");
        assert!(all.lines().any(|line| line == bare), "{table}: {all}");
    }
}
