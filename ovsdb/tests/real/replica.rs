//! The replica against `ovsdb-client dump`.

use std::collections::BTreeMap;

use ovsdb::{Datum, Monitored, Replica};

use crate::harness::{LONG, Ovs};

/// `ovsdb-client dump` as values: table → rows, each column → datum.
pub(crate) fn dump(ovs: &Ovs, socket: &str, db: &str) -> BTreeMap<String, Vec<BTreeMap<String, Datum>>> {
    #[derive(serde::Deserialize)]
    struct Table {
        caption: String,
        headings: Vec<String>,
        data: Vec<Vec<Datum>>,
    }
    let text = ovs.run("ovsdb-client", ["-f", "json", "dump", socket, db]);
    let tables = serde_json::Deserializer::from_str(&text).into_iter::<Table>();
    tables
        .map(|table| {
            let Table { caption, headings, data } = table.unwrap();
            let mut rows: Vec<BTreeMap<String, Datum>> =
                data.into_iter().map(|row| headings.iter().cloned().zip(row).collect()).collect();
            rows.sort();
            (caption.trim_end_matches(" table").to_owned(), rows)
        })
        .collect()
}

/// The replica in the same form.
pub(crate) fn as_dump(replica: &Replica) -> BTreeMap<String, Vec<BTreeMap<String, Datum>>> {
    let tables = replica.tables().map(|table| {
        let row = |row: &std::sync::Arc<ovsdb::Row>| {
            let columns = row.columns().map(|(name, datum)| (name.to_owned(), datum.clone()));
            columns.chain([("_uuid".to_owned(), row.uuid().into())]).collect()
        };
        let mut rows: Vec<BTreeMap<String, Datum>> = table.rows().map(row).collect();
        rows.sort();
        (table.name().to_owned(), rows)
    });
    tables.collect()
}

pub(crate) fn everything() -> Monitored {
    Monitored::everything()
}

#[tokio::test]
async fn the_replica_is_the_dump() {
    let ovs = Ovs::switch();
    let client = ovs.client(everything()).await;
    ovs.vsctl(["add-br", "br0", "--", "set", "Bridge", "br0", "datapath_type=dummy", "flood_vlans=[1,2,3]"]);
    ovs.vsctl([
        "add-port",
        "br0",
        "p1",
        "--",
        "set",
        "Port",
        "p1",
        "tag=7",
        "--",
        "set",
        "Interface",
        "p1",
        "external_ids={a=1,b=2}",
    ]);
    ovs.vsctl([
        "set",
        "Port",
        "p1",
        "qos=@q",
        "--",
        "--id=@q",
        "create",
        "QoS",
        "type=linux-htb",
        "queues=0=@a",
        "--",
        "--id=@a",
        "create",
        "Queue",
        "other_config:max-rate=1000",
    ]);
    ovs.vsctl([
        "--",
        "--id=@p",
        "get",
        "Port",
        "p1",
        "--",
        "--id=@m",
        "create",
        "Mirror",
        "name=m",
        "select-all=true",
        "output-port=@p",
        "--",
        "set",
        "Bridge",
        "br0",
        "mirrors=@m",
    ]);
    ovs.vsctl([
        "set",
        "Bridge",
        "br0",
        "flood_vlans=[2,3,4]",
        "--",
        "set",
        "Interface",
        "p1",
        "external_ids={b=3,c=4}",
    ]);
    ovs.vsctl(["clear", "Bridge", "br0", "mirrors", "--", "clear", "Port", "p1", "qos"]);
    // The switch writes counters now and then: look until both looks agree.
    let socket = format!("unix:{}", ovs.socket().display());
    let mut changes = client.changes();
    loop {
        changes.borrow_and_update();
        let (ours, theirs) = (as_dump(&client.replica()), dump(&ovs, &socket, "Open_vSwitch"));
        if ours == theirs {
            assert!(theirs["Mirror"].is_empty() && theirs["Queue"].len() == 1, "{theirs:#?}");
            break;
        }
        let changed = tokio::time::timeout(LONG, changes.changed()).await;
        assert!(changed.is_ok(), "ours:\n{ours:#?}\ntheirs:\n{theirs:#?}");
    }
}

#[tokio::test]
async fn typed_views_read_what_the_switch_wrote() {
    use ovsdb::rows::TypedRow;
    use ovsdb::rows::open_vswitch::{Bridge, Interface, OpenVSwitch, Port};

    let ovs = Ovs::switch();
    let client = ovs.client(everything()).await;
    ovs.vsctl(["add-br", "br0", "--", "set", "Bridge", "br0", "protocols=OpenFlow13,OpenFlow15"]);
    ovs.vsctl([
        "add-port",
        "br0",
        "p1",
        "--",
        "set",
        "Port",
        "p1",
        "trunks=7,5",
        "--",
        "set",
        "Interface",
        "p1",
        "ofport_request=9",
        "external_ids:a=b",
    ]);
    let filled = |replica: &Replica| {
        let interface = replica.named("Interface", "p1")?;
        (!interface.get("statistics")?.is_empty()).then_some(())
    };
    crate::harness::eventually(&client, filled).await;
    let replica = client.replica();
    let root = replica.typed::<OpenVSwitch<'_>>().next().unwrap();
    let bridges: Vec<Bridge<'_>> = root.bridges_rows(&replica).collect();
    assert_eq!(bridges.len(), 1);
    assert_eq!(bridges[0].name(), Some("br0"));
    assert_eq!(bridges[0].protocols().collect::<Vec<_>>(), ["OpenFlow13", "OpenFlow15"]);
    let port: Port<'_> = bridges[0].ports_rows(&replica).find(|port| port.name() == Some("p1")).unwrap();
    assert_eq!(port.trunks().collect::<Vec<_>>(), [5, 7]);
    let interface: Interface<'_> = port.interfaces_rows(&replica).next().unwrap();
    assert_eq!((interface.ofport(), interface.ofport_request()), (Some(9), Some(9)));
    assert_eq!(interface.external_ids().collect::<Vec<_>>(), [("a", "b")]);
    assert!(interface.statistics().any(|(name, _)| name == "rx_packets"));
    assert_eq!(replica.typed_row::<Interface<'_>>(interface.uuid()).unwrap().name(), Some("p1"));
}

#[tokio::test]
async fn the_text_is_that_of_ovsdb_client() {
    let ovs = Ovs::server();
    ovs.vsctl([
        "--no-wait",
        "--",
        "init",
        "--",
        "add-br",
        "br0",
        "--",
        "add-port",
        "br0",
        "p1",
        "--",
        "add-port",
        "br0",
        "p0",
        "--",
        "set",
        "Interface",
        "p1",
        "external_ids={a=\"x y\",b=\"\\\\ \\\"\",true=\"true\",c=1x,d=\"\"}",
        "options:x=-1",
        "--",
        "set",
        "Bridge",
        "br0",
        "flood_vlans=[3,1]",
        "other_config:u=00000000-0000-0000-0000-000000000000",
    ]);
    let client = ovs.client(everything()).await;
    let socket = format!("unix:{}", ovs.socket().display());
    let theirs = ovs.run("ovsdb-client", ["dump", &socket, "Open_vSwitch"]);
    assert_eq!(ovsdb::text::dump(&client.replica(), None), theirs);
    let theirs = ovs.run("ovsdb-client", ["dump", &socket, "Open_vSwitch", "Port"]);
    assert_eq!(ovsdb::text::dump(&client.replica(), Some("Port")), theirs);
}
