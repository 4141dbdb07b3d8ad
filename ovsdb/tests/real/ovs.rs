//! Bridges and ports through the ensure functions, checked with `ovs-vsctl`.

use std::collections::BTreeMap;

use ovsdb::ovs::{
    BridgeSpec, FailMode, OvsError, PortSpec, QosSpec, delete_bridge, delete_port, ensure_bridge,
    ensure_external_ids, ensure_port, ensure_qos, interface, interfaces, remove_unreferenced_qos,
};
use ovsdb::{Columns, Condition};

use crate::harness::{Ovs, eventually, show, soon};

fn br0() -> BridgeSpec {
    BridgeSpec {
        fail_mode: Some(FailMode::Secure),
        protocols: vec!["OpenFlow13".into()],
        datapath_type: "netdev".into(),
        external_ids: BTreeMap::from([("owner".into(), "sdn".into())]),
        other_config: BTreeMap::from([("disable-in-band".into(), "true".into())]),
        ..BridgeSpec::new("br0")
    }
}

fn vxlan0() -> PortSpec {
    let options = [("remote_ip", "flow"), ("key", "flow"), ("dst_port", "4789")];
    PortSpec {
        interface_type: "vxlan".into(),
        options: options.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        ofport_request: Some(1),
        ..PortSpec::new("vxlan0")
    }
}

fn tun0() -> PortSpec {
    PortSpec {
        interface_type: "internal".into(),
        ofport_request: Some(2),
        mtu_request: Some(1450),
        mac: Some("0a:58:0a:80:00:01".into()),
        ..PortSpec::new("tun0")
    }
}

fn pod(name: &str) -> PortSpec {
    let ids = [("sandbox", "0123456789abcdef"), ("ip", "10.128.0.2"), ("pod", "ns/web \"1\"")];
    PortSpec { external_ids: ids.map(|(k, v)| (k.to_owned(), v.to_owned())).into(), ..PortSpec::new(name) }
}

#[tokio::test]
async fn the_node_s_bridge_is_what_ovs_vsctl_says() {
    let ovs = Ovs::switch();
    let client = ovs.ovs_client().await;
    ensure_bridge(&client, &br0()).await.unwrap();
    std::os::unix::net::UnixStream::connect(ovs.path("br0.mgmt")).expect("the switch has set the bridge up");
    assert_eq!(ensure_port(&client, "br0", &vxlan0()).await.unwrap(), 1);
    assert_eq!(ensure_port(&client, "br0", &tun0()).await.unwrap(), 2);
    let veth = ensure_port(&client, "br0", &pod("veth1")).await.unwrap();
    assert!(veth > 2);

    assert_eq!(ovs.vsctl(["list-br"]), "br0");
    assert_eq!(ovs.vsctl(["list-ports", "br0"]), "tun0\nveth1\nvxlan0");
    let bridge = ["fail_mode", "protocols", "datapath_type", "external_ids", "other_config"];
    let said: Vec<String> = bridge.iter().map(|column| ovs.vsctl(["get", "Bridge", "br0", column])).collect();
    assert_eq!(said, ["secure", "[OpenFlow13]", "netdev", "{owner=sdn}", "{disable-in-band=\"true\"}"]);
    let get = |name: &str, column: &str| ovs.vsctl(["get", "Interface", name, column]);
    assert_eq!(get("vxlan0", "options"), "{dst_port=\"4789\", key=flow, remote_ip=flow}");
    assert_eq!((get("vxlan0", "type"), get("vxlan0", "ofport")), ("vxlan".into(), "1".into()));
    assert_eq!((get("tun0", "type"), get("tun0", "ofport")), ("internal".into(), "2".into()));
    assert_eq!(
        (get("tun0", "mac"), get("tun0", "mtu_request")),
        ("\"0a:58:0a:80:00:01\"".into(), "1450".into())
    );
    assert_eq!(get("veth1", "ofport"), veth.to_string());
    assert_eq!(
        get("veth1", "external_ids"),
        r#"{ip="10.128.0.2", pod="ns/web \"1\"", sandbox="0123456789abcdef"}"#
    );

    let views = interfaces(&client.replica(), "br0");
    let ports: Vec<_> = views.iter().map(|view| (view.name.as_str(), view.ofport)).collect();
    let want = [("br0", Some(65534)), ("tun0", Some(2)), ("veth1", Some(veth)), ("vxlan0", Some(1))];
    assert_eq!(ports, want, "{}", show(&client.replica()));
    let tun0 = views.iter().find(|view| view.name == "tun0").unwrap();
    assert_eq!(
        tun0.mac_in_use.as_deref(),
        Some(ovs.vsctl(["get", "Interface", "tun0", "mac_in_use"]).trim_matches('"'))
    );
}

