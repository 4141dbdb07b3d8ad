//! Who waits for which row.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::replica::RowChange;
use crate::value::Uuid;

/// Waiters by row, so that a change wakes those whom it concerns: with a thousand ports under way, waking everyone
/// at each change would cost a million looks.
#[derive(Debug, Default)]
pub(super) struct Waiters(Mutex<HashMap<Uuid, Arc<Notify>>>);

/// A place among the waiters; given up when dropped.
pub(super) struct Waiting<'w> {
    waiters: &'w Waiters,
    row: Uuid,
    notify: Arc<Notify>,
}

impl Waiters {
    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Arc<Notify>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn join(&self, row: Uuid) -> Waiting<'_> {
        let notify = self.lock().entry(row).or_default().clone();
        Waiting { waiters: self, row, notify }
    }

    pub(super) fn wake(&self, changes: &[RowChange]) {
        let waiters = self.lock();
        if waiters.is_empty() {
            return;
        }
        for row in changes.iter().filter_map(RowChange::row) {
            if let Some(notify) = waiters.get(&row.uuid()) {
                notify.notify_waiters();
            }
        }
    }
}

impl Waiting<'_> {
    pub(super) fn notify(&self) -> &Notify {
        &self.notify
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut waiters = self.waiters.lock();
        // The map's and ours: nobody else waits.
        if Arc::strong_count(&self.notify) == 2 {
            waiters.remove(&self.row);
        }
    }
}
