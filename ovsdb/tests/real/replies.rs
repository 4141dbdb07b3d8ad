//! The same done by the tools of Open vSwitch and by us gives the same.

use std::collections::{BTreeMap, HashMap};

use ovsdb::ovs::{BridgeSpec, FailMode, PortSpec, delete_port, ensure_bridge, ensure_port};
use ovsdb::{Columns, Condition, Datum, Function, Mutation, Mutator, Replica, Transaction, Until, Uuid};

use crate::harness::Ovs;
use crate::replica::everything;

/// Transactions that succeed and fail in every way, each on what those before have left.
fn transactions() -> Vec<Transaction> {
    let mut all = Vec::new();
    let mut add = |build: &dyn Fn(&mut Transaction)| {
        let mut tx = Transaction::new("Open_vSwitch");
        build(&mut tx);
        all.push(tx);
    };
    let missing = Uuid([7; 16]);
    add(&|tx| {
        let interface = tx.insert(
            "Interface",
            Columns::new().with("name", "p1").with("external_ids", Datum::map([("ä", "\"\\")])),
        );
        let port = tx.insert("Port", Columns::new().with("name", "p1").with("interfaces", &interface));
        let bridge = tx.insert("Bridge", Columns::new().with("name", "b1").with("ports", &port));
        tx.insert("Open_vSwitch", Columns::new().with("bridges", &bridge));
        tx.comment("all at once");
        tx.commit_durably();
    });
    add(&|tx| {
        tx.select(
            "Bridge",
            [Condition::eq("name", "b1")],
            ["name", "fail_mode", "flood_vlans", "external_ids", "stp_enable"],
        );
        tx.select("Port", [], ["name", "interfaces"]);
        tx.select("Port", [Condition::new("name", Function::NotEqual, "p1")], ["name"]);
        tx.select("Open_vSwitch", [Condition::new("next_cfg", Function::Less, 1)], ["next_cfg"]);
        tx.select(
            "Interface",
            [Condition::includes("external_ids", Datum::map([("ä", "\"\\")]))],
            ["external_ids"],
        );
        tx.select(
            "Interface",
            [Condition::new("external_ids", Function::Excludes, Datum::map([("ä", "x")]))],
            ["name"],
        );
    });
    add(&|tx| {
        tx.update(
            "Bridge",
            [],
            Columns::new().with("fail_mode", "secure").with("flood_vlans", Datum::set([3, 1])),
        );
        tx.mutate(
            "Bridge",
            [],
            [Mutation::insert("flood_vlans", Datum::set([1, 2])), Mutation::delete("flood_vlans", 3)],
        );
        tx.select("Bridge", [], ["fail_mode", "flood_vlans"]);
    });
    for (mutator, operand) in [
        (Mutator::Add, 7),
        (Mutator::Multiply, 6),
        (Mutator::Subtract, 2),
        (Mutator::Divide, 3),
        (Mutator::Modulo, 5),
        (Mutator::Divide, 0),
        (Mutator::Multiply, i64::MAX),
    ] {
        add(&|tx| {
            tx.mutate("Open_vSwitch", [], [Mutation::new("next_cfg", mutator, operand)]);
            tx.select("Open_vSwitch", [], ["next_cfg"]);
        });
    }
    add(&|tx| {
        tx.wait("Bridge", [], ["name"], Until::Equal, [Columns::new().with("name", "b1")], Some(0));
        tx.wait("Bridge", [], ["name"], Until::NotEqual, [Columns::new().with("name", "b2")], Some(0));
    });
    add(&|tx| {
        tx.comment("before");
        tx.wait("Bridge", [], ["name"], Until::Equal, [Columns::new().with("name", "b2")], Some(0));
        tx.delete("Bridge", []);
    });
    add(&|tx| {
        let _ = tx.abort();
    });
    add(&|tx| {
        let _ = tx.assert_lock("nobody");
    });
    add(&|tx| {
        let _ = tx.insert("No_Such", Columns::new());
    });
    add(&|tx| {
        let _ = tx.insert("Bridge", Columns::new().with("no_such", 1));
    });
    add(&|tx| {
        let _ = tx.insert("Bridge", Columns::new().with("name", 1));
    });
    add(&|tx| {
        let _ = tx.update("Bridge", [], Columns::new().with("name", "b2"));
    });
    add(&|tx| {
        let _ = tx.update("Bridge", [], Columns::new().with("fail_mode", "open"));
    });
    add(&|tx| {
        let _ = tx.insert("Port", Columns::new().with("name", "p2"));
    });
    add(&|tx| {
        let _ = tx.insert("Bridge", Columns::new().with("name", "b1"));
    });
    add(&|tx| {
        let _ = tx.mutate("Bridge", [], [Mutation::insert("ports", missing)]);
    });
    add(&|tx| {
        let _ = tx.delete("Port", []);
    });
    add(&|tx| {
        let _ = tx.mutate("Bridge", [], [Mutation::delete("ports", missing)]);
    });
    add(&|tx| {
        let _ = tx.insert("Open_vSwitch", Columns::new());
    });
    add(&|tx| {
        tx.delete("Open_vSwitch", []);
        tx.delete("Bridge", []);
    });
    add(&|tx| {
        for table in ["Bridge", "Port", "Interface", "Open_vSwitch"] {
            tx.select(table, [], ["_uuid"]);
        }
    });
    all
}

