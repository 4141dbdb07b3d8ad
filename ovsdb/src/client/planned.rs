//! Plan, send, look again.

use std::time::Duration;

use super::Client;
use crate::replica::Replica;
use crate::transaction::{ErrorKind, Reply, TransactError, Transaction};

/// How long a refused transaction waits for the replica to show what the server saw and we did not.
const CATCH_UP: Duration = Duration::from_secs(1);

impl Client {
    /// Plans on the current replica and commits, again after each cut of the connection and each guard that fails, until
    /// the plan is empty or the server has answered. Returns what the last plan came with and the reply: `None` if nothing
    /// had to be sent, or if an earlier try was carried out and its reply is lost. The replica shows it then.
    ///
    /// This is how a write is done once, not at least once. A transaction whose connection was cut can still be on its way,
    /// and a cluster may commit it after the next connection has begun: no look at the replica can tell that it will
    /// *not* be done. So let each plan carry a guard ([`Transaction::guard`], [`Transaction::guard_none`]) that fails once
    /// it is done, and look in the replica for what it would do.
    ///
    /// ```no_run
    /// # use ovsdb::{Client, Columns, Condition, Datum, Mutation, TransactError};
    /// # async fn example(client: Client) -> Result<(), TransactError> {
    /// let mine = Datum::map([("owner", "me")]);
    /// client
    ///     .transact_planned(|replica| {
    ///         let mut tx = client.transaction();
    ///         let root = replica.rows("Open_vSwitch").next();
    ///         if root.and_then(|root| root.map_get("external_ids", "owner")).is_none() {
    ///             tx.guard_none("Open_vSwitch", [Condition::includes("external_ids", mine.clone())]);
    ///             tx.mutate("Open_vSwitch", [], [Mutation::insert("external_ids", mine.clone())]);
    ///         }
    ///         Ok::<_, TransactError>(((), tx))
    ///     })
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// It waits as long as there is no connection: put a timeout around it.
    ///
    /// # Errors
    /// What `plan` returns; [`TransactError::Refused`] when the server refuses a plan on a replica that was current, or the
    /// same plan twice; [`TransactError::Value`]. Never [`TransactError::OutcomeUnknown`].
    pub async fn transact_planned<T, E: From<TransactError>>(
        &self,
        mut plan: impl FnMut(&Replica) -> Result<(T, Transaction), E>,
    ) -> Result<(T, Option<Reply>), E> {
        let mut refused: Option<(Transaction, TransactError)> = None;
        loop {
            self.wait_connected().await;
            let replica = self.replica();
            let (planned, tx) = plan(&replica)?;
            if tx.is_empty() {
                return Ok((planned, None));
            }
            if let Some((_, error)) = refused.take_if(|(before, _)| *before == tx) {
                // What else happened in the database changes nothing in the plan: the refusal is about the plan itself.
                return Err(error.into());
            }
            match self.transact(tx.clone()).await {
                Ok(reply) => return Ok((planned, Some(reply))),
                // Nothing was done, or it shows in the replica after the reconnect, or a guard will fail: plan again.
                Err(TransactError::NotConnected(_) | TransactError::OutcomeUnknown(_)) => {}
                Err(error) if may_be_stale(&error) => {
                    let newer = self.wait_for(|now| (now.generation() != replica.generation()).then_some(()));
                    if tokio::time::timeout(CATCH_UP, newer).await.is_err() {
                        // The replica was current.
                        return Err(error.into());
                    }
                    // A guard that failed, or a cluster in between two leaders, says nothing about the plan.
                    let passing = [ErrorKind::TimedOut, ErrorKind::NotLeader, ErrorKind::ClusterError];
                    let passes = error.refused().is_some_and(|error| passing.contains(&error.kind));
                    refused = Some((tx, error)).filter(|_| !passes);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Whether a refusal can come from planning on a replica that a second writer has overtaken: a guard that failed, a
/// name that exists by now, a row that is gone; or from a cluster that is about to have another leader, where the guards
/// see to it that nothing is done twice.
fn may_be_stale(error: &TransactError) -> bool {
    error.refused().is_some_and(|refused| {
        matches!(
            refused.kind,
            ErrorKind::TimedOut
                | ErrorKind::ConstraintViolation
                | ErrorKind::ReferentialIntegrityViolation
                | ErrorKind::NotLeader
                | ErrorKind::ClusterError
        )
    })
}