#[tokio::test]
async fn ensuring_again_sends_nothing_and_a_change_sends_only_itself() {
    let ovs = Ovs::switch();
    let client = ovs.ovs_client().await;
    let log = || ovs.run("ovsdb-tool", ["show-log", "conf.db"]).matches("record ").count();
    ensure_bridge(&client, &br0()).await.unwrap();
    ensure_port(&client, "br0", &vxlan0()).await.unwrap();
    ensure_port(&client, "br0", &pod("veth1")).await.unwrap();
    let (written, generation) = (log(), client.replica().generation());
    ensure_bridge(&client, &br0()).await.unwrap();
    ensure_port(&client, "br0", &vxlan0()).await.unwrap();
    ensure_port(&client, "br0", &pod("veth1")).await.unwrap();
    assert_eq!((log(), client.replica().generation()), (written, generation), "nothing was written");

    ovs.vsctl(["set", "Interface", "veth1", "external_ids:foreign=1"]);
    ovs.vsctl(["set", "Bridge", "br0", "fail_mode=standalone", "other_config:foreign=1"]);
    eventually(&client, |replica| {
        (replica.named("Bridge", "br0")?.str("fail_mode")? == "standalone").then_some(())
    })
    .await;
    ensure_bridge(&client, &br0()).await.unwrap();
    assert_eq!(ovs.vsctl(["get", "Bridge", "br0", "fail_mode"]), "secure");
    let config = ovs.vsctl(["get", "Bridge", "br0", "other_config"]);
    assert_eq!(config, "{disable-in-band=\"true\", foreign=\"1\"}", "another's keys stay");
    let mut spec = pod("veth1");
    spec.external_ids.insert("ip".into(), "10.128.0.9".into());
    ensure_port(&client, "br0", &spec).await.unwrap();
    let view = interface(&client.replica(), "veth1").unwrap();
    assert_eq!(
        (view.external_ids["ip"].as_str(), view.external_ids["foreign"].as_str()),
        ("10.128.0.9", "1")
    );
}

#[tokio::test]
async fn ports_are_deleted_with_their_rows() {
    let ovs = Ovs::switch();
    let client = ovs.ovs_client().await;
    ensure_bridge(&client, &br0()).await.unwrap();
    ensure_bridge(&client, &BridgeSpec { datapath_type: "netdev".into(), ..BridgeSpec::new("br1") })
        .await
        .unwrap();
    ensure_port(&client, "br0", &pod("veth1")).await.unwrap();
    delete_port(&client, "br1", "veth1").await.unwrap();
    assert_eq!(ovs.vsctl(["list-ports", "br0"]), "veth1", "it is not br1's to delete");
    delete_port(&client, "br0", "veth1").await.unwrap();
    assert!(client.replica().named("Port", "veth1").is_none(), "the replica is as new as the reply");
    assert!(client.replica().named("Interface", "veth1").is_none(), "collected without being named");
    delete_port(&client, "br0", "veth1").await.unwrap();
    assert_eq!(ovs.vsctl(["--columns=name", "find", "Interface", "name=veth1"]), "");
    delete_bridge(&client, "br0").await.unwrap();
    delete_bridge(&client, "br0").await.unwrap();
    assert_eq!(ovs.vsctl(["list-br"]), "br1");
    assert_eq!(client.replica().table("Interface").unwrap().len(), 1, "{}", show(&client.replica()));
}

#[tokio::test]
async fn what_can_t_be_is_said() {
    let ovs = Ovs::switch();
    let client = ovs.ovs_client().await;
    assert!(
        matches!(ensure_port(&client, "br0", &pod("veth1")).await, Err(OvsError::NoBridge(name)) if name == "br0")
    );
    ensure_bridge(&client, &br0()).await.unwrap();
    ensure_bridge(&client, &BridgeSpec { datapath_type: "netdev".into(), ..BridgeSpec::new("br1") })
        .await
        .unwrap();
    ensure_port(&client, "br0", &pod("veth1")).await.unwrap();
    let elsewhere = ensure_port(&client, "br1", &pod("veth1")).await.unwrap_err();
    assert_eq!(elsewhere.to_string(), "port veth1 belongs to bridge br0: delete it there first");
    // Two tunnels that want all the same packets: the switch refuses the second.
    ensure_port(&client, "br0", &vxlan0()).await.unwrap();
    let wrong = PortSpec { interface_type: "of_the_future".into(), ..PortSpec::new("odd") };
    let error = ensure_port(&client, "br0", &wrong).await;
    assert!(
        matches!(&error, Err(OvsError::Interface { name, error }) if name == "odd" && !error.is_empty()),
        "{error:?}"
    );
    let out_of_range = PortSpec { ofport_request: Some(65300), ..PortSpec::new("far") };
    let error = ensure_port(&client, "br0", &out_of_range).await.unwrap_err().to_string();
    assert!(
        error.contains("insert into Interface: constraint violation") && error.contains("65300"),
        "{error}"
    );
}

