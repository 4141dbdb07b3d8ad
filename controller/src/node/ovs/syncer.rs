//! The flow syncer: the only code that changes flows and groups. It knows what the switch has, computes the
//! difference to what it should have, and applies it in one bundle.
//!
//! The switch tells it at once when somebody else changes a flow, by a flow monitor, or a group, by forwarding the request;
//! what it knows is not trusted then until it has been read again.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use flowtables::flowset::diff::{Diff, diff};
use flowtables::flowset::groups::{self, GroupDiff};
use flowtables::flowset::{FlowSet, Rendered};
use flowtables::pipeline::cookie::Cookie;
use flowtables::pipeline::table::Table;
use openflow::message::{
    AsyncEvent, AsyncProperty, ConfigFlags, FlowMonitorRequest, FlowUpdate, Message, MonitorFlags,
    SwitchConfig,
};
use openflow::{
    BundleError, ClientError, Endpoint, Events, Flow, FlowMod, FlowMonitor, FlowStatsRequest, Modification,
    MonitorEvent, Switch, SwitchEvent,
};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, warn};

/// `ONFT_REQUESTFORWARD`, the ONF's extension of OpenFlow 1.3 by what 1.4 has: experimenter and type.
const REQUEST_FORWARD: (u32, u32) = (0x4f4e_4600, 2350);

/// What was read so long ago from a switch that tells of changes is read again: it costs time that grows with the cluster.
const READ_AGAIN: Duration = Duration::from_secs(300);

