//! Plan, send, look again: the loop behind every `ensure_*`.

use std::collections::BTreeMap;

use super::{DEADLINE, OvsError};
use crate::client::Client;
use crate::replica::{Replica, Row};
use crate::schema::DatabaseSchema;
use crate::transaction::{
    Columns, Condition, Mutation, NewRow, OpIndex, Reply, TransactError, Transaction, Until,
};
use crate::value::{Datum, Uuid};

/// Plans on the current replica and commits until there is nothing left to plan or the commit succeeds. Returns
/// the last plan's own result with the reply, which is `None` if nothing had to be sent.
pub(super) async fn commit<T>(
    client: &Client,
    make: impl Fn(&mut Plan<'_>) -> Result<T, OvsError>,
) -> Result<(T, Option<Reply>), OvsError> {
    let plan = |replica: &Replica| {
        let no_schema = || TransactError::NotConnected("the server has sent no schema yet".to_owned());
        let schema = client.schema().ok_or_else(no_schema)?;
        let mut plan = Plan::new(client, replica, &schema);
        Ok((make(&mut plan)?, plan.tx))
    };
    client.transact_planned(plan).await
}

/// Returns when `ovs-vswitchd` has carried out all that the database holds now, whoever wrote it: it lives, and the port
/// numbers that the replica then shows are its own and not those of a switch that has ended. Writes one number, also if
/// nothing has changed.
///
/// # Errors
/// The database refuses; the server's schema can't ask; database or switch take longer than
/// [`DEADLINE`].
pub async fn confirm(client: &Client) -> Result<(), OvsError> {
    let what = || "carrying out what the database holds".to_owned();
    let commit = commit(client, |it| {
        let root = it.root()?;
        it.request_report(&root).ok_or_else(|| OvsError::NoColumn {
            table: "Open_vSwitch".to_owned(),
            column: "next_cfg or cur_cfg".to_owned(),
            value: "a number".to_owned(),
        })
    });
    let (report, reply) = within_deadline(what, commit).await?;
    let number = reply.and_then(|reply| report_number(&reply, report));
    let number = number.ok_or_else(|| TransactError::Malformed("no next_cfg is selected".to_owned()))?;
    let reported = client.wait_for(|replica| is_reported(replica, number).then_some(()));
    let late = |_| OvsError::SwitchDeadline { what: what(), after: DEADLINE };
    tokio::time::timeout(DEADLINE, reported).await.map_err(late)
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

/// A row's map with the given keys set.
pub(super) fn merged(row: Option<&Row>, column: &str, keys: &BTreeMap<String, String>) -> Datum {
    let mut map = row.and_then(|row| row.get(column)).map(Datum::to_string_map).unwrap_or_default();
    map.extend(keys.iter().map(|(key, value)| (key.clone(), value.clone())));
    Datum::map(map)
}

/// A transaction in the making, on what the replica shows and for what the server's schema has.
pub(super) struct Plan<'r> {
    pub(super) replica: &'r Replica,
    schema: &'r DatabaseSchema,
    pub(super) tx: Transaction,
}

impl<'r> Plan<'r> {
    pub(super) fn new(client: &Client, replica: &'r Replica, schema: &'r DatabaseSchema) -> Plan<'r> {
        Plan { replica, schema, tx: client.transaction() }
    }

    /// Plans a part of the transaction, which is left out in whole if that fails.
    pub(super) fn attempt<T>(
        &mut self,
        make: impl FnOnce(&mut Self) -> Result<T, OvsError>,
    ) -> Result<T, OvsError> {
        let before = self.tx.operations().len();
        let made = make(self);
        if made.is_err() {
            self.tx.truncate(before);
        }
        made
    }

    /// What the server's schema has of these columns. One that it lacks may be left out as long as nothing but its
    /// default is asked for.
    fn known(&self, table: &str, want: Columns) -> Result<Columns, OvsError> {
        let mut known = Columns::new();
        for (column, value) in want.iter() {
            if self.schema.has_column(table, column) {
                known.set(column, value.clone());
            } else if !(value.is_empty() || value.as_str() == Some("")) {
                return Err(OvsError::NoColumn {
                    table: table.to_owned(),
                    column: column.to_owned(),
                    value: value.to_string(),
                });
            }
        }
        Ok(known)
    }

    /// Inserts a row with those of the columns that the server's schema has.
    pub(super) fn insert(&mut self, table: &str, columns: Columns) -> Result<NewRow, OvsError> {
        let columns = self.known(table, columns)?;
        Ok(self.tx.insert(table, columns))
    }

    /// The columns of `want` that differ from the row's, as an update. All of `want` is guarded by the values seen,
    /// also where nothing differs: of two writers with different wishes one must win in whole. Returns whether
    /// anything differs.
    pub(super) fn update_differences(&mut self, row: &Row, want: Columns) -> Result<bool, OvsError> {
        let want = self.known(row.table(), want)?;
        let (mut new, mut seen) = (Columns::new(), Columns::new());
        for (column, value) in want.iter() {
            let now = row.get(column).ok_or_else(|| OvsError::NotMonitored {
                table: row.table().to_owned(),
                column: column.to_owned(),
            })?;
            seen.set(column, now.clone());
            if now != value {
                new.set(column, value.clone());
            }
        }
        if new.is_empty() {
            return Ok(false);
        }
        self.tx.guard(row.table(), row.uuid(), seen);
        self.tx.update(row.table(), [Condition::uuid(row.uuid())], new);
        Ok(true)
    }

    /// Fails the transaction if a row has gone since we saw it.
    pub(super) fn guard_exists(&mut self, table: &str, row: Uuid) {
        self.tx.guard(table, row, Columns::new().with("_uuid", row));
    }

    /// Fails the transaction unless just this row refers through the column to that one.
    pub(super) fn guard_sole_referrer(&mut self, row: &Row, column: &str, to: Uuid) {
        let only = Columns::new().with("_uuid", row.uuid());
        let refers = Condition::includes(column, to);
        self.tx.wait(row.table(), [refers], ["_uuid"], Until::Equal, [only], Some(0));
    }

    /// The only row of the table `Open_vSwitch`, which a fresh database lacks until someone inserts it. Fails the
    /// transaction if it has gone since.
    pub(super) fn root(&mut self) -> Result<Root, OvsError> {
        match self.replica.rows("Open_vSwitch").next() {
            Some(row) => {
                self.guard_exists("Open_vSwitch", row.uuid());
                Ok(Root::Row(row.uuid()))
            }
            // Of two clients that both see an empty table only one may insert: the schema allows one row.
            None => Ok(Root::New(self.insert("Open_vSwitch", Columns::new())?)),
        }
    }

    /// Asks `ovs-vswitchd` to report when it has carried out this transaction (ovs-vswitchd.conf.db(5), Open_vSwitch,
    /// `next_cfg`). The operation returned selects the number that `cur_cfg` will reach; there is none if the schema has
    /// no such columns.
    pub(super) fn request_report(&mut self, root: &Root) -> Option<OpIndex> {
        if !["next_cfg", "cur_cfg"].iter().all(|column| self.schema.has_column("Open_vSwitch", column)) {
            return None;
        }
        self.tx.mutate("Open_vSwitch", [root.condition()], [Mutation::add("next_cfg", 1)]);
        Some(self.tx.select("Open_vSwitch", [root.condition()], ["next_cfg"]))
    }
}

/// See [`Plan::root`].
pub(super) enum Root {
    Row(Uuid),
    New(NewRow),
}

impl Root {
    pub(super) fn condition(&self) -> Condition {
        match self {
            Root::Row(uuid) => Condition::uuid(*uuid),
            Root::New(row) => Condition::eq("_uuid", row),
        }
    }
}

/// The number asked for by [`Plan::request_report`].
pub(super) fn report_number(reply: &Reply, report: OpIndex) -> Option<i64> {
    reply.rows(report).first()?.get("next_cfg")?.as_i64()
}

/// The number that `ovs-vswitchd` has been asked for by now, by whomever. Where nothing has to be sent, another writer, or
/// we before a lost connection, may have asked a moment ago, and what the replica shows is from before.
pub(super) fn asked_number(replica: &Replica) -> Option<i64> {
    let root = replica.rows("Open_vSwitch").next()?;
    root.get("cur_cfg")?;
    root.i64("next_cfg")
}

/// Whether `ovs-vswitchd` has carried out everything up to this number.
pub(super) fn is_reported(replica: &Replica, number: i64) -> bool {
    let root = replica.rows("Open_vSwitch").next();
    root.and_then(|root| root.i64("cur_cfg")).is_some_and(|current| current >= number)
}
