//! Bridges.

use super::ensure::{Plan, asked_number, commit, is_reported, merged, report_number, within_deadline};
use super::{BridgeSpec, DEADLINE, FailMode, InterfaceView, OvsError};
use crate::client::Client;
use crate::replica::{Replica, Row};
use crate::transaction::{Columns, Condition, Mutation, OpIndex};
use crate::value::Datum;

/// Makes a bridge as the spec says, with its own internal port, and returns when `ovs-vswitchd` has set it up, whoever
/// asked it to: its management socket `BRIDGE.mgmt` then accepts connections.
///
/// # Errors
/// The database refuses; `ovs-vswitchd` can't make the bridge; someone deletes it meanwhile; database or switch take
/// longer than [`DEADLINE`].
pub async fn ensure_bridge(client: &Client, spec: &BridgeSpec) -> Result<(), OvsError> {
    let what = || format!("bridge {}", spec.name);
    let commit = commit(client, |it| plan(it, spec));
    let (report, reply) = within_deadline(what, commit).await?;
    let own = report.zip(reply).and_then(|(report, reply)| report_number(&reply, report));
    let number = own.or_else(|| asked_number(&client.replica()));
    let made = client.wait_for(|replica| state(replica, spec, number, own.is_some()));
    let error = match tokio::time::timeout(DEADLINE, made).await {
        Ok(made) => return made,
        Err(_) => own_interface(&client.replica(), &spec.name).and_then(|interface| interface.error),
    };
    Err(match error {
        Some(error) => OvsError::Interface { name: spec.name.clone(), error },
        None => OvsError::SwitchDeadline { what: what(), after: DEADLINE },
    })
}

/// A bridge's own port's interface.
fn own_interface(replica: &Replica, bridge: &str) -> Option<InterfaceView> {
    let ports = replica.follow(replica.named("Bridge", bridge)?, "ports");
    let port = ports.into_iter().find(|port| port.str("name") == Some(bridge))?;
    replica.follow(port, "interfaces").next().map(|row| InterfaceView::new(row))
}

/// What became of the bridge, once that is known: the switch has come up to `number` and the bridge's own interface
/// has its OpenFlow port. Both stand in one transaction of the switch, so that if the number is that of our own change
/// and there is no port, there won't be one.
fn state(
    replica: &Replica,
    spec: &BridgeSpec,
    number: Option<i64>,
    is_own: bool,
) -> Option<Result<(), OvsError>> {
    let Some(interface) = own_interface(replica, &spec.name) else {
        let (what, deleted) = (format!("bridge {}", spec.name), "it".to_owned());
        return Some(Err(OvsError::Deleted { what, deleted }));
    };
    if number.is_some_and(|number| !is_reported(replica, number)) {
        return None;
    }
    match interface {
        InterfaceView { ofport: Some(_), .. } => Some(Ok(())),
        InterfaceView { name, error: Some(error), .. } if is_own => {
            Some(Err(OvsError::Interface { name, error }))
        }
        InterfaceView { name, .. } if is_own => {
            Some(Err(OvsError::Bridge { name, datapath_type: spec.datapath_type.clone() }))
        }
        _ => None,
    }
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

fn plan(it: &mut Plan<'_>, spec: &BridgeSpec) -> Result<Option<OpIndex>, OvsError> {
    let root = match it.replica.named("Bridge", &spec.name) {
        Some(row) => {
            if !it.update_differences(row, columns(spec, Some(row)))? {
                return Ok(None);
            }
            it.root()?
        }
        None => {
            let root = it.root()?;
            let name = spec.name.as_str();
            let interface =
                it.insert("Interface", Columns::new().with("name", name).with("type", "internal"))?;
            let port = it.insert("Port", Columns::new().with("name", name).with("interfaces", &interface))?;
            let bridge = it.insert("Bridge", columns(spec, None).with("name", name).with("ports", &port))?;
            it.tx.mutate("Open_vSwitch", [root.condition()], [Mutation::insert("bridges", &bridge)]);
            root
        }
    };
    Ok(it.request_report(&root))
}

/// Removes a bridge with all its ports; does nothing if there is none. Does not wait for `ovs-vswitchd`.
///
/// # Errors
/// The database refuses or takes longer than [`DEADLINE`].
pub async fn delete_bridge(client: &Client, name: &str) -> Result<(), OvsError> {
    let commit = commit(client, |Plan { replica, tx, .. }| {
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
