//! The database `Open_vSwitch`: ensuring bridges and ports, reading interfaces.
//!
//! The `ensure_*` functions read the replica, send one transaction with only what differs, guarded so that a second
//! writer is never overwritten, and wait until `ovs-vswitchd` has acted. Called again with nothing changed they
//! send nothing and wait only for what the switch has been asked for by then: that it has ended since does not show in
//! the database, [`confirm`] asks it. After a lost connection they look again and go on, so an unknown outcome is
//! decided by what the database says. A [`PortWriter`] joins what many callers ask for at once.
//!
//! Column semantics: the spec decides `type`, `options`, `protocols`, `fail_mode`, `datapath_type`, `ofport_request`,
//! `mtu_request` and `mac` alone. Of `external_ids` and `other_config` it decides the keys that it names; others are
//! someone else's and stay. Of two writers with different specs one wins in whole.
//!
//! A server whose schema lacks a column works as long as the spec asks for nothing but the column's default.

mod bridge;
mod ensure;
mod port;
mod qos;
mod writer;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::monitor::Monitored;
use crate::replica::{Replica, Row};
use crate::transaction::TransactError;
use crate::value::Uuid;

pub use bridge::{delete_bridge, ensure_bridge};
pub use ensure::confirm;
pub use port::{delete_port, ensure_port};
pub use qos::{QosSpec, ensure_external_ids, ensure_qos, remove_unreferenced_qos};
pub use writer::PortWriter;

/// The name of the database.
pub const DATABASE: &str = "Open_vSwitch";

/// How long the functions of this module try before they give up.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// The OpenFlow number of a bridge's own port, `OFPP_LOCAL` as the database writes it.
pub const OFPORT_LOCAL: u16 = 65534;

/// What to monitor for this module's functions.
pub fn monitored() -> Monitored {
    Monitored::new()
        .table("Open_vSwitch", ["bridges", "next_cfg", "cur_cfg", "ovs_version", "external_ids"])
        .table(
            "Bridge",
            [
                "name",
                "ports",
                "fail_mode",
                "protocols",
                "datapath_type",
                "datapath_id",
                "external_ids",
                "other_config",
            ],
        )
        .table("Port", ["name", "interfaces", "external_ids", "qos"])
        .table("QoS", ["type", "other_config", "queues", "external_ids"])
        .table("Queue", ["other_config"])
        .table(
            "Interface",
            [
                "name",
                "type",
                "options",
                "ofport",
                "ofport_request",
                "mac",
                "mac_in_use",
                "mtu",
                "mtu_request",
                "error",
                "link_state",
                "external_ids",
            ],
        )
}

/// What a bridge does while no controller is connected (ovs-vswitchd.conf.db(5), Bridge, `fail_mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailMode {
    /// Forwards like a learning switch.
    Standalone,
    /// Leaves the flows alone; without flows, drops.
    Secure,
}

impl FailMode {
    /// The database's word.
    pub fn text(self) -> &'static str {
        match self {
            FailMode::Standalone => "standalone",
            FailMode::Secure => "secure",
        }
    }
}

/// A bridge as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeSpec {
    /// Its name, also that of its own (internal) port.
    pub name: String,
    /// Unset leaves the switch's default, standalone.
    pub fail_mode: Option<FailMode>,
    /// OpenFlow versions, e.g. `OpenFlow13`; none leaves the switch's default.
    pub protocols: Vec<String>,
    /// `system` (the same as empty) or `netdev`.
    pub datapath_type: String,
    /// Keys to set; others stay.
    pub external_ids: BTreeMap<String, String>,
    /// Keys to set; others stay.
    pub other_config: BTreeMap<String, String>,
}

impl BridgeSpec {
    /// A bridge with nothing but a name.
    pub fn new(name: impl Into<String>) -> BridgeSpec {
        BridgeSpec {
            name: name.into(),
            fail_mode: None,
            protocols: Vec::new(),
            datapath_type: String::new(),
            external_ids: BTreeMap::new(),
            other_config: BTreeMap::new(),
        }
    }
}

/// A port with one interface of the same name, as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortSpec {
    /// The name of port, interface and network device.
    pub name: String,
    /// `internal`, `vxlan`, `patch`...; empty for a device that exists already.
    pub interface_type: String,
    /// The interface's options; all of them.
    pub options: BTreeMap<String, String>,
    /// The OpenFlow port number wanted, 1-65279.
    pub ofport_request: Option<u16>,
    /// The MTU wanted, 68-65535.
    pub mtu_request: Option<u32>,
    /// The Ethernet address wanted, `xx:xx:xx:xx:xx:xx`.
    pub mac: Option<String>,
    /// Keys to set on the interface; others stay.
    pub external_ids: BTreeMap<String, String>,
}

impl PortSpec {
    /// A port for an existing device.
    pub fn new(name: impl Into<String>) -> PortSpec {
        PortSpec {
            name: name.into(),
            interface_type: String::new(),
            options: BTreeMap::new(),
            ofport_request: None,
            mtu_request: None,
            mac: None,
            external_ids: BTreeMap::new(),
        }
    }
}

