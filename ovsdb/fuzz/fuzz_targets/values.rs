//! Values, schemas, endpoints and UUIDs from any text; what is accepted survives a round trip.
//!
//! `cargo +nightly fuzz run values` in `ovsdb/`
#![no_main]

use libfuzzer_sys::fuzz_target;
use ovsdb::{Datum, DatabaseSchema, Endpoint, Uuid};

fuzz_target!(|text: &str| {
    if let Ok(datum) = serde_json::from_str::<Datum>(text) {
        let written = serde_json::to_string(&datum).expect("values can be written");
        assert_eq!(serde_json::from_str::<Datum>(&written).expect("what we write we read"), datum);
        let _ = datum.to_string();
    }
    if let Ok(schema) = serde_json::from_str::<DatabaseSchema>(text) {
        for table in schema.tables.values() {
            for column in table.columns.values() {
                let _ = column.column_type.check(column.column_type.default_datum());
            }
        }
    }
    if let Ok(uuid) = text.parse::<Uuid>() {
        assert_eq!(uuid.to_string(), text.to_lowercase());
    }
    if let Ok(endpoint) = text.parse::<Endpoint>() {
        assert_eq!(endpoint.to_string().parse::<Endpoint>().expect("what we print we parse"), endpoint);
    }
});