/// Why the switch does not have the desired flows.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// No connection.
    #[error("no OpenFlow connection to the bridge: {0}")]
    Connect(#[source] ClientError),
    /// The flows could not be read.
    #[error("could not read the bridge's flows: {0}")]
    Dump(#[source] ClientError),
    /// The switch refused the bundle: nothing was changed.
    #[error("the switch refused the new flows and kept the old ones: {0}")]
    Refused(#[source] BundleError),
    /// There was no answer, or none that can be read: the switch may have the new flows.
    #[error("the switch did not confirm the new flows: {0}")]
    Unconfirmed(#[source] BundleError),
}

impl From<BundleError> for SyncError {
    fn from(error: BundleError) -> Self {
        match error {
            BundleError::Client(ClientError::Refused(_))
            | BundleError::Modification { .. }
            | BundleError::TooLong { .. } => Self::Refused(error),
            _ => Self::Unconfirmed(error),
        }
    }
}

/// What one application changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Flows that were not there.
    pub added: usize,
    /// Flows that were there and not desired.
    pub removed: usize,
    /// Flows with other actions or another owner.
    pub changed: usize,
    /// Groups that were added, removed or given other buckets.
    pub groups: usize,
    /// Of them, what somebody else had changed since the last application.
    pub repaired: Repaired,
}

/// Flows that were not as the last application had left them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    /// They had been deleted.
    pub added: usize,
    /// They had been added.
    pub removed: usize,
    /// They had been given other actions or another cookie.
    pub changed: usize,
}

impl Applied {
    /// Whether the switch was as desired already.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// A connection to the switch, and what is known of its flows.
pub struct Syncer {
    endpoint: Endpoint,
    link: Option<Link>,
    /// Told when somebody else has changed flows.
    drift: Arc<Notify>,
}

struct Link {
    switch: Switch,
    /// What the switch holds: read once after connecting, then known from what it confirmed. None: never read.
    known: Option<Rendered>,
    /// When it was read last, and after how long it is read again.
    read_at: Instant,
    read_again: Duration,
    /// That is what was desired last.
    in_sync: bool,
    /// What is known may not be so any more.
    suspect: Arc<AtomicBool>,
    /// Read what the switch tells of changes; end with this.
    _watching: JoinSet<()>,
}

impl Syncer {
    /// A syncer for the bridge whose management socket is in the run directory of Open vSwitch.
    #[must_use]
    pub fn new(ovs_dir: &Path) -> Self {
        let socket = ovs_dir.join(format!("{}.mgmt", super::bridge::BRIDGE));
        Self { endpoint: Endpoint::Unix(socket), link: None, drift: Arc::default() }
    }

    /// Whether there is a connection to the bridge.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.link.is_some()
    }

    /// Resolves when somebody else has changed flows: the next application finds out which.
    ///
    /// Cancel-safe.
    pub async fn drifted(&self) {
        self.drift.notified().await;
    }

    /// Forgets what is known of the switch's flows: the next application reads them.
    pub fn suspect(&mut self) {
        if let Some(link) = &self.link {
            link.suspect.store(true, Ordering::Release);
        }
    }

    /// Forgets it if it was read long ago.
    pub fn expire(&mut self) {
        if self.link.as_ref().is_some_and(|link| link.read_at.elapsed() >= link.read_again) {
            self.suspect();
        }
    }

    /// The desired flows are others than at the last application, which compares nothing otherwise.
    pub fn outdated(&mut self) {
        if let Some(link) = &mut self.link {
            link.in_sync = false;
        }
    }

    /// Resolves when the connection is gone; never while there is none.
    pub async fn closed(&self) {
        match &self.link {
            Some(link) => {
                link.switch.closed().await;
            }
            None => std::future::pending().await,
        }
    }

    /// Drops a connection that ended, so that the next application makes a new one.
    pub fn disconnect(&mut self) {
        self.link = None;
    }

    /// Makes the switch hold exactly `desired`: one bundle, confirmed. Sends no modification if it does already.
    ///
    /// # Errors
    /// When there is no connection, the flows cannot be read or the bundle is not confirmed. The connection is given up
    /// on the first two.
    pub async fn apply(&mut self, desired: &FlowSet) -> Result<Applied, SyncError> {
        let result = self.try_apply(desired).await;
        match &result {
            Err(SyncError::Refused(_) | SyncError::Unconfirmed(_)) => self.suspect(),
            Err(_) => self.disconnect(),
            Ok(_) => {}
        }
        result
    }

    async fn try_apply(&mut self, desired: &FlowSet) -> Result<Applied, SyncError> {
        let link = match &mut self.link {
            Some(link) => link,
            link => link.insert(connect(&self.endpoint, Arc::clone(&self.drift)).await?),
        };
        let mut repaired = Repaired::default();
        // Before the flows are read: what changes meanwhile makes them suspect again.
        let suspect = link.suspect.swap(false, Ordering::AcqRel);
        if link.in_sync && !suspect {
            return Ok(Applied::default());
        }
        link.in_sync = false;
        let (actual, difference) = match link.known.take() {
            Some(known) if !suspect => {
                let difference = diff(&known.flows, desired);
                (known, difference)
            }
            before => {
                let actual = read(&link.switch).await.map_err(SyncError::Dump)?;
                link.read_at = Instant::now();
                let difference = diff(&actual.flows, desired);
                if let Some(before) = before {
                    repaired = drift(&diff(&before.flows, desired), &difference, desired);
                    let expected = groups::diff(&before.groups, desired).len();
                    if groups::diff(&actual.groups, desired).len() > expected {
                        warn!("somebody else changed groups: put right");
                    }
                }
                (actual, difference)
            }
        };
        let groups = groups::diff(&actual.groups, desired);
        if difference.is_empty() && groups.is_empty() {
            link.known = Some(actual);
            link.in_sync = true;
            return Ok(Applied::default());
        }
        link.switch.bundle(modifications(&difference, &groups)).await?;
        link.known = Some(Rendered {
            flows: desired.iter().cloned().collect(),
            groups: desired.groups().cloned().collect(),
        });
        link.in_sync = true;
        Ok(Applied {
            added: difference.missing.len(),
            removed: difference.extra.len(),
            changed: difference.changed.len(),
            groups: groups.len(),
            repaired,
        })
    }
}

/// In the order in which a switch can follow them. The note of the pipeline's version comes last: wherever it is found, all that
/// it speaks of is there, whatever becomes of a bundle on the way.
fn modifications(flows: &Diff, groups: &GroupDiff) -> Vec<Modification> {
    let is_note = |change: &FlowMod| change.flow.table == Table::Version.number();
    let (notes, flows): (Vec<_>, Vec<_>) = flows.modifications().into_iter().partition(is_note);
    let before = groups.before_flows().into_iter().map(Modification::Group);
    let after = groups.after_flows().into_iter().map(Modification::Group);
    let [flows, notes] = [flows, notes].map(|flows| flows.into_iter().map(Modification::Flow));
    before.chain(flows).chain(after).chain(notes).collect()
}

/// Of what differs `now`, what did not differ when nobody had interfered: named in the log, with whose flow it is.
fn drift(expected: &Diff, now: &Diff, desired: &FlowSet) -> Repaired {
    let tell = |what: &str, flow: &Flow| {
        let same = |wanted: &Flow| wanted.priority == flow.priority && wanted.fields == flow.fields;
        match desired.table(flow.table).find(|(wanted, _)| same(wanted)) {
            Some((_, owner)) => warn!(%owner, "somebody else {what} the flow {flow}"),
            None => warn!(owner = %Cookie(flow.cookie), "somebody else {what} the flow {flow}"),
        }
    };
    let mut repaired = Repaired::default();
    for flow in now.missing.iter().filter(|flow| !expected.missing.contains(flow)) {
        tell("deleted", flow);
        repaired.added += 1;
    }
    for flow in now.extra.iter().filter(|flow| !expected.extra.contains(flow)) {
        tell("added", flow);
        repaired.removed += 1;
    }
    for change in now.changed.iter().filter(|change| !expected.changed.contains(change)) {
        tell("changed", &change.actual);
        repaired.changed += 1;
    }
    repaired
}

async fn connect(endpoint: &Endpoint, drift: Arc<Notify>) -> Result<Link, SyncError> {
    let switch = Switch::connect(endpoint).await.map_err(SyncError::Connect)?;
    // Fragments match `ip_frag`: without it later fragments would be taken for packets of port 0.
    let config = SwitchConfig { flags: ConfigFlags::FRAG_NX_MATCH, ..SwitchConfig::default() };
    switch.set_config(config).await.map_err(SyncError::Connect)?;
    // Our own changes come without their flows, by their transaction only.
    let flags = MonitorFlags(MonitorFlags::ADD | MonitorFlags::DELETE | MonitorFlags::MODIFY);
    let request = FlowMonitorRequest { flags, ..FlowMonitorRequest::default() };
    let suspect = Arc::new(AtomicBool::new(false));
    let mut watching = JoinSet::new();
    let mut read_again = READ_AGAIN;
    match switch.monitor_flows(request).await {
        Ok(monitor) => {
            watching.spawn(watch(monitor, Arc::clone(&suspect), Arc::clone(&drift)));
        }
        Err(error) if error.refused().is_some() => {
            debug!("the switch has no flow monitor ({error}): changes of others show at the next look only");
            read_again = Duration::ZERO;
        }
        Err(error) => return Err(SyncError::Connect(error)),
    }
    watching.spawn(watch_groups(switch.events(), Arc::clone(&suspect), drift));
    // OFPRFR_GROUP_MOD (OF1.4.1 §7.4.6). A switch that does not know of it answers with an error that nobody waits for.
    let forward = AsyncProperty { event: AsyncEvent::RequestForward, slave: false, mask: 1 };
    switch.send(&Message::NxSetAsync2(vec![forward])).await.map_err(SyncError::Connect)?;
    Ok(Link {
        switch,
        known: None,
        read_at: Instant::now(),
        read_again,
        in_sync: false,
        suspect,
        _watching: watching,
    })
}

/// Reports every request for a group that somebody else has made: Open vSwitch forwards those of other connections.
async fn watch_groups(mut events: Events, suspect: Arc<AtomicBool>, drift: Arc<Notify>) {
    while let Some(event) = events.next().await {
        let others = match event {
            SwitchEvent::Other { message: Message::Experimenter { experimenter, kind, .. }, .. } => {
                (experimenter, kind) == REQUEST_FORWARD
            }
            SwitchEvent::Lost(_) => true,
            _ => false,
        };
        if others {
            suspect.store(true, Ordering::Release);
            drift.notify_one();
        }
    }
}

/// Reports every change that is not our own, until the connection is gone.
async fn watch(mut monitor: FlowMonitor, suspect: Arc<AtomicBool>, drift: Arc<Notify>) {
    let own = |update: &FlowUpdate| matches!(update, FlowUpdate::Abbreviated { .. });
    while let Some(event) = monitor.next().await {
        let others = match event {
            MonitorEvent::Updates(updates) => !updates.iter().all(own),
            MonitorEvent::Paused => false,
            MonitorEvent::Resumed | MonitorEvent::Lost => true,
        };
        if others {
            suspect.store(true, Ordering::Release);
            drift.notify_one();
        }
    }
}

/// All flows and groups of a switch.
///
/// # Errors
/// When the connection ends or the answer cannot be read.
pub async fn read(switch: &Switch) -> Result<Rendered, ClientError> {
    let stats = switch.dump_flows(FlowStatsRequest::default()).await?;
    let groups = switch.dump_groups().await?;
    Ok(Rendered { flows: stats.into_iter().map(|stats| stats.flow).collect(), groups })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use flowtables::feature::{Plugin, version};
    use flowtables::pipeline::cookie::Owner;
    use openflow::{Group, GroupType};

    use super::*;

    fn flow(text: &str) -> Flow {
        text.parse().unwrap()
    }

    /// Flows and groups of an older pipeline become those of ours in one bundle, whose end is the note.
    #[test]
    fn an_older_pipeline_is_brought_up_to_date_and_noted_last() {
        let mut desired = FlowSet::new();
        desired.replace(&Owner::Version, version::flows(Plugin::Multitenant));
        desired.replace(
            &Owner::Base,
            vec![flow("table=0,priority=9,actions=goto_table:10"), flow("table=10,priority=9,actions=drop")],
        );
        let unwanted = [Group { id: 7, kind: GroupType::All, buckets: Vec::new() }];
        for older in [Some("table=253,priority=32768,actions=note:01.0b.00.00.00.00"), None] {
            let rest = ["table=0,priority=9,actions=goto_table:20", "table=20,priority=9,actions=drop"];
            let actual: Vec<Flow> = older.into_iter().chain(rest).map(flow).collect();
            let changes = modifications(&diff(&actual, &desired), &groups::diff(&unwanted, &desired));
            let is_note = |change: &Modification| matches!(change, Modification::Flow(change) if change.flow.table == 253);
            let others = changes.iter().take_while(|change| !is_note(change)).count();
            assert!(changes.iter().skip(others).all(is_note), "{changes:?}");
            // Two flows of table 0 and 10, one of table 20, and the group.
            assert!(others >= 4, "{changes:?}");
            let Some(Modification::Flow(last)) = changes.last() else { panic!("{changes:?}") };
            assert_eq!(vec![last.flow.clone()], version::flows(Plugin::Multitenant), "the note itself, open");
        }
    }
}
