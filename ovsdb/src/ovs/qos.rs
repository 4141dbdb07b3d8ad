//! Quality of service, and external ids by themselves.

use std::collections::BTreeMap;

use super::OvsError;
use super::ensure::{commit, guard_exists, update_differences, within_deadline};
use crate::client::Client;
use crate::replica::{Replica, Row};
use crate::transaction::{Columns, Condition, Transaction};
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
}

/// Gives a port the queues of the spec, or with `None` takes them away. Rows that nothing else refers to are reused
/// and, if they are not needed any more, removed; a QoS row that another port shares is left to that port.
///
/// # Errors
/// There is no such port; the database refuses or takes longer than [`DEADLINE`](super::DEADLINE).
pub async fn ensure_qos(client: &Client, port: &str, spec: Option<&QosSpec>) -> Result<(), OvsError> {
    let commit = commit(client, |replica, tx| {
        let row = replica.named("Port", port).ok_or_else(|| OvsError::NoPort(port.to_owned()))?;
        plan(replica, tx, row, spec);
        Ok(())
    });
    within_deadline(|| format!("queues of port {port}"), commit).await.map(|_| ())
}

fn plan(replica: &Replica, tx: &mut Transaction, port: &Row, spec: Option<&QosSpec>) {
    let current = replica.follow(port, "qos").next();
    let own = current.filter(|qos| replica.referrers("Port", qos.uuid()).count() == 1);
    let queues_of = |qos: &Row| -> BTreeMap<i64, &Row> {
        let pairs = qos.get("queues").into_iter().flat_map(Datum::pairs);
        let numbered = pairs.filter_map(|(number, to)| Some((number.as_i64()?, to.as_uuid()?)));
        numbered.filter_map(|(number, to)| Some((number, &**replica.row("Queue", to)?))).collect()
    };
    let sole = |queue: &Row| replica.referrers("QoS", queue.uuid()).count() == 1;
    let have = own.map(|qos| queues_of(qos)).unwrap_or_default();
    let Some(spec) = spec else {
        if current.is_some() {
            update_differences(tx, port, Columns::new().with("qos", Datum::empty_set()));
        }
        if let Some(qos) = own {
            tx.delete("QoS", [Condition::uuid(qos.uuid())]);
            for queue in have.values().filter(|queue| sole(queue)) {
                tx.delete("Queue", [Condition::uuid(queue.uuid())]);
            }
        }
        return;
    };
    let mut queues: Vec<(Atom, Atom)> = Vec::new();
    for (&number, config) in &spec.queues {
        let columns = Columns::new().with("other_config", config);
        let queue = match have.get(&number.into()).filter(|queue| sole(queue)) {
            Some(queue) => {
                update_differences(tx, queue, columns);
                queue.uuid().into()
            }
            None => Atom::from(tx.insert("Queue", columns)),
        };
        queues.push((number.into(), queue));
    }
    let columns = Columns::new()
        .with("type", spec.qos_type.as_str())
        .with("other_config", &spec.other_config)
        .with("queues", Datum::map(queues));
    match own {
        Some(qos) => {
            update_differences(tx, qos, columns);
        }
        None => {
            guard_exists(tx, port);
            let qos = tx.insert("QoS", columns);
            update_differences(tx, port, Columns::new().with("qos", &qos));
        }
    }
    let unneeded = have.iter().filter(|(number, queue)| {
        !u32::try_from(**number).is_ok_and(|number| spec.queues.contains_key(&number)) && sole(queue)
    });
    for (_, queue) in unneeded {
        tx.delete("Queue", [Condition::uuid(queue.uuid())]);
    }
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
    let commit = commit(client, |replica, tx| {
        let row = match table {
            super::DATABASE => replica.rows(table).next(),
            _ => replica.named(table, name),
        };
        let row = row.ok_or_else(|| OvsError::NoRow { table: table.to_owned(), name: name.to_owned() })?;
        let mut ids = row.get("external_ids").map(Datum::to_string_map).unwrap_or_default();
        for (key, value) in keys {
            match value {
                Some(value) => ids.insert(key.clone(), value.clone()),
                None => ids.remove(key),
            };
        }
        update_differences(tx, row, Columns::new().with("external_ids", &ids));
        Ok(())
    });
    within_deadline(|| format!("external ids of {table} {name}"), commit).await.map(|_| ())
}
