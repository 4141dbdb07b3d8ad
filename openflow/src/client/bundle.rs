//! Bundles: changes that take effect together or not at all.

use std::fmt;
use std::sync::atomic::Ordering;

use bytes::BytesMut;
use tokio::sync::oneshot;

use super::task::{Command, FirstError, Pending, Watch};
use super::{BundleError, ClientError, Switch};
use crate::flow::FlowMod;
use crate::group::GroupMod;
use crate::message::{
    self, BundleControl, BundleControlType, BundleFlags, Message, VERSION, encode_bundle_add,
};

/// A change in a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Modification {
    /// Of flows.
    Flow(FlowMod),
    /// Of groups.
    Group(GroupMod),
}

impl From<FlowMod> for Modification {
    fn from(flow_mod: FlowMod) -> Self {
        Modification::Flow(flow_mod)
    }
}

impl From<GroupMod> for Modification {
    fn from(group_mod: GroupMod) -> Self {
        Modification::Group(group_mod)
    }
}

/// In the words of `ovs-ofctl`: `ADD table:20 priority=100,ip actions=drop`.
impl fmt::Display for Modification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Modification::Flow(flow_mod) => fmt::Display::fmt(flow_mod, f),
            Modification::Group(group_mod) => fmt::Display::fmt(group_mod, f),
        }
    }
}

/// How many bytes of changes are handed to the task at once.
const CHUNK: usize = 64 * 1024;
const FLAGS: BundleFlags = BundleFlags::ATOMIC_ORDERED;

impl Switch {
    /// Applies changes in one transaction: in this order, all or none, no packet seeing only some of them. Returns
    /// once the switch has confirmed it. An empty list does nothing.
    ///
    /// Changes are sent while the switch takes them, without waiting for each; at most a few hundred KiB wait in
    /// memory. Dropping the future before the end discards the bundle, unless the commit is already on its way.
    ///
    /// # Errors
    /// [`BundleError::Modification`] names the first change that the switch refused.
    pub async fn bundle(&self, modifications: Vec<Modification>) -> Result<(), BundleError> {
        if modifications.is_empty() {
            return Ok(());
        }
        let id = self.shared.next_bundle.fetch_add(1, Ordering::Relaxed);
        let count = u32::try_from(modifications.len()).unwrap_or(u32::MAX);
        let first_xid = self.take_xids(count);
        let errors = FirstError::default();
        let watch = Watch { first_xid, count, first_error: errors.clone() };

        // Opening is not waited for either: a refusal shows when the bundle is closed.
        let opened = self.control(id, BundleControlType::OPEN_REQUEST, Some(watch)).await?;
        let guard = DiscardOnDrop { switch: Some(self), id };
        self.add_all(id, first_xid, &modifications).await?;
        let closed = self.control(id, BundleControlType::CLOSE_REQUEST, None).await?;
        self.confirm(opened, BundleControlType::OPEN_REPLY).await?;
        let closed = self.confirm(closed, BundleControlType::CLOSE_REPLY).await;
        // Everything the switch has to say of the changes came before its answer to the close.
        first_error(&errors, &modifications)?;
        closed?;

        let committed = self.control(id, BundleControlType::COMMIT_REQUEST, None).await?;
        guard.disarm();
        let committed = self.confirm(committed, BundleControlType::COMMIT_REPLY).await;
        // Of a change that fails only now, the error comes before that of the commit.
        first_error(&errors, &modifications)?;
        committed?;
        Ok(())
    }

    async fn add_all(
        &self,
        id: u32,
        first_xid: u32,
        modifications: &[Modification],
    ) -> Result<(), BundleError> {
        let mut bytes = BytesMut::with_capacity(CHUNK + CHUNK / 4);
        for (xid, (index, modification)) in (first_xid..).zip(modifications.iter().enumerate()) {
            encode_bundle_add(&mut bytes, id, FLAGS, xid, modification).map_err(|error| {
                BundleError::TooLong { index, modification: Box::new(modification.clone()), error }
            })?;
            if bytes.len() >= CHUNK {
                let chunk = bytes.split();
                self.submit(Command { bytes: chunk, pending: None, watch: None }).await?;
                bytes.reserve(CHUNK + CHUNK / 4);
            }
        }
        if !bytes.is_empty() {
            self.submit(Command { bytes, pending: None, watch: None }).await?;
        }
        Ok(())
    }

    /// Sends a control message; its answer comes through the receiver.
    async fn control(
        &self,
        id: u32,
        kind: BundleControlType,
        watch: Option<Watch>,
    ) -> Result<oneshot::Receiver<super::Reply>, ClientError> {
        let xid = self.take_xids(1);
        let bytes = self.encode(xid, &control_message(id, kind))?;
        let (sender, receiver) = oneshot::channel();
        self.submit(Command { bytes, pending: Some((xid, Pending::One(sender))), watch }).await?;
        Ok(receiver)
    }

    async fn confirm(
        &self,
        receiver: oneshot::Receiver<super::Reply>,
        expected: BundleControlType,
    ) -> Result<(), ClientError> {
        match self.await_reply(receiver).await? {
            Message::BundleControl(control) if control.kind == expected => Ok(()),
            _ => Err(ClientError::UnexpectedReply),
        }
    }
}

fn control_message(id: u32, kind: BundleControlType) -> Message {
    Message::BundleControl(BundleControl { id, kind, flags: FLAGS })
}

/// The first change that the switch has refused so far.
fn first_error(errors: &FirstError, modifications: &[Modification]) -> Result<(), BundleError> {
    let Some((index, error)) = errors.take() else { return Ok(()) };
    let index = index as usize;
    match modifications.get(index) {
        Some(modification) => {
            Err(BundleError::Modification { index, modification: Box::new(modification.clone()), error })
        }
        None => Err(ClientError::Refused(error).into()),
    }
}

/// Tells the switch to forget a bundle that will not be committed.
struct DiscardOnDrop<'a> {
    switch: Option<&'a Switch>,
    id: u32,
}

impl DiscardOnDrop<'_> {
    fn disarm(mut self) {
        self.switch = None;
    }
}

impl Drop for DiscardOnDrop<'_> {
    fn drop(&mut self) {
        let Some(switch) = self.switch else { return };
        let mut bytes = BytesMut::new();
        let message = control_message(self.id, BundleControlType::DISCARD_REQUEST);
        if message::encode(&mut bytes, VERSION, switch.take_xids(1), &message).is_err() {
            return;
        }
        switch.submit_later(Command { bytes, pending: None, watch: None });
    }
}
