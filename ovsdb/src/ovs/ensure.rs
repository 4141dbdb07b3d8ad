//! Plan, send, look again: the loop behind every `ensure_*`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{DEADLINE, OvsError};
use crate::client::Client;
use crate::replica::{Replica, Row};
use crate::transaction::{Columns, ErrorKind, OpIndex, Reply, TransactError, Transaction, Until};
use crate::value::{Datum, Uuid};

/// How long a refused transaction waits for the replica to show what the server saw and we did not.
const CATCH_UP: Duration = Duration::from_secs(1);

/// Plans on the current replica and commits until there is nothing left to plan or the commit succeeds. Returns
/// the last plan's own result with the reply, which is `None` if nothing had to be sent.
pub(super) async fn commit<T>(
    client: &Client,
    plan: impl Fn(&Replica, &mut Transaction) -> Result<T, OvsError>,
) -> Result<(T, Option<Reply>), OvsError> {
    loop {
        client.wait_connected().await;
        let replica = client.replica();
        let mut transaction = client.transaction();
        let planned = plan(&replica, &mut transaction)?;
        if transaction.is_empty() {
            return Ok((planned, None));
        }
        match client.transact(transaction).await {
            Ok(reply) => return Ok((planned, Some(reply))),
            // Nothing was done, or it shows in the replica after the reconnect: plan again.
            Err(TransactError::NotConnected(_) | TransactError::OutcomeUnknown(_)) => {}
            Err(error) if may_be_stale(&error) => {
                let newer = client.wait_for(|now| (now.generation() != replica.generation()).then_some(()));
                if tokio::time::timeout(CATCH_UP, newer).await.is_err() {
                    // The replica was current, so the refusal is about the plan itself.
                    return Err(error.into());
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether a refusal can come from planning on a replica that a second writer has overtaken: a guard that failed, a
/// name that exists by now, a row that is gone.
fn may_be_stale(error: &TransactError) -> bool {
    error.refused().is_some_and(|refused| {
        matches!(
            refused.kind,
            ErrorKind::TimedOut | ErrorKind::ConstraintViolation | ErrorKind::ReferentialIntegrityViolation
        )
    })
}

/// Puts [`DEADLINE`] around what talks to the database only.
pub(super) async fn within_deadline<T>(
    what: impl FnOnce() -> String,
    work: impl Future<Output = Result<T, OvsError>>,
) -> Result<T, OvsError> {
    match tokio::time::timeout(DEADLINE, work).await {
        Ok(done) => done,
        Err(_) => Err(OvsError::DatabaseDeadline { what: what(), after: DEADLINE }),
    }
}

/// The columns of `want` that differ from the row's, as an update guarded by the values seen. Columns that the
/// server's schema lacks are left out. Returns whether anything differs.
pub(super) fn update_differences(tx: &mut Transaction, row: &Row, want: Columns) -> bool {
    let (mut new, mut seen) = (Columns::new(), Columns::new());
    for (column, value) in want.iter() {
        if let Some(now) = row.get(column).filter(|now| *now != value) {
            new.set(column, value.clone());
            seen.set(column, now.clone());
        }
    }
    if new.is_empty() {
        return false;
    }
    tx.guard(row.table(), row.uuid(), seen);
    tx.update(row.table(), [crate::transaction::Condition::uuid(row.uuid())], new);
    true
}

/// A row's map with the given keys set.
pub(super) fn merged(row: Option<&Row>, column: &str, keys: &BTreeMap<String, String>) -> Datum {
    let mut map = row.and_then(|row| row.get(column)).map(Datum::to_string_map).unwrap_or_default();
    map.extend(keys.iter().map(|(key, value)| (key.clone(), value.clone())));
    Datum::map(map)
}

/// Fails the transaction if a row has gone since we saw it.
pub(super) fn guard_exists(tx: &mut Transaction, row: &Row) {
    if let Some(name) = row.get("name") {
        tx.guard(row.table(), row.uuid(), Columns::new().with("name", name.clone()));
    }
}

/// The only row of the table `Open_vSwitch`, which a fresh database lacks until someone inserts it.
pub(super) enum Root {
    Row(Uuid),
    New(crate::transaction::NewRow),
}

impl Root {
    pub(super) fn find_or_insert(replica: &Replica, tx: &mut Transaction) -> Root {
        match replica.rows("Open_vSwitch").next() {
            Some(row) => Root::Row(row.uuid()),
            None => {
                // Of two clients that both see an empty table only one may insert.
                tx.wait("Open_vSwitch", [], ["_uuid"], Until::Equal, [], Some(0));
                Root::New(tx.insert("Open_vSwitch", Columns::new()))
            }
        }
    }

    pub(super) fn condition(&self) -> crate::transaction::Condition {
        match self {
            Root::Row(uuid) => crate::transaction::Condition::uuid(*uuid),
            Root::New(row) => crate::transaction::Condition::eq("_uuid", row),
        }
    }

    /// Asks `ovs-vswitchd` to report when it has carried out this transaction (ovs-vswitchd.conf.db(5), Open_vSwitch, `next_cfg`).
    /// The operation returned selects the number that `cur_cfg` will reach.
    pub(super) fn request_report(&self, tx: &mut Transaction) -> OpIndex {
        tx.mutate("Open_vSwitch", [self.condition()], [crate::transaction::Mutation::add("next_cfg", 1)]);
        tx.select("Open_vSwitch", [self.condition()], ["next_cfg"])
    }
}

/// Waits for the report asked for by [`Root::request_report`].
pub(super) async fn reported(client: &Client, reply: &Reply, report: OpIndex) {
    let Some(number) = reply.rows(report).first().and_then(|row| row.get("next_cfg")?.as_i64()) else {
        return;
    };
    client
        .wait_for(|replica| {
            let current = replica.rows("Open_vSwitch").next()?.i64("cur_cfg")?;
            (current >= number).then_some(())
        })
        .await;
}