#[tokio::test]
async fn two_writers_never_overwrite_each_other() {
    let ovs = Ovs::switch();
    let (one, two) = (ovs.ovs_client().await, ovs.ovs_client().await);
    let spec = br0();
    let (a, b) = tokio::join!(ensure_bridge(&one, &spec), ensure_bridge(&two, &spec));
    a.and(b).unwrap();
    assert_eq!(ovs.vsctl(["list-br"]), "br0");
    for round in 0..20 {
        let name = format!("veth{round}");
        let with = |key: &str| PortSpec {
            external_ids: BTreeMap::from([(key.to_owned(), "1".to_owned())]),
            ..PortSpec::new(&name)
        };
        let (spec_a, spec_b) = (with("a"), with("b"));
        let (a, b) = tokio::join!(ensure_port(&one, "br0", &spec_a), ensure_port(&two, "br0", &spec_b));
        assert_eq!(a.unwrap(), b.unwrap());
        assert_eq!(ovs.vsctl(["get", "Interface", &name, "external_ids"]), "{a=\"1\", b=\"1\"}", "{name}");
    }
}

#[tokio::test]
async fn a_fresh_database_gets_its_root_row_once() {
    let ovs = Ovs::server();
    let (one, two) = (ovs.ovs_client().await, ovs.ovs_client().await);
    let (spec_a, spec_b) = (BridgeSpec::new("br0"), BridgeSpec::new("br1"));
    // No switch runs: the database has both, and nobody reports.
    let bridges = async { tokio::join!(ensure_bridge(&one, &spec_a), ensure_bridge(&two, &spec_b)) };
    let both = eventually(&one, |replica| (replica.table("Bridge")?.len() == 2).then_some(()));
    tokio::select! {
        ended = bridges => panic!("{ended:?} without a switch"),
        () = both => {}
    }
    assert_eq!(ovs.vsctl(["--no-wait", "list-br"]), "br0\nbr1");
    assert_eq!(one.replica().table("Open_vSwitch").unwrap().len(), 1);
}

#[tokio::test]
async fn a_restarted_server_is_taken_up_where_it_left() {
    let mut ovs = Ovs::switch();
    let client = ovs.ovs_client().await;
    ensure_bridge(&client, &br0()).await.unwrap();
    ensure_port(&client, "br0", &pod("veth1")).await.unwrap();
    let connections = client.status().connections;
    ovs.kill_server();
    let mut changes = client.changes();
    soon(changes.wait_for(|status| !status.connected)).await.unwrap();
    assert!(interface(&client.replica(), "veth1").is_some(), "the last known state stays visible");
    let refused = client.transact({
        let mut tx = client.transaction();
        tx.comment("x");
        tx
    });
    assert!(matches!(refused.await, Err(ovsdb::TransactError::NotConnected(_))));
    // Asked for while the server is away, done once it is back.
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { ensure_port(&client, "br0", &pod("veth2")).await }
    });
    ovs.start_server();
    ovs.vsctl(["--no-wait", "del-port", "veth1"]);
    assert!(waiting.await.unwrap().unwrap() > 0);
    eventually(&client, |replica| replica.named("Port", "veth1").is_none().then_some(())).await;
    assert!(client.status().connections > connections);
    assert_eq!(ovs.vsctl(["list-ports", "br0"]), "veth2");
}

#[tokio::test]
async fn a_restarted_switch_gives_the_ports_their_numbers_back() {
    let mut ovs = Ovs::switch();
    let client = ovs.ovs_client().await;
    ensure_bridge(&client, &br0()).await.unwrap();
    ensure_port(&client, "br0", &tun0()).await.unwrap();
    ovs.kill_switch();
    let mut tx = client.transaction();
    tx.update(
        "Interface",
        [Condition::eq("name", "tun0")],
        Columns::new().with("ofport", ovsdb::Datum::empty_set()),
    );
    client.transact(tx).await.unwrap();
    assert_eq!(interface(&client.replica(), "tun0").unwrap().ofport, None);
    ovs.start_switch();
    assert_eq!(eventually(&client, |replica| interface(replica, "tun0")?.ofport).await, 2);
    assert_eq!(ensure_port(&client, "br0", &tun0()).await.unwrap(), 2);
}

