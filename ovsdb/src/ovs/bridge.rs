//! Bridges.

use super::ensure::{Root, commit, merged, reported, update_differences, within_deadline};
use super::{BridgeSpec, DEADLINE, FailMode, OvsError};
use crate::client::Client;
use crate::replica::{Replica, Row};
use crate::transaction::{Columns, Condition, Mutation, OpIndex, Transaction};
use crate::value::Datum;

/// Makes a bridge as the spec says, with its own internal port, and returns when `ovs-vswitchd` has set it up: its
/// management socket `BRIDGE.mgmt` then accepts connections.
///
/// # Errors
/// The database refuses, or database or switch take longer than [`DEADLINE`].
pub async fn ensure_bridge(client: &Client, spec: &BridgeSpec) -> Result<(), OvsError> {
    let what = || format!("bridge {}", spec.name);
    let commit = commit(client, |replica, tx| Ok(plan(replica, tx, spec)));
    let (report, reply) = within_deadline(what, commit).await?;
    let (Some(report), Some(reply)) = (report, reply) else { return Ok(()) };
    tokio::time::timeout(DEADLINE, reported(client, &reply, report))
        .await
        .map_err(|_| OvsError::SwitchDeadline { what: what(), after: DEADLINE })
}

/// The bridge's columns that the spec decides.
fn columns(spec: &BridgeSpec, row: Option<&Row>) -> Columns {
    Columns::new()
        .with("fail_mode", Datum::option(spec.fail_mode.map(FailMode::text)))
        .with("protocols", Datum::set(&spec.protocols))
        .with("datapath_type", spec.datapath_type.as_str())
        .with("external_ids", merged(row, "external_ids", &spec.external_ids))
        .with("other_config", merged(row, "other_config", &spec.other_config))
}

fn plan(replica: &Replica, tx: &mut Transaction, spec: &BridgeSpec) -> Option<OpIndex> {
    let root = match replica.named("Bridge", &spec.name) {
        Some(row) => {
            if !update_differences(tx, row, columns(spec, Some(row))) {
                return None;
            }
            Root::find_or_insert(replica, tx)
        }
        None => {
            let root = Root::find_or_insert(replica, tx);
            let name = spec.name.as_str();
            let interface =
                tx.insert("Interface", Columns::new().with("name", name).with("type", "internal"));
            let port = tx.insert("Port", Columns::new().with("name", name).with("interfaces", &interface));
            let bridge = tx.insert("Bridge", columns(spec, None).with("name", name).with("ports", &port));
            tx.mutate("Open_vSwitch", [root.condition()], [Mutation::insert("bridges", &bridge)]);
            root
        }
    };
    Some(root.request_report(tx))
}

/// Removes a bridge with all its ports; does nothing if there is none. Does not wait for `ovs-vswitchd`.
///
/// # Errors
/// The database refuses or takes longer than [`DEADLINE`].
pub async fn delete_bridge(client: &Client, name: &str) -> Result<(), OvsError> {
    let commit = commit(client, |replica, tx| {
        if let Some(bridge) = replica.named("Bridge", name) {
            for root in replica.referrers("Open_vSwitch", bridge.uuid()) {
                tx.mutate(
                    "Open_vSwitch",
                    [Condition::uuid(root.uuid())],
                    [Mutation::delete("bridges", bridge.uuid())],
                );
            }
        }
        Ok(())
    });
    within_deadline(|| format!("deleting bridge {name}"), commit).await.map(|_| ())
}
