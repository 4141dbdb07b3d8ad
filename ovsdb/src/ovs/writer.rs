//! Group commit: the ports of many callers in few transactions.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot};

use super::ensure::{Plan, confirm, within_deadline};
use super::port::{Planned, plan_delete, plan_ensure, settled};
use super::{DEADLINE, OvsError, PortSpec, delete_port, ensure_port};
use crate::client::Client;
use crate::transaction::{Reply, TransactError};

/// Makes and deletes the ports of one bridge for many callers. What they ask for while a transaction is under way goes into
/// the next one together, so that server and switch are kept busy once for all of them; who asks alone never waits.
///
/// Callers do not share their failures. A wish that can't be planned is left out of the transaction; should the server
/// refuse the transaction, each of its callers tries by itself.
///
/// A name that was deleted is given to a new port only after `ovs-vswitchd` has carried that out. The switch knows ports by
/// name: of one that is deleted and made again between two of its looks it keeps the device that it had opened, though
/// another has the name by now, and passes no packet.
///
/// Clones share the task that does it. It ends with the last of them.
#[derive(Debug, Clone)]
pub struct PortWriter {
    client: Client,
    bridge: Arc<str>,
    queue: mpsc::UnboundedSender<Member>,
    deleted: Arc<Mutex<Deleted>>,
    /// One question to the switch serves all who wait for it.
    asking: Arc<tokio::sync::Mutex<()>>,
}

/// A caller's part of a transaction.
#[derive(Debug)]
struct Member {
    change: Change,
    outcome: oneshot::Sender<Outcome>,
}

impl Member {
    /// A deletion that nobody waits for any more: it is made all the same.
    fn is_left(&self) -> bool {
        matches!(self.change, Change::Delete(_)) && self.outcome.is_closed()
    }
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
    /// Left out: the switch may have an older port of that name.
    NameInUse,
}

/// Names of ports that the switch may still have although they are deleted.
#[derive(Debug)]
struct Deleted {
    /// How many deletions there were.
    count: u64,
    /// The last deletion of each name.
    names: HashMap<String, u64>,
    /// Up to this one any name may have been deleted.
    any: Option<u64>,
}

impl Default for Deleted {
    fn default() -> Deleted {
        // What was deleted before, by one who had this task before.
        Deleted { count: 0, names: HashMap::new(), any: Some(0) }
    }
}

impl Deleted {
    fn may_include(&self, name: &str) -> bool {
        self.any.is_some() || self.names.contains_key(name)
    }

    fn note(&mut self, name: &str) {
        /// Mostly no name comes again, and nobody asks the switch: so many are kept one by one.
        const KEPT: usize = 1024;
        self.count += 1;
        if self.names.len() < KEPT {
            self.names.insert(name.to_owned(), self.count);
        } else {
            self.names.clear();
            self.any = Some(self.count);
        }
    }

    /// The switch has carried out the deletions up to this one.
    fn carried_out(&mut self, up_to: u64) {
        self.names.retain(|_, deletion| *deletion > up_to);
        self.any = self.any.filter(|deletion| *deletion > up_to);
    }
}

impl PortWriter {
    /// A writer for a bridge. To be called inside of a tokio runtime.
    pub fn new(client: Client, bridge: impl Into<Arc<str>>) -> PortWriter {
        let (queue, members) = mpsc::unbounded_channel();
        let (bridge, deleted) = (bridge.into(), Arc::default());
        tokio::spawn(run(client.clone(), Arc::clone(&bridge), Arc::clone(&deleted), members));
        PortWriter { client, bridge, queue, deleted, asking: Arc::default() }
    }

    /// As [`ensure_port`].
    ///
    /// # Errors
    /// As [`ensure_port`].
    pub async fn ensure(&self, spec: &PortSpec) -> Result<u16, OvsError> {
        loop {
            match self.commit(Change::Ensure(spec.clone())).await? {
                Outcome::Committed(planned, reply) => {
                    return settled(&self.client, &self.bridge, spec, &planned, reply.as_deref()).await;
                }
                Outcome::NameInUse => self.carried_out(&spec.name).await?,
                Outcome::Failed(error) => return Err(error),
                Outcome::Refused => return ensure_port(&self.client, &self.bridge, spec).await,
            }
        }
    }

    /// As [`delete_port`], but what is not done in time, or waited for, is done as soon as the database answers.
    ///
    /// # Errors
    /// As [`delete_port`].
    pub async fn delete(&self, name: &str) -> Result<(), OvsError> {
        match self.commit(Change::Delete(name.to_owned())).await? {
            Outcome::Committed(..) => Ok(()),
            Outcome::Failed(error) => Err(error),
            Outcome::Refused | Outcome::NameInUse => {
                let deleted = delete_port(&self.client, &self.bridge, name).await;
                // What was not done in time may be done later.
                self.may_linger(name);
                deleted
            }
        }
    }

