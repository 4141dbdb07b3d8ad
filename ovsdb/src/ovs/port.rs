//! Ports.

use super::ensure::{Root, commit, guard_exists, merged, reported, update_differences, within_deadline};
use super::{DEADLINE, InterfaceView, OvsError, PortSpec};
use crate::client::Client;
use crate::replica::{Replica, Row};
use crate::transaction::{Columns, Condition, Mutation, NewRow, OpIndex, Transaction};
use crate::value::{Datum, Uuid};

/// What a plan found or made.
enum Planned {
    /// The interface is as it should be.
    AsIs(Uuid),
    /// It is there and changes.
    Changed(Uuid, OpIndex),
    New(NewRow),
}

/// Makes a port as the spec says on a bridge, in one transaction, and returns its OpenFlow port number once
/// `ovs-vswitchd` has given it one.
///
/// # Errors
/// There is no such bridge; the name is taken; the database refuses; `ovs-vswitchd` can't set the interface up, and
/// says why (at once for a new port; for one that existed, whose error may be an old one, after [`DEADLINE`]);
/// database or switch take longer than [`DEADLINE`].
pub async fn ensure_port(client: &Client, bridge: &str, spec: &PortSpec) -> Result<u16, OvsError> {
    let what = || format!("port {} on {bridge}", spec.name);
    let commit = commit(client, |replica, tx| plan(replica, tx, bridge, spec));
    let (planned, reply) = within_deadline(what, commit).await?;
    let (uuid, new) = match &planned {
        Planned::AsIs(uuid) | Planned::Changed(uuid, _) => (Some(*uuid), false),
        Planned::New(row) => (reply.as_ref().and_then(|reply| reply.inserted(row)), true),
    };
    let settled = async {
        if let (Planned::Changed(_, report), Some(reply)) = (&planned, &reply) {
            // The number in the replica may still be that of before.
            reported(client, reply, *report).await;
        }
        // The reply to a commit has the UUID of each insert.
        let Some(uuid) = uuid else { return std::future::pending().await };
        client
            .wait_for_row("Interface", uuid, |row| {
                let view = InterfaceView::new(row?);
                match (view.ofport, view.error) {
                    (Some(ofport), _) => Some(Ok(ofport)),
                    (None, Some(error)) if new => Some(Err(error)),
                    _ => None,
                }
            })
            .await
    };
    let failed = |error| OvsError::Interface { name: spec.name.clone(), error };
    match tokio::time::timeout(DEADLINE, settled).await {
        Ok(settled) => settled.map_err(failed),
        Err(_) => {
            let replica = client.replica();
            let error = uuid.and_then(|uuid| replica.row("Interface", uuid)?.str("error"));
            Err(match error {
                Some(error) => failed(error.to_owned()),
                None => OvsError::SwitchDeadline { what: what(), after: DEADLINE },
            })
        }
    }
}

/// The interface's columns that the spec decides.
fn columns(spec: &PortSpec, row: Option<&Row>) -> Columns {
    Columns::new()
        .with("type", spec.interface_type.as_str())
        .with("options", &spec.options)
        .with("ofport_request", Datum::option(spec.ofport_request))
        .with("mtu_request", Datum::option(spec.mtu_request))
        .with("mac", Datum::option(spec.mac.as_deref()))
        .with("external_ids", merged(row, "external_ids", &spec.external_ids))
}

fn plan(replica: &Replica, tx: &mut Transaction, bridge: &str, spec: &PortSpec) -> Result<Planned, OvsError> {
    let bridge = replica.named("Bridge", bridge).ok_or_else(|| OvsError::NoBridge(bridge.to_owned()))?;
    let name = spec.name.as_str();
    let taken = |owner: &Row| OvsError::PortElsewhere {
        port: name.to_owned(),
        owner: format!("{} {}", owner.table().to_lowercase(), owner.str("name").unwrap_or_default()),
    };
    let port = replica.named("Port", name);
    let interface = replica.named("Interface", name);
    if let Some(port) = port
        && let Some(owner) =
            replica.referrers("Bridge", port.uuid()).find(|owner| owner.uuid() != bridge.uuid())
    {
        return Err(taken(owner));
    }
    if let Some(interface) = interface
        && let Some(owner) = replica
            .referrers("Port", interface.uuid())
            .find(|owner| port.is_none_or(|port| port.uuid() != owner.uuid()))
    {
        return Err(taken(owner));
    }
    match (port, interface) {
        (Some(_), Some(interface)) => {
            if !update_differences(tx, interface, columns(spec, Some(interface))) {
                return Ok(Planned::AsIs(interface.uuid()));
            }
            let report = Root::find_or_insert(replica, tx).request_report(tx);
            Ok(Planned::Changed(interface.uuid(), report))
        }
        (Some(bond), None) => Err(taken(bond)),
        (None, _) => {
            guard_exists(tx, bridge);
            let interface = tx.insert("Interface", columns(spec, None).with("name", name));
            let port = tx.insert("Port", Columns::new().with("name", name).with("interfaces", &interface));
            tx.mutate("Bridge", [Condition::uuid(bridge.uuid())], [Mutation::insert("ports", &port)]);
            Ok(Planned::New(interface))
        }
    }
}

/// Removes a port from a bridge; does nothing if the bridge has no such port. Returns after the commit and does not
/// wait for `ovs-vswitchd`.
///
/// # Errors
/// The database refuses or takes longer than [`DEADLINE`].
pub async fn delete_port(client: &Client, bridge: &str, name: &str) -> Result<(), OvsError> {
    let commit = commit(client, |replica, tx| {
        let port = replica.named("Port", name);
        if let (Some(bridge), Some(port)) = (replica.named("Bridge", bridge), port)
            && replica.referrers("Bridge", port.uuid()).any(|owner| owner.uuid() == bridge.uuid())
        {
            // Nothing refers to port and interface any more: the server collects them.
            tx.mutate("Bridge", [Condition::uuid(bridge.uuid())], [Mutation::delete("ports", port.uuid())]);
        }
        Ok(())
    });
    within_deadline(|| format!("deleting port {name} from {bridge}"), commit).await.map(|_| ())
}