/// UUIDs by the order in which they appear.
fn renamed(json: &str) -> String {
    let mut names = HashMap::new();
    let mut out = String::new();
    let mut rest = json;
    while !rest.is_empty() {
        if let Some(uuid) = rest.get(..36).and_then(|text| text.parse::<Uuid>().ok()) {
            let next = names.len();
            out.push_str(&format!("uuid{}", names.entry(uuid).or_insert(next)));
            rest = &rest[36..];
        } else {
            let first = rest.chars().next().unwrap();
            out.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    out
}

#[tokio::test]
async fn replies_are_those_of_ovsdb_client() {
    let (theirs, raw, typed) = (Ovs::server(), Ovs::server(), Ovs::server());
    let (raw, typed) = (raw.ovs_client().await, (typed.ovs_client().await, typed));
    let socket = format!("unix:{}", theirs.socket().display());
    for tx in transactions() {
        let json = serde_json::to_string(&tx).unwrap();
        let said = theirs.run("ovsdb-client", ["transact", &socket, &json]);
        let want: serde_json::Value = serde_json::from_str(&renamed(&said)).unwrap();
        let answer = raw.call("transact", &tx).await.unwrap();
        let have: serde_json::Value = serde_json::from_str(&renamed(answer.get())).unwrap();
        assert_eq!(have, want, "{json}");
        let failed = want.as_array().unwrap().iter().position(|result| result.get("error").is_some());
        match (typed.0.transact(tx.clone()).await, failed) {
            (Ok(reply), None) => assert_eq!(reply.results().len(), tx.operations().len()),
            (Err(error), Some(at)) => {
                let refused = error.refused().unwrap_or_else(|| panic!("{json}: {error}"));
                assert_eq!(refused.kind.text(), want[at]["error"], "{json}");
                let raw: serde_json::Value = serde_json::from_str(&said).unwrap();
                let details = raw[at]["details"].as_str().unwrap_or_default();
                assert_eq!(renamed(&refused.details), renamed(details), "{json}");
                assert_eq!(
                    refused.op.map(|op| op.0),
                    Some(at).filter(|at| *at < tx.operations().len()),
                    "{json}"
                );
            }
            (outcome, _) => panic!("{json}: {outcome:?}, where ovsdb-client says {said}"),
        }
    }
}

/// What someone configured, by names instead of UUIDs, without what the switch reports.
fn configuration(replica: &Replica) -> BTreeMap<String, BTreeMap<String, String>> {
    let columns = [
        ("Bridge", &["fail_mode", "protocols", "datapath_type", "external_ids", "other_config", "ports"][..]),
        ("Port", &["interfaces", "tag", "trunks", "external_ids", "other_config"]),
        (
            "Interface",
            &[
                "type",
                "options",
                "ofport_request",
                "mtu_request",
                "mac",
                "external_ids",
                "other_config",
                "ofport",
            ],
        ),
    ];
    let mut all = BTreeMap::new();
    for (table, columns) in columns {
        for row in replica.rows(table) {
            let value = |column: &str| {
                let mut names: Vec<&str> =
                    replica.follow(row, column).filter_map(|row| row.str("name")).collect();
                names.sort_unstable();
                if names.is_empty() { row.get(column).unwrap().to_string() } else { names.join(" ") }
            };
            let values = columns.iter().map(|column| ((*column).to_owned(), value(column))).collect();
            all.insert(format!("{table} {}", row.str("name").unwrap()), values);
        }
    }
    let root = replica.rows("Open_vSwitch").next().unwrap();
    let bridges = replica.follow(root, "bridges").filter_map(|row| row.str("name")).collect();
    all.insert("Open_vSwitch".to_owned(), BTreeMap::from([("bridges".to_owned(), bridges)]));
    for table in replica
        .tables()
        .filter(|table| !["Bridge", "Port", "Interface", "Open_vSwitch"].contains(&table.name()))
    {
        all.insert(table.name().to_owned(), BTreeMap::from([("rows".to_owned(), table.len().to_string())]));
    }
    all
}

#[tokio::test]
async fn set_up_by_ovs_vsctl_and_by_us_is_the_same_database() {
    let (theirs, ours) = (Ovs::switch(), Ovs::switch());
    theirs.vsctl([
        "add-br",
        "br0",
        "--",
        "set",
        "Bridge",
        "br0",
        "fail_mode=secure",
        "protocols=OpenFlow13",
        "datapath_type=netdev",
        "external_ids:owner=sdn",
    ]);
    theirs.vsctl([
        "add-port",
        "br0",
        "vxlan0",
        "--",
        "set",
        "Interface",
        "vxlan0",
        "type=vxlan",
        "ofport_request=1",
        "options:remote_ip=flow",
        "options:key=flow",
        "options:dst_port=4789",
    ]);
    theirs.vsctl([
        "add-port",
        "br0",
        "tun0",
        "--",
        "set",
        "Interface",
        "tun0",
        "type=internal",
        "ofport_request=2",
        "mtu_request=1450",
        "mac=\"0a:58:0a:80:00:01\"",
    ]);
    theirs.vsctl([
        "add-port",
        "br0",
        "veth1",
        "--",
        "set",
        "Interface",
        "veth1",
        "external_ids:ip=10.128.0.2",
    ]);
    theirs.vsctl(["add-port", "br0", "veth2"]);
    theirs.vsctl(["del-port", "br0", "veth2"]);

    let client = ours.client(everything()).await;
    let owned = |pairs: &[(&str, &str)]| pairs.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
    ensure_bridge(
        &client,
        &BridgeSpec {
            fail_mode: Some(FailMode::Secure),
            protocols: vec!["OpenFlow13".into()],
            datapath_type: "netdev".into(),
            external_ids: owned(&[("owner", "sdn")]),
            ..BridgeSpec::new("br0")
        },
    )
    .await
    .unwrap();
    let ports = [
        PortSpec {
            interface_type: "vxlan".into(),
            ofport_request: Some(1),
            options: owned(&[("remote_ip", "flow"), ("key", "flow"), ("dst_port", "4789")]),
            ..PortSpec::new("vxlan0")
        },
        PortSpec {
            interface_type: "internal".into(),
            ofport_request: Some(2),
            mtu_request: Some(1450),
            mac: Some("0a:58:0a:80:00:01".into()),
            ..PortSpec::new("tun0")
        },
        PortSpec { external_ids: owned(&[("ip", "10.128.0.2")]), ..PortSpec::new("veth1") },
        PortSpec::new("veth2"),
    ];
    for port in &ports {
        ensure_port(&client, "br0", port).await.unwrap();
    }
    delete_port(&client, "br0", "veth2").await.unwrap();
    let reference = theirs.client(everything()).await;
    assert_eq!(configuration(&client.replica()), configuration(&reference.replica()));
}