    /// The switch may have a port of this name, though the database has none any more: somebody else has removed it. The next
    /// one is made only when the switch has not.
    pub fn may_linger(&self, name: &str) {
        lock(&self.deleted).note(name);
    }

    /// Has a change made with those of others. If the future is dropped before it is sent a port is not made.
    async fn commit(&self, change: Change) -> Result<Outcome, OvsError> {
        let closed = || TransactError::NotConnected("the client is closed".to_owned());
        let what = format!("port {} on {}", change.port(), self.bridge);
        let (outcome, committed) = oneshot::channel();
        self.queue.send(Member { change, outcome }).map_err(|_| closed())?;
        within_deadline(|| what, async { committed.await.map_err(|_| closed().into()) }).await
    }

    /// Waits until the switch has none of the ports any more that had this name.
    async fn carried_out(&self, name: &str) -> Result<(), OvsError> {
        let asked = async {
            let _asking = self.asking.lock().await;
            if !lock(&self.deleted).may_include(name) {
                return Ok(());
            }
            let up_to = lock(&self.deleted).count;
            confirm(&self.client).await?;
            lock(&self.deleted).carried_out(up_to);
            Ok(())
        };
        // However many have asked before.
        let late = |_| OvsError::SwitchDeadline {
            what: format!("removal of an older port {name} from {}", self.bridge),
            after: DEADLINE,
        };
        tokio::time::timeout(DEADLINE, asked).await.map_err(late)?
    }
}

fn lock(deleted: &Mutex<Deleted>) -> std::sync::MutexGuard<'_, Deleted> {
    deleted.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn run(
    client: Client,
    bridge: Arc<str>,
    deleted: Arc<Mutex<Deleted>>,
    mut queue: mpsc::UnboundedReceiver<Member>,
) {
    /// So many changes a transaction: a burst must not keep the server from everybody else.
    const TOGETHER: usize = 256;
    let mut waiting = Vec::new();
    while !waiting.is_empty() || queue.recv_many(&mut waiting, TOGETHER).await > 0 {
        // Two changes of one port are made one after the other.
        let mut ports = BTreeSet::new();
        let (members, next) =
            waiting.into_iter().partition(|member| ports.insert(member.change.port().to_owned()));
        waiting = next;
        commit_together(&client, &bridge, &deleted, members).await;
    }
}

/// Makes the changes of all members in one transaction, and tells each what became of its own.
async fn commit_together(client: &Client, bridge: &str, deleted: &Mutex<Deleted>, mut members: Vec<Member>) {
    loop {
        client.wait_connected().await;
        let replica = client.replica();
        let Some(schema) = client.schema() else {
            let error = || TransactError::NotConnected("the server has sent no schema yet".to_owned());
            return members.into_iter().for_each(|member| tell(member, Outcome::Failed(error().into())));
        };
        let mut plan = Plan::new(client, &replica, &schema);
        let mut planned = Vec::new();
        // Nobody waits any more for a port that somebody gave up on, and nobody would take it back.
        for member in members.into_iter().filter(|member| !member.outcome.is_closed() || member.is_left()) {
            if let Change::Ensure(PortSpec { name, .. }) = &member.change
                && replica.named("Port", name).is_none()
                && lock(deleted).may_include(name)
            {
                tell(member, Outcome::NameInUse);
                continue;
            }
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
                note_deleted(deleted, &planned);
                for (member, done) in planned {
                    tell(member, Outcome::Committed(done, reply.clone()));
                }
                return;
            }
            // Nothing was done, or it shows in the replica after the reconnect: plan again.
            Err(TransactError::NotConnected(_) | TransactError::OutcomeUnknown(_)) => {
                // In the second case who asked may have given up by then.
                note_deleted(deleted, &planned);
                members = planned.into_iter().map(|(member, _)| member).collect();
            }
            Err(_) => {
                // Each tries by itself; for one who has gone that is done here, without the others.
                let (left, told): (Vec<_>, Vec<_>) =
                    planned.into_iter().map(|(member, _)| member).partition(Member::is_left);
                if told.is_empty() {
                    return;
                }
                told.into_iter().for_each(|member| tell(member, Outcome::Refused));
                members = left;
            }
        }
    }
}

fn note_deleted(deleted: &Mutex<Deleted>, planned: &[(Member, Planned)]) {
    let names = planned.iter().filter_map(|(member, _)| match &member.change {
        Change::Delete(name) => Some(name),
        Change::Ensure(_) => None,
    });
    names.for_each(|name| lock(deleted).note(name));
}

fn tell(member: Member, outcome: Outcome) {
    // One who has gone meanwhile is not interested any more.
    let _ = member.outcome.send(outcome);
}
