//! The generated rows are those of the schema that is installed.

#[path = "../examples/generate_rows.rs"]
#[allow(unreachable_pub, reason = "it is an example too")]
mod generate_rows;

use ovsdb::rows::TypedRow;
use ovsdb::rows::open_vswitch::{
    Bridge, BridgeColumns, Interface, InterfaceColumns, PortColumns, QoSColumns,
};
use ovsdb::{Transaction, Uuid};

#[test]
fn the_generated_file_is_fresh() {
    let schema = std::fs::read_to_string(generate_rows::SCHEMA)
        .unwrap_or_else(|error| panic!("{}: {error}: run `make deps`", generate_rows::SCHEMA));
    let want = generate_rows::generate(&serde_json::from_str(&schema).unwrap());
    let have = std::fs::read_to_string(generate_rows::OUTPUT).unwrap();
    assert!(have == want, "stale: run `cargo run -p ovsdb --example generate_rows`");
}

#[test]
fn typed_columns_write_what_the_schema_wants() {
    let mut tx = Transaction::new("Open_vSwitch");
    let interface = InterfaceColumns::new().name("tun0").type_("internal").ofport_request(Some(2));
    let interface = tx.insert(Interface::TABLE, interface.options([("key", "flow")]));
    let port = tx.insert("Port", PortColumns::new().name("tun0").interfaces([&interface]).trunks([1, 2]));
    let queue = tx.insert("Queue", ovsdb::Columns::new());
    tx.insert("QoS", QoSColumns::new().type_("linux-htb").queues([(0, &queue)]));
    tx.insert(Bridge::TABLE, BridgeColumns::new().name("br0").ports([port]).stp_enable(false));
    let schema = std::fs::read_to_string(generate_rows::SCHEMA).unwrap();
    tx.check(&serde_json::from_str(&schema).unwrap()).unwrap();
    tx.update("Bridge", [ovsdb::Condition::uuid(Uuid::ZERO)], BridgeColumns::new().fail_mode(Some("open")));
    let error = tx.check(&serde_json::from_str(&schema).unwrap()).unwrap_err();
    assert_eq!(error.column, "fail_mode");
}
