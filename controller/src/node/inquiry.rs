//! A task that finds out what neither the cluster's objects nor the bridge can tell, as long as somebody wants to know.
//!
//! What it has found is kept with the bridge in OVSDB too: an agent that starts again goes on from there, and whoever
//! compares the flows with what they should be knows what they were made of.

use std::collections::BTreeMap;
use std::sync::Arc;

use ovsdb::ovs::{OvsError, ensure_external_ids};
use ovsdb::{Client, Datum, Replica};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::ovs::bridge::BRIDGE;

/// The running task; it ends when this is dropped.
pub struct Inquiry<Wanted, Found> {
    wanted: watch::Sender<Wanted>,
    found: watch::Receiver<Arc<Found>>,
    _task: JoinSet<()>,
}

impl<Wanted, Found> Inquiry<Wanted, Found>
where
    Wanted: Default + PartialEq + Send + Sync + 'static,
    Found: Clone + Send + Sync + 'static,
{
    /// Starts a task with what was known last. It reads what is wanted from the one end and publishes what it finds at
    /// the other.
    pub(super) fn start<Task>(
        known: Found,
        task: impl FnOnce(watch::Receiver<Wanted>, watch::Sender<Arc<Found>>) -> Task,
    ) -> Self
    where
        Task: Future<Output = ()> + Send + 'static,
    {
        let (wanted, wants) = watch::channel(Wanted::default());
        let (publish, found) = watch::channel(Arc::new(known));
        let mut running = JoinSet::new();
        running.spawn(task(wants, publish));
        Self { wanted, found, _task: running }
    }

    /// Says what is of interest from now on.
    pub fn want(&self, now: Wanted) {
        self.wanted.send_if_modified(|wanted| {
            let changed = *wanted != now;
            *wanted = now;
            changed
        });
    }

    /// What is known now.
    pub fn found(&mut self) -> Arc<Found> {
        self.found.borrow_and_update().clone()
    }

    /// Resolves when that has changed since [`Inquiry::found`]. Cancel-safe.
    pub async fn changed(&mut self) {
        if self.found.changed().await.is_err() {
            // The task has ended, which it does only when the agent does.
            std::future::pending::<()>().await;
        }
    }
}

/// Publishes what is known, if that is new.
pub(super) fn publish<Found: PartialEq>(publish: &watch::Sender<Arc<Found>>, found: Found) {
    publish.send_if_modified(|published| {
        let changed = **published != found;
        if changed {
            *published = Arc::new(found);
        }
        changed
    });
}

/// What an earlier agent, or the running one, has found, under a key of the bridge's `external_ids`.
#[must_use]
pub fn recorded<Found: Default + DeserializeOwned>(replica: &Replica, key: &str) -> Found {
    let ids =
        replica.named("Bridge", BRIDGE).and_then(|row| row.get("external_ids").map(Datum::to_string_map));
    let text = ids.and_then(|ids| ids.get(key).cloned());
    // What is not ours to read is as good as nothing: it is asked for again.
    text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

/// Keeps what was found with the bridge; nothing where there is nothing to keep.
///
/// # Errors
/// When the database refuses or does not answer.
pub async fn record<Found>(client: &Client, key: &str, found: &Found) -> Result<(), OvsError>
where
    Found: Default + PartialEq + Serialize + DeserializeOwned,
{
    if recorded::<Found>(&client.replica(), key) == *found {
        return Ok(());
    }
    let text = Some(found)
        .filter(|found| **found != Found::default())
        .and_then(|found| serde_json::to_string(found).ok());
    ensure_external_ids(client, "Bridge", BRIDGE, &BTreeMap::from([(key.to_owned(), text)])).await
}
