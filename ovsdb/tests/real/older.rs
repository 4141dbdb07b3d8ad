//! A server whose schema lacks columns that the installed one has.

use std::collections::BTreeMap;

use ovsdb::ovs::{
    BridgeSpec, FailMode, OvsError, PortSpec, delete_bridge, delete_port, ensure_bridge, ensure_external_ids,
    ensure_port, ensure_qos, interface,
};
use serde_json::Value;

use crate::harness::{Ovs, vswitch_schema};

/// What the functions can't do without: names, types, and what refers to what.
const NEEDED: [(&str, &str); 8] = [
    ("Open_vSwitch", "bridges"),
    ("Bridge", "name"),
    ("Bridge", "ports"),
    ("Port", "name"),
    ("Port", "interfaces"),
    ("Interface", "name"),
    ("Interface", "type"),
    // All columns of that table are in use, and one it must have.
    ("QoS", "type"),
];

/// A server of the installed schema without some columns.
fn without(columns: &[(&str, &str)]) -> Ovs {
    let text = std::fs::read_to_string(vswitch_schema()).unwrap();
    let mut schema: Value = serde_json::from_str(&text).unwrap();
    for (table, column) in columns {
        let columns = schema["tables"][table]["columns"].as_object_mut().unwrap();
        assert!(columns.remove(*column).is_some(), "{table}.{column}");
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("older.ovsschema");
    std::fs::write(&path, schema.to_string()).unwrap();
    Ovs::with_schema(&path, &[])
}

/// Every column in use but those needed.
fn droppable() -> Vec<(&'static str, &'static str)> {
    let monitored = ovsdb::ovs::monitored();
    let schema: ovsdb::DatabaseSchema =
        serde_json::from_str(&std::fs::read_to_string(vswitch_schema()).unwrap()).unwrap();
    let mut all = Vec::new();
    for (table, wanted) in monitored.tables() {
        for column in schema.tables[table].columns.keys().filter(|column| wanted.wants(column)) {
            let pair: (&str, &str) = (table, column);
            if !NEEDED.contains(&pair) {
                all.push((&*table.clone().leak(), &*column.clone().leak()));
            }
        }
    }
    all
}

#[tokio::test]
async fn bridges_and_ports_come_and_go_without_what_is_not_needed() {
    // The switch writes these in the transaction with the port numbers, which fails as a whole.
    let written =
        ["cur_cfg", "ovs_version", "datapath_id", "ofport", "error", "link_state", "mac_in_use", "mtu"];
    let keep = |column: &str| column == "datapath_type" || written.contains(&column);
    let dropped: Vec<_> = droppable().into_iter().filter(|(_, column)| !keep(column)).collect();
    assert!(dropped.len() > 15 && dropped.contains(&("Interface", "mtu_request")), "{dropped:?}");
    let mut ovs = without(&dropped);
    ovs.start_switch();
    let client = ovs.ovs_client().await;
    let bridge = BridgeSpec { datapath_type: "dummy".into(), ..BridgeSpec::new("br0") };
    let port = PortSpec { interface_type: "internal".into(), ..PortSpec::new("p") };
    for _ in 0..2 {
        ensure_bridge(&client, &bridge).await.unwrap();
        assert!(ensure_port(&client, "br0", &port).await.unwrap() > 0);
        ensure_qos(&client, "p", None).await.unwrap();
    }
    assert_eq!(interface(&client.replica(), "p").unwrap().interface_type, "internal");
    delete_port(&client, "br0", "p").await.unwrap();
    assert!(interface(&client.replica(), "p").is_none());
    delete_bridge(&client, "br0").await.unwrap();
    assert_eq!(client.replica().table("Bridge").unwrap().len(), 0);
}

#[tokio::test]
async fn each_column_may_be_missing_by_itself() {
    for column in droppable() {
        let ovs = without(&[column]);
        let client = ovs.ovs_client().await;
        // There is no switch: the database has it all, and nobody reports.
        let (bridge, port) = (BridgeSpec::new("br0"), PortSpec::new("p"));
        let both = async {
            let made = ensure_bridge(&client, &bridge);
            let ported = async {
                client.wait_for(|replica| replica.named("Bridge", "br0").map(|_| ())).await;
                ensure_port(&client, "br0", &port).await
            };
            tokio::try_join!(made, ported)
        };
        let there = crate::harness::eventually(&client, |replica| replica.named("Port", "p").map(|_| ()));
        tokio::select! {
            biased;
            () = there => {}
            outcome = both => panic!("{column:?}: {outcome:?}"),
        }
        delete_port(&client, "br0", "p").await.unwrap();
    }
}

#[tokio::test]
async fn what_is_asked_for_and_missing_is_said() {
    let ovs = without(&[("Interface", "mtu_request"), ("Bridge", "fail_mode"), ("Bridge", "external_ids")]);
    ovs.vsctl(["--no-wait", "init"]);
    let client = ovs.ovs_client().await;
    let bridge = BridgeSpec { fail_mode: Some(FailMode::Secure), ..BridgeSpec::new("br0") };
    let error = ensure_bridge(&client, &bridge).await.unwrap_err();
    assert!(matches!(&error, OvsError::NoColumn { column, .. } if column == "fail_mode"), "{error}");
    assert!(client.replica().named("Bridge", "br0").is_none(), "nothing was done");

    ovs.vsctl(["--no-wait", "add-br", "br0", "--", "add-port", "br0", "p"]);
    crate::harness::eventually(&client, |replica| replica.named("Port", "p").map(|_| ())).await;
    let port = PortSpec { mtu_request: Some(1450), ..PortSpec::new("p") };
    let error = ensure_port(&client, "br0", &port).await.unwrap_err().to_string();
    assert_eq!(
        error,
        "the server's schema has no column mtu_request in table Interface, which is to be 1450: Open vSwitch is too old"
    );
    let keys = BTreeMap::from([("a".to_owned(), Some("1".to_owned()))]);
    let error = ensure_external_ids(&client, "Bridge", "br0", &keys).await.unwrap_err().to_string();
    assert!(error.contains("no column external_ids in table Bridge"), "{error}");

    let narrow = ovs.client(ovsdb::Monitored::new().table("Bridge", ["name", "ports"])).await;
    let error = ensure_bridge(&narrow, &BridgeSpec::new("br0")).await.unwrap_err();
    assert!(matches!(&error, OvsError::NotMonitored { table, .. } if table == "Bridge"), "{error}");
}
