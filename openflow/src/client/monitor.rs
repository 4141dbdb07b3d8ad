//! Following changes to flows.

use bytes::BytesMut;

use super::task::Command;
use super::{ClientError, Events, Switch, SwitchEvent};
use crate::message::{
    self, FlowMonitorRequest, FlowUpdate, Message, MultipartReply, MultipartRequest, VERSION,
};

/// What a monitor tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MonitorEvent {
    /// Changes, in the order in which they happened.
    Updates(Vec<FlowUpdate>),
    /// Too many changes: the switch holds them back.
    Paused,
    /// All that was held back is told.
    Resumed,
    /// This stream was read too slowly and has lost changes: dump the flows and start over.
    Lost,
}

/// Changes to flows as they happen, see [`Switch::monitor_flows`]. Dropping it ends the monitor.
#[derive(Debug)]
pub struct FlowMonitor {
    switch: Switch,
    id: u32,
    initial: Option<Vec<FlowUpdate>>,
    events: Events,
}

impl Switch {
    /// Starts to follow changes to flows. The first event holds the flows that are there already, if the request asks
    /// for them.
    ///
    /// The updates of a switch do not say which monitor they are for: of several on one connection, each tells
    /// everything.
    ///
    /// # Errors
    /// If the switch refuses (`OFPMOFC_MONITOR_EXISTS` if the number is taken) or the connection is gone.
    pub async fn monitor_flows(&self, request: FlowMonitorRequest) -> Result<FlowMonitor, ClientError> {
        let id = request.id;
        // From before the request on, so that nothing falls in between.
        let events = self.events();
        match self.multipart_request(MultipartRequest::FlowMonitor(vec![request])).await? {
            MultipartReply::FlowMonitor(initial) => {
                Ok(FlowMonitor { switch: self.clone(), id, initial: Some(initial), events })
            }
            _ => Err(ClientError::UnexpectedReply),
        }
    }
}

impl FlowMonitor {
    /// What happens next; `None` when the connection is gone.
    ///
    /// Cancel-safe: no event is lost if the future is dropped.
    pub async fn next(&mut self) -> Option<MonitorEvent> {
        if let Some(initial) = self.initial.take() {
            return Some(MonitorEvent::Updates(initial));
        }
        loop {
            tokio::select! {
                event = self.events.next() => match event? {
                    SwitchEvent::FlowUpdates(updates) => return Some(MonitorEvent::Updates(updates)),
                    SwitchEvent::FlowMonitorPaused => return Some(MonitorEvent::Paused),
                    SwitchEvent::FlowMonitorResumed => return Some(MonitorEvent::Resumed),
                    SwitchEvent::Lost(_) => return Some(MonitorEvent::Lost),
                    _ => {}
                },
                // This holds a handle itself, so the stream of events would never end.
                _ = self.switch.closed() => return None,
            }
        }
    }
}

impl Drop for FlowMonitor {
    fn drop(&mut self) {
        let mut bytes = BytesMut::new();
        let cancel = Message::FlowMonitorCancel(self.id);
        if message::encode(&mut bytes, VERSION, self.switch.take_xids(1), &cancel).is_ok() {
            self.switch.submit_later(Command { bytes, pending: None, watch: None });
        }
    }
}
