//! Group commit: the ports of many callers in few transactions.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::ensure::{Plan, within_deadline};
use super::port::{Planned, plan_delete, plan_ensure, settled};
use super::{OvsError, PortSpec, delete_port, ensure_port};
use crate::client::Client;
use crate::transaction::{Reply, TransactError};

/// Makes and deletes the ports of one bridge for many callers. What they ask for while a transaction is under way goes into
/// the next one together, so that server and switch are kept busy once for all of them; who asks alone never waits.
///
/// Callers do not share their failures. A wish that can't be planned is left out of the transaction; should the server
/// refuse the transaction, each of its callers tries by itself.
///
/// Clones share the task that does it. It ends with the last of them.
#[derive(Debug, Clone)]
pub struct PortWriter {
    client: Client,
    bridge: Arc<str>,
    queue: mpsc::UnboundedSender<Member>,
}

/// A caller's part of a transaction.
#[derive(Debug)]
struct Member {
    change: Change,
    outcome: oneshot::Sender<Outcome>,
}

#[derive(Debug)]
enum Change {
    Ensure(PortSpec),
    Delete(String),
}

impl Change {
    fn port(&self) -> &str {
        match self {
            Change::Ensure(spec) => &spec.name,
            Change::Delete(name) => name,
        }
    }
}

#[derive(Debug)]
enum Outcome {
    Committed(Planned, Option<Arc<Reply>>),
    Failed(OvsError),
    /// The server refused the transaction, for whosever part in it.
    Refused,
}

impl PortWriter {
    /// A writer for a bridge. To be called inside of a tokio runtime.
    pub fn new(client: Client, bridge: impl Into<Arc<str>>) -> PortWriter {
        let (queue, members) = mpsc::unbounded_channel();
        let bridge = bridge.into();
        tokio::spawn(run(client.clone(), Arc::clone(&bridge), members));
        PortWriter { client, bridge, queue }
    }

    /// As [`ensure_port`].
    ///
    /// # Errors
    /// As [`ensure_port`].
    pub async fn ensure(&self, spec: &PortSpec) -> Result<u16, OvsError> {
        match self.commit(Change::Ensure(spec.clone())).await? {
            Some((planned, reply)) => {
                settled(&self.client, &self.bridge, spec, &planned, reply.as_deref()).await
            }
            None => ensure_port(&self.client, &self.bridge, spec).await,
        }
    }

    /// As [`delete_port`].
    ///
    /// # Errors
    /// As [`delete_port`].
    pub async fn delete(&self, name: &str) -> Result<(), OvsError> {
        match self.commit(Change::Delete(name.to_owned())).await? {
            Some(_) => Ok(()),
            None => delete_port(&self.client, &self.bridge, name).await,
        }
    }

    /// Has a change made with those of others; `None` if that was refused. If the future is dropped before the change is
    /// sent it is not made.
    async fn commit(&self, change: Change) -> Result<Option<(Planned, Option<Arc<Reply>>)>, OvsError> {
        let closed = || TransactError::NotConnected("the client is closed".to_owned());
        let what = format!("port {} on {}", change.port(), self.bridge);
        let (outcome, committed) = oneshot::channel();
        self.queue.send(Member { change, outcome }).map_err(|_| closed())?;
        let outcome =
            within_deadline(|| what, async { committed.await.map_err(|_| closed().into()) }).await?;
        match outcome {
            Outcome::Committed(planned, reply) => Ok(Some((planned, reply))),
            Outcome::Failed(error) => Err(error),
            Outcome::Refused => Ok(None),
        }
    }
}

async fn run(client: Client, bridge: Arc<str>, mut queue: mpsc::UnboundedReceiver<Member>) {
    /// So many changes a transaction: a burst must not keep the server from everybody else.
    const TOGETHER: usize = 256;
    let mut waiting = Vec::new();
    while !waiting.is_empty() || queue.recv_many(&mut waiting, TOGETHER).await > 0 {
        // Two changes of one port are made one after the other.
        let mut ports = BTreeSet::new();
        let (members, next) =
            waiting.into_iter().partition(|member| ports.insert(member.change.port().to_owned()));
        waiting = next;
        commit_together(&client, &bridge, members).await;
    }
}

/// Makes the changes of all members in one transaction, and tells each what became of its own.
async fn commit_together(client: &Client, bridge: &str, mut members: Vec<Member>) {
    loop {
        client.wait_connected().await;
        let replica = client.replica();
        let Some(schema) = client.schema() else {
            let error = || TransactError::NotConnected("the server has sent no schema yet".to_owned());
            return members.into_iter().for_each(|member| tell(member, Outcome::Failed(error().into())));
        };
        let mut plan = Plan::new(client, &replica, &schema);
        let mut planned = Vec::new();
        // Nobody waits any more for what somebody gave up on, and nobody would take it back.
        for member in members.into_iter().filter(|member| !member.outcome.is_closed()) {
            let done = plan.attempt(|it| match &member.change {
                Change::Ensure(spec) => plan_ensure(it, bridge, spec),
                Change::Delete(name) => plan_delete(it, bridge, name),
            });
            match done {
                Ok(done) => planned.push((member, done)),
                Err(error) => tell(member, Outcome::Failed(error)),
            }
        }
        let reply = match plan.tx.is_empty() {
            true => Ok(None),
            false => client.transact(plan.tx).await.map(|reply| Some(Arc::new(reply))),
        };
        match reply {
            Ok(reply) => {
                for (member, done) in planned {
                    tell(member, Outcome::Committed(done, reply.clone()));
                }
                return;
            }
            // Nothing was done, or it shows in the replica after the reconnect: plan again.
            Err(TransactError::NotConnected(_) | TransactError::OutcomeUnknown(_)) => {
                members = planned.into_iter().map(|(member, _)| member).collect();
            }
            Err(_) => return planned.into_iter().for_each(|(member, _)| tell(member, Outcome::Refused)),
        }
    }
}

fn tell(member: Member, outcome: Outcome) {
    // One who has gone meanwhile is not interested any more.
    let _ = member.outcome.send(outcome);
}
