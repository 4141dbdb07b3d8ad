//! The flow syncer: the only code that changes flows and groups. It knows what the switch has, computes the
//! difference to what it should have, and applies it in one bundle.

use std::path::Path;

use flowtables::flowset::diff::diff;
use flowtables::flowset::{FlowSet, Rendered, groups};
use openflow::message::{ConfigFlags, SwitchConfig};
use openflow::{BundleError, ClientError, Endpoint, FlowStatsRequest, Modification, Switch};

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
    Bundle(#[source] BundleError),
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
}

struct Link {
    switch: Switch,
    /// What the switch holds: read once after connecting, then known from what it confirmed. None: to be read.
    actual: Option<Rendered>,
}

impl Syncer {
    /// A syncer for the bridge whose management socket is in the run directory of Open vSwitch.
    #[must_use]
    pub fn new(ovs_dir: &Path) -> Self {
        let socket = ovs_dir.join(format!("{}.mgmt", super::bridge::BRIDGE));
        Self { endpoint: Endpoint::Unix(socket), link: None }
    }

    /// Forgets what is known of the switch's flows: the next application reads them.
    pub fn suspect(&mut self) {
        if let Some(link) = &mut self.link {
            link.actual = None;
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
    /// When there is no connection, the flows cannot be read or the bundle is refused. The connection is given up
    /// on all but a refusal.
    pub async fn apply(&mut self, desired: &FlowSet) -> Result<Applied, SyncError> {
        let result = self.try_apply(desired).await;
        match &result {
            Err(SyncError::Bundle(_)) => self.suspect(),
            Err(_) => self.disconnect(),
            Ok(_) => {}
        }
        result
    }

    async fn try_apply(&mut self, desired: &FlowSet) -> Result<Applied, SyncError> {
        let link = match &mut self.link {
            Some(link) => link,
            link => link.insert(Link { switch: connect(&self.endpoint).await?, actual: None }),
        };
        let actual = match link.actual.take() {
            Some(actual) => actual,
            None => read(&link.switch).await.map_err(SyncError::Dump)?,
        };
        let diff = diff(&actual.flows, desired);
        let groups = groups::diff(&actual.groups, desired);
        if diff.is_empty() && groups.is_empty() {
            link.actual = Some(actual);
            return Ok(Applied::default());
        }
        let before = groups.before_flows().into_iter().map(Modification::Group);
        let flows = diff.modifications().into_iter().map(Modification::Flow);
        let after = groups.after_flows().into_iter().map(Modification::Group);
        link.switch.bundle(before.chain(flows).chain(after).collect()).await.map_err(SyncError::Bundle)?;
        link.actual = Some(Rendered {
            flows: desired.iter().cloned().collect(),
            groups: desired.groups().cloned().collect(),
        });
        Ok(Applied {
            added: diff.missing.len(),
            removed: diff.extra.len(),
            changed: diff.changed.len(),
            groups: groups.len(),
        })
    }
}

async fn connect(endpoint: &Endpoint) -> Result<Switch, SyncError> {
    let switch = Switch::connect(endpoint).await.map_err(SyncError::Connect)?;
    // Fragments match `ip_frag`: without it later fragments would be taken for packets of port 0.
    let config = SwitchConfig { flags: ConfigFlags::FRAG_NX_MATCH, ..SwitchConfig::default() };
    switch.set_config(config).await.map_err(SyncError::Connect)?;
    Ok(switch)
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
