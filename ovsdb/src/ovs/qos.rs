//! Quality of service, and external ids by themselves.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::OvsError;
use super::ensure::{Plan, commit, within_deadline};
use crate::client::Client;
use crate::replica::{Replica, Row};
use crate::transaction::{Columns, Condition, Until};
use crate::value::{Atom, Datum};

/// The queues of a port as they should be (ovs-vswitchd.conf.db(5), QoS and Queue).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QosSpec {
    /// `linux-htb`, `linux-hfsc`, `linux-noop`...
    pub qos_type: String,
    /// The whole of `other_config`, e.g. `max-rate` in bit/s.
    pub other_config: BTreeMap<String, String>,
    /// The queues by number, 0 to 4294967295, with the whole of their `other_config`.
    pub queues: BTreeMap<u32, BTreeMap<String, String>>,
    /// The whole of the QoS row's `external_ids`, by which its owner finds it again
    /// ([`remove_unreferenced_qos`]).
    pub external_ids: BTreeMap<String, String>,
}

/// Gives a port the queues of the spec, or with `None` takes them away. Rows that nothing else refers to are reused
/// and, if they are not needed any more, removed; a QoS row that another port shares is left to that port.
///
/// # Errors
/// There is no such port; the database refuses or takes longer than [`DEADLINE`](super::DEADLINE).
pub async fn ensure_qos(client: &Client, port: &str, spec: Option<&QosSpec>) -> Result<(), OvsError> {
    let commit = commit(client, |it| {
        let row = it.replica.named("Port", port).ok_or_else(|| OvsError::NoPort(port.to_owned()))?;
        plan(it, row, spec)
    });
    within_deadline(|| format!("queues of port {port}"), commit).await.map(|_| ())
}

fn plan(it: &mut Plan<'_>, port: &Row, spec: Option<&QosSpec>) -> Result<(), OvsError> {
    let replica = it.replica;
    let current = replica.follow(port, "qos").next();
    let own = current.filter(|qos| replica.referrers("Port", qos.uuid()).count() == 1);
    let sole = |queue: &Row| is_sole(replica, queue);
    let have = own.map(|qos| queues_of(replica, qos)).unwrap_or_default();
    let Some(spec) = spec else {
        if current.is_some() {
            it.update_differences(port, Columns::new().with("qos", Datum::empty_set()))?;
        }
        // That nobody else refers to the rows by now is the server's to say: it keeps strong references.
        if let Some(qos) = own {
            it.tx.delete("QoS", [Condition::uuid(qos.uuid())]);
            for queue in have.values().filter(|queue| sole(queue)) {
                it.tx.delete("Queue", [Condition::uuid(queue.uuid())]);
            }
        }
        return Ok(());
    };
    let reused = |number: u32| have.get(&number.into()).copied().filter(|queue| sole(queue));
    let queue_changes = spec.queues.iter().any(|(&number, config)| {
        reused(number).and_then(|queue| queue.get("other_config")).is_some_and(|now| *now != config.into())
    });
    if queue_changes {
        // Another row may have begun to share a queue. No condition finds a map by its values: compare them all.
        let queues = |qos: &Arc<Row>| Some(Columns::new().with("queues", qos.get("queues")?.clone()));
        let seen: Vec<Columns> = replica.rows("QoS").filter_map(queues).collect();
        it.tx.wait("QoS", [], ["queues"], Until::Equal, seen, Some(0));
    }
    let mut queues: Vec<(Atom, Atom)> = Vec::new();
    for (&number, config) in &spec.queues {
        let columns = Columns::new().with("other_config", config);
        let queue = match reused(number) {
            Some(queue) => {
                it.update_differences(queue, columns)?;
                queue.uuid().into()
            }
            None => Atom::from(it.insert("Queue", columns)?),
        };
        queues.push((number.into(), queue));
    }
    let columns = Columns::new()
        .with("type", spec.qos_type.as_str())
        .with("other_config", &spec.other_config)
        .with("queues", Datum::map(queues))
        .with("external_ids", &spec.external_ids);
    match own {
        Some(qos) => {
            let changes = it.update_differences(qos, columns)?;
            if changes || queue_changes {
                // Another port may have begun to share the row.
                it.guard_sole_referrer(port, "qos", qos.uuid());
            }
        }
        None => {
            let qos = it.insert("QoS", columns)?;
            it.update_differences(port, Columns::new().with("qos", &qos))?;
        }
    }
    let unneeded = have.iter().filter(|(number, queue)| {
        !u32::try_from(**number).is_ok_and(|number| spec.queues.contains_key(&number)) && sole(queue)
    });
    for (_, queue) in unneeded {
        it.tx.delete("Queue", [Condition::uuid(queue.uuid())]);
    }
    Ok(())
}

