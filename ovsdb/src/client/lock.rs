//! Locks (RFC 7047 §4.1.8-4.1.10) that survive reconnects.

use std::collections::HashMap;

use tokio::sync::{mpsc, watch};

/// The wish for a lock: asked for at once and after each reconnect, given up when dropped.
///
/// The lock guards nothing by itself. A transaction that must not happen without it says so with
/// [`Transaction::assert_lock`](crate::Transaction::assert_lock).
#[derive(Debug)]
pub struct Lock {
    name: String,
    held: watch::Receiver<bool>,
    unlock: mpsc::UnboundedSender<String>,
}

impl Lock {
    pub(super) fn new(
        name: String,
        held: watch::Receiver<bool>,
        unlock: mpsc::UnboundedSender<String>,
    ) -> Lock {
        Lock { name, held, unlock }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether this client holds it, as far as is known: it may have been stolen a moment ago.
    pub fn is_held(&self) -> bool {
        *self.held.borrow()
    }

    /// Waits until it is held. Cancel-safe.
    pub async fn acquired(&self) {
        self.until(true).await;
    }

    /// Waits until it is not held: stolen, or the connection is gone. Cancel-safe.
    pub async fn lost(&self) {
        self.until(false).await;
    }

    async fn until(&self, held: bool) {
        if self.held.clone().wait_for(|now| *now == held).await.is_err() && held {
            // The client is gone, and with it every chance.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A client that is gone has lost its locks anyway.
        let _ = self.unlock.send(std::mem::take(&mut self.name));
    }
}

/// The locks that handles wish for.
#[derive(Debug, Default)]
pub(super) struct Locks(HashMap<String, Wish>);

#[derive(Debug)]
struct Wish {
    handles: usize,
    held: watch::Sender<bool>,
}

impl Locks {
    /// One more handle; returns what it watches, and whether the server has to be asked.
    pub(super) fn wish(&mut self, lock: &str) -> (watch::Receiver<bool>, bool) {
        let wish = self
            .0
            .entry(lock.to_owned())
            .or_insert_with(|| Wish { handles: 0, held: watch::Sender::new(false) });
        wish.handles = wish.handles.saturating_add(1);
        (wish.held.subscribe(), wish.handles == 1)
    }

    /// One handle less; returns whether the server has to be told.
    pub(super) fn give_up(&mut self, lock: &str) -> bool {
        let Some(wish) = self.0.get_mut(lock) else { return false };
        wish.handles = wish.handles.saturating_sub(1);
        let last = wish.handles == 0;
        if last {
            self.0.remove(lock);
        }
        last
    }

    pub(super) fn set(&self, lock: &str, held: bool) {
        if let Some(wish) = self.0.get(lock) {
            wish.held.send_if_modified(|now| std::mem::replace(now, held) != held);
        }
    }

    /// The connection is gone, and with it every lock.
    pub(super) fn lose_all(&self) {
        for lock in self.0.keys() {
            self.set(lock, false);
        }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}
