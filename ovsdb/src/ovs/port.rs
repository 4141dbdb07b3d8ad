//! Ports.

use super::ensure::{Plan, asked_number, commit, is_reported, merged, report_number, within_deadline};
use super::{DEADLINE, InterfaceView, OvsError, PortSpec};
use crate::client::Client;
use crate::replica::{Replica, Row};
use crate::transaction::{Columns, Condition, Mutation, NewRow, OpIndex, Reply, Until};
use crate::value::{Datum, Uuid};

/// What a plan found or made.
#[derive(Debug)]
pub(super) enum Planned {
    /// The interface is as it should be.
    AsIs(Uuid),
    /// It is there and changes.
    Changed(Uuid, Option<OpIndex>),
    New(NewRow),
    /// The port goes, or is not there.
    Deleted,
}

/// Makes a port as the spec says on a bridge, in one transaction, and returns its OpenFlow port number once
/// `ovs-vswitchd` has given it one.
///
/// # Errors
/// There is no such bridge; the name is taken; the database refuses; someone deletes the port or its bridge meanwhile;
/// `ovs-vswitchd` can't set the interface up, and says why (at once for a new port; for one that existed, whose error
/// may be an old one, after [`DEADLINE`]); database or switch take longer than [`DEADLINE`].
pub async fn ensure_port(client: &Client, bridge: &str, spec: &PortSpec) -> Result<u16, OvsError> {
    let commit = commit(client, |it| plan_ensure(it, bridge, spec));
    let (planned, reply) = within_deadline(|| what(bridge, spec), commit).await?;
    settled(client, bridge, spec, &planned, reply.as_ref()).await
}

fn what(bridge: &str, spec: &PortSpec) -> String {
    format!("port {} on {bridge}", spec.name)
}

/// Waits until `ovs-vswitchd` has acted on what was committed for a port; its OpenFlow port number.
pub(super) async fn settled(
    client: &Client,
    bridge: &str,
    spec: &PortSpec,
    planned: &Planned,
    reply: Option<&Reply>,
) -> Result<u16, OvsError> {
    let (uuid, new) = match planned {
        Planned::AsIs(uuid) | Planned::Changed(uuid, _) => (Some(*uuid), false),
        // The reply to a commit has the UUID of each insert.
        Planned::New(row) => (reply.and_then(|reply| reply.inserted(row)), true),
        Planned::Deleted => (None, false),
    };
    let number = match (planned, reply) {
        // The port number in the replica may still be that of before.
        (Planned::Changed(_, Some(report)), Some(reply)) => report_number(reply, *report),
        (Planned::AsIs(_), _) => asked_number(&client.replica()),
        _ => None,
    };
    let deleted = |replica: &Replica| OvsError::Deleted {
        what: what(bridge, spec),
        deleted: match (replica.named("Bridge", bridge), replica.named("Port", &spec.name)) {
            (None, _) => format!("bridge {bridge}"),
            (Some(_), None) => format!("port {}", spec.name),
            (Some(_), Some(_)) => "its interface (another has taken the name)".to_owned(),
        },
    };
    let failed = |error| OvsError::Interface { name: spec.name.clone(), error };
    let row = |replica: &Replica| Some(InterfaceView::new(replica.row("Interface", uuid?)?));
    let settled = async {
        if let Some(number) = number {
            client
                .wait_for(|replica| (row(replica).is_none() || is_reported(replica, number)).then_some(()))
                .await;
        }
        // ovsdb-server tells of a transaction's changes before it answers the transaction: a row that the replica
        // lacks has gone again.
        let Some(uuid) = uuid else { return Err(deleted(&client.replica())) };
        client
            .wait_for_row("Interface", uuid, |row| {
                let Some(row) = row else { return Some(Err(deleted(&client.replica()))) };
                match InterfaceView::new(row) {
                    InterfaceView { ofport: Some(ofport), .. } => Some(Ok(ofport)),
                    InterfaceView { error: Some(error), .. } if new => Some(Err(failed(error))),
                    _ => None,
                }
            })
            .await
    };
    match tokio::time::timeout(DEADLINE, settled).await {
        Ok(settled) => settled,
        Err(_) => Err(match row(&client.replica()).and_then(|interface| interface.error) {
            Some(error) => failed(error),
            None => OvsError::SwitchDeadline { what: what(bridge, spec), after: DEADLINE },
        }),
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

pub(super) fn plan_ensure(it: &mut Plan<'_>, bridge: &str, spec: &PortSpec) -> Result<Planned, OvsError> {
    let replica = it.replica;
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
        (Some(port), Some(interface)) => {
            if !it.update_differences(interface, columns(spec, Some(interface)))? {
                // A number that is not the one asked for is from before the asking, or the other was taken.
                let other = |ofport| spec.ofport_request.is_some_and(|asked| asked != ofport);
                if !InterfaceView::new(interface).ofport.is_some_and(other) {
                    return Ok(Planned::AsIs(interface.uuid()));
                }
            }
            // It may have moved to another bridge since.
            let still = [Condition::uuid(bridge.uuid()), Condition::includes("ports", port.uuid())];
            let row = Columns::new().with("_uuid", bridge.uuid());
            it.tx.wait("Bridge", still, ["_uuid"], Until::Equal, [row], Some(0));
            let root = it.root()?;
            Ok(Planned::Changed(interface.uuid(), it.request_report(&root)))
        }
        (Some(bond), None) => Err(taken(bond)),
        (None, _) => {
            it.guard_exists("Bridge", bridge.uuid());
            let interface = it.insert("Interface", columns(spec, None).with("name", name))?;
            let port = it.insert("Port", Columns::new().with("name", name).with("interfaces", &interface))?;
            it.tx.mutate("Bridge", [Condition::uuid(bridge.uuid())], [Mutation::insert("ports", &port)]);
            Ok(Planned::New(interface))
        }
    }
}

/// Removes a port from a bridge; does nothing if the bridge has no such port. Returns after the commit and does not
/// wait for `ovs-vswitchd`. Rows of QoS and Queue stay, as with `ovs-vsctl del-port`: take them away before with
/// [`ensure_qos`](super::ensure_qos).
///
/// # Errors
/// The database refuses or takes longer than [`DEADLINE`].
pub async fn delete_port(client: &Client, bridge: &str, name: &str) -> Result<(), OvsError> {
    let commit = commit(client, |it| plan_delete(it, bridge, name));
    within_deadline(|| format!("deleting port {name} from {bridge}"), commit).await.map(|_| ())
}

pub(super) fn plan_delete(it: &mut Plan<'_>, bridge: &str, name: &str) -> Result<Planned, OvsError> {
    let replica = it.replica;
    let port = replica.named("Port", name);
    if let (Some(bridge), Some(port)) = (replica.named("Bridge", bridge), port)
        && replica.referrers("Bridge", port.uuid()).any(|owner| owner.uuid() == bridge.uuid())
    {
        // Nothing refers to port and interface any more: the server collects them.
        it.tx.mutate("Bridge", [Condition::uuid(bridge.uuid())], [Mutation::delete("ports", port.uuid())]);
    }
    Ok(Planned::Deleted)
}