/// Removes the QoS rows with this key in their `external_ids` that no port refers to, with the queues that only they
/// have: ports that others delete leave them behind, as the tables are roots of the database. Returns how many.
///
/// # Errors
/// The database refuses, also because a port refers to one of the rows by now, or takes longer than
/// [`DEADLINE`](super::DEADLINE).
pub async fn remove_unreferenced_qos(client: &Client, key: &str) -> Result<usize, OvsError> {
    let commit = commit(client, |it| {
        let replica = it.replica;
        let unreferenced = replica.rows("QoS").filter(|qos| {
            qos.map_get("external_ids", key).is_some()
                && replica.referrers("Port", qos.uuid()).next().is_none()
        });
        let mut removed = 0;
        for qos in unreferenced {
            it.tx.delete("QoS", [Condition::uuid(qos.uuid())]);
            for queue in queues_of(replica, qos).values().filter(|queue| is_sole(replica, queue)) {
                it.tx.delete("Queue", [Condition::uuid(queue.uuid())]);
            }
            removed += 1;
        }
        Ok(removed)
    });
    within_deadline(|| "queues without a port".to_owned(), commit).await.map(|(removed, _)| removed)
}

/// The queues of a QoS row by their numbers.
fn queues_of<'a>(replica: &'a Replica, qos: &Row) -> BTreeMap<i64, &'a Row> {
    let pairs = qos.get("queues").into_iter().flat_map(Datum::pairs);
    let numbered = pairs.filter_map(|(number, to)| Some((number.as_i64()?, to.as_uuid()?)));
    numbered.filter_map(|(number, to)| Some((number, &**replica.row("Queue", to)?))).collect()
}

/// Whether one QoS row has the queue and no other.
fn is_sole(replica: &Replica, queue: &Row) -> bool {
    replica.referrers("QoS", queue.uuid()).count() == 1
}

/// Sets keys of the `external_ids` of the row of a table that has this name (of the only row, for `Open_vSwitch`),
/// or with `None` removes them. Other keys stay.
///
/// # Errors
/// There is no such row; the database refuses or takes longer than [`DEADLINE`](super::DEADLINE).
pub async fn ensure_external_ids(
    client: &Client,
    table: &str,
    name: &str,
    keys: &BTreeMap<String, Option<String>>,
) -> Result<(), OvsError> {
    let commit = commit(client, |it| {
        let row = match table {
            super::DATABASE => it.replica.rows(table).next(),
            _ => it.replica.named(table, name),
        };
        let row = row.ok_or_else(|| OvsError::NoRow { table: table.to_owned(), name: name.to_owned() })?;
        let mut ids = row.get("external_ids").map(Datum::to_string_map).unwrap_or_default();
        for (key, value) in keys {
            match value {
                Some(value) => ids.insert(key.clone(), value.clone()),
                None => ids.remove(key),
            };
        }
        it.update_differences(row, Columns::new().with("external_ids", &ids)).map(|_| ())
    });
    within_deadline(|| format!("external ids of {table} {name}"), commit).await.map(|_| ())
}