#[tokio::test]
async fn queues_come_change_and_go() {
    let ovs = Ovs::switch();
    let client = ovs.ovs_client().await;
    ensure_bridge(&client, &br0()).await.unwrap();
    ensure_port(&client, "br0", &pod("veth1")).await.unwrap();
    let config = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect::<BTreeMap<_, _>>()
    };
    let mut spec = QosSpec {
        qos_type: "linux-htb".into(),
        other_config: config(&[("max-rate", "1000000")]),
        queues: BTreeMap::from([(0, config(&[("min-rate", "10")])), (7, config(&[]))]),
        external_ids: config(&[("sandbox", "a")]),
    };
    ensure_qos(&client, "veth1", Some(&spec)).await.unwrap();
    assert_eq!(ovs.vsctl(["get", "Port", "veth1", "qos"]).len(), 36);
    assert_eq!(ovs.vsctl(["--bare", "--columns=other_config", "list", "QoS"]), "max-rate=1000000");
    assert_eq!(client.replica().table("Queue").unwrap().len(), 2);
    let generation = client.replica().generation();
    ensure_qos(&client, "veth1", Some(&spec)).await.unwrap();
    assert_eq!(client.replica().rows("QoS").next().unwrap().get("queues").unwrap().len(), 2);
    assert!(client.replica().generation() <= generation + 1, "nothing is written twice");
    spec.queues.remove(&7);
    spec.queues.insert(0, config(&[("min-rate", "20")]));
    ensure_qos(&client, "veth1", Some(&spec)).await.unwrap();
    assert_eq!(ovs.vsctl(["--bare", "--columns=other_config", "list", "Queue"]), "min-rate=20");
    assert_eq!(remove_unreferenced_qos(&client, "sandbox").await.unwrap(), 0);
    ensure_qos(&client, "veth1", None).await.unwrap();
    ensure_qos(&client, "veth1", None).await.unwrap();
    assert_eq!(ovs.vsctl(["get", "Port", "veth1", "qos"]), "[]");
    assert_eq!(ovs.vsctl(["--bare", "list", "QoS"]) + &ovs.vsctl(["--bare", "list", "Queue"]), "");
    let missing = ensure_qos(&client, "veth9", None).await.unwrap_err();
    assert_eq!(missing.to_string(), "there is no port veth9");

    // A port that somebody else deletes leaves its rows behind. Others' are not ours to remove.
    ensure_qos(&client, "veth1", Some(&spec)).await.unwrap();
    ovs.vsctl(["del-port", "veth1", "--", "create", "QoS", "type=linux-noop"]);
    eventually(&client, |replica| {
        (replica.rows("QoS").count() == 2 && replica.named("Port", "veth1").is_none()).then_some(())
    })
    .await;
    assert_eq!(remove_unreferenced_qos(&client, "sandbox").await.unwrap(), 1);
    assert_eq!(remove_unreferenced_qos(&client, "sandbox").await.unwrap(), 0);
    assert_eq!(ovs.vsctl(["--bare", "--columns=type", "list", "QoS"]), "linux-noop");
    assert_eq!(ovs.vsctl(["--bare", "list", "Queue"]), "");
}

#[tokio::test]
async fn external_ids_change_key_by_key() {
    let ovs = Ovs::switch();
    let client = ovs.ovs_client().await;
    ovs.vsctl(["set", "Open_vSwitch", ".", "external_ids={a=1,b=2}"]);
    eventually(&client, |replica| {
        replica.rows("Open_vSwitch").next()?.map_get("external_ids", "b").map(|_| ())
    })
    .await;
    let keys = BTreeMap::from([("b".to_owned(), None), ("c".to_owned(), Some("3".to_owned()))]);
    ensure_external_ids(&client, "Open_vSwitch", ".", &keys).await.unwrap();
    assert_eq!(ovs.vsctl(["get", "Open_vSwitch", ".", "external_ids"]), "{a=\"1\", c=\"3\"}");
    assert!(ensure_external_ids(&client, "Bridge", "br9", &keys).await.is_err());
}