/// Why the switch is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum OvsError {
    /// The transaction failed.
    #[error(transparent)]
    Transact(#[from] TransactError),
    /// There is no such bridge.
    #[error("there is no bridge {0}")]
    NoBridge(String),
    /// There is no such port.
    #[error("there is no port {0}")]
    NoPort(String),
    /// There is no such row.
    #[error("table {table} has no row {name}")]
    NoRow {
        /// The table.
        table: String,
        /// The name looked for.
        name: String,
    },
    /// The server's schema is older than what the spec asks for.
    #[error(
        "the server's schema has no column {column} in table {table}, which is to be {value}: Open vSwitch is too old"
    )]
    NoColumn {
        /// The table.
        table: String,
        /// The column that it lacks.
        column: String,
        /// The value wanted.
        value: String,
    },
    /// The client does not monitor what has to be compared.
    #[error("the client does not monitor column {column} of table {table}: connect it with ovs::monitored()")]
    NotMonitored {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// The port's name is taken.
    #[error("port {port} belongs to {owner}: delete it there first")]
    PortElsewhere {
        /// The port.
        port: String,
        /// The bridge or port that has it.
        owner: String,
    },
    /// `ovs-vswitchd` could not set the interface up.
    #[error("ovs-vswitchd could not set up interface {name}: {error}")]
    Interface {
        /// The interface.
        name: String,
        /// The switch's text.
        error: String,
    },
    /// `ovs-vswitchd` has acted on the change and made no bridge.
    #[error(
        "ovs-vswitchd could not make bridge {name} with datapath type {datapath_type:?}: its log says why"
    )]
    Bridge {
        /// The bridge.
        name: String,
        /// The type of its datapath, empty for the default.
        datapath_type: String,
    },
    /// Someone else deleted what was being set up.
    #[error("{what}: {deleted} was deleted by someone else before ovs-vswitchd had set it up")]
    Deleted {
        /// What was to be done.
        what: String,
        /// What has gone.
        deleted: String,
    },
    /// The database was not reached in time.
    #[error("{what}: not done within {} s: the database does not answer", .after.as_secs())]
    DatabaseDeadline {
        /// What was to be done.
        what: String,
        /// The time it had.
        after: Duration,
    },
    /// The database has it, `ovs-vswitchd` did not act in time.
    #[error("{what}: not done within {} s by ovs-vswitchd (is it running?)", .after.as_secs())]
    SwitchDeadline {
        /// What was to be done.
        what: String,
        /// The time it had.
        after: Duration,
    },
}

/// An interface as the database shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceView {
    /// Its row.
    pub uuid: Uuid,
    /// Its name.
    pub name: String,
    /// Its OpenFlow port number once `ovs-vswitchd` gave one ([`OFPORT_LOCAL`] for the bridge's own); `None` before
    /// and after a failure.
    pub ofport: Option<u16>,
    /// The number asked for.
    pub ofport_request: Option<u16>,
    /// The Ethernet address that it has.
    pub mac_in_use: Option<String>,
    /// `internal`, `vxlan`...; empty for system devices.
    pub interface_type: String,
    /// Its options.
    pub options: BTreeMap<String, String>,
    /// Its external ids.
    pub external_ids: BTreeMap<String, String>,
    /// What went wrong when the switch set it up.
    pub error: Option<String>,
    /// `up` or `down`.
    pub link_state: Option<String>,
    /// The MTU that it has.
    pub mtu: Option<u32>,
}

impl InterfaceView {
    fn new(row: &Row) -> InterfaceView {
        let map = |column| row.get(column).map(|datum| datum.to_string_map()).unwrap_or_default();
        let text = |column| row.str(column).map(str::to_owned);
        let number = |column| row.i64(column).and_then(|value| u16::try_from(value).ok());
        InterfaceView {
            uuid: row.uuid(),
            name: text("name").unwrap_or_default(),
            ofport: number("ofport").filter(|ofport| *ofport != 0),
            ofport_request: number("ofport_request"),
            mac_in_use: text("mac_in_use"),
            interface_type: text("type").unwrap_or_default(),
            options: map("options"),
            external_ids: map("external_ids"),
            error: text("error"),
            link_state: text("link_state"),
            mtu: row.i64("mtu").and_then(|value| u32::try_from(value).ok()),
        }
    }
}

/// The rows of a bridge's interfaces, in no order, for who needs a few columns of many; none if there is no such bridge.
pub fn interface_rows<'a>(replica: &'a Replica, bridge: &str) -> impl Iterator<Item = &'a Arc<Row>> {
    let ports =
        replica.named("Bridge", bridge).into_iter().flat_map(|bridge| replica.follow(bridge, "ports"));
    ports.flat_map(|port| replica.follow(port, "interfaces"))
}

/// The interfaces of a bridge in the order of their names; none if there is no such bridge.
pub fn interfaces(replica: &Replica, bridge: &str) -> Vec<InterfaceView> {
    let mut views: Vec<InterfaceView> =
        interface_rows(replica, bridge).map(|row| InterfaceView::new(row)).collect();
    views.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    views
}

/// An interface by its name, on whatever bridge.
pub fn interface(replica: &Replica, name: &str) -> Option<InterfaceView> {
    replica.named("Interface", name).map(|row| InterfaceView::new(row))
}
