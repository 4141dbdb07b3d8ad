//! What other firewalls of the node stop of the cluster's traffic.
//!
//! An `accept` in the table [`TABLE`](super::firewall::TABLE) ends that table's chain only: firewalld, Docker's `FORWARD` chain or an
//! administrator's rules on the same hook can still drop. Nobody but their owner may change them, so this tells: packets of each kind
//! of traffic that the cluster rests on are taken through the ruleset, in the program and not on the wire.
//!
//! Judged are the first packets of connections, as far as they are alike. Rules for single ports, addresses or marks are their
//! owner's will and are counted only. A match that is not understood makes the answer "can't tell", unless the rest of the rules
//! decides without it.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio::time::sleep;
use tracing::{info, warn};

use super::links;
use crate::cluster::{ClusterLocation, ClusterSource, ClusterState, Interest, Snapshot};
use crate::node::metrics::Metrics;
use crate::node::ovs::bridge::TUN;
use crate::node::status::Status;
use crate::view;

mod packet;
mod ranges;
mod remedy;
mod report;
mod ruleset;
mod traffic;
mod walk;

pub use report::Report;
pub use traffic::{Kind, Traffic};

use ruleset::Ruleset;

/// Without being told of a change the ruleset is read again after this.
const PERIOD: Duration = Duration::from_secs(300);
/// Changes come many at a time.
const GATHER: Duration = Duration::from_secs(1);
/// After a look there is a pause of so many times as long as it took: with many rules it takes long.
const REST: u32 = 100;

/// Looks at the ruleset of the network namespace that the process is in.
///
/// # Errors
/// What is known of the cluster is not enough, `nft` can't be run, or its output is not understood.
pub async fn look(state: &ClusterState, node: &str) -> anyhow::Result<Report> {
    let inputs = view::inputs(state, node, &[])?;
    let node_ip = inputs.base.node_ip;
    let mut networks = links::local_networks(TUN).await?;
    networks.retain(|local| local.network.contains(&node_ip));
    let uplink = networks.into_iter().max_by_key(|local| local.network.prefix_len()).map(|local| local.link);
    let traffic = Traffic::of(&inputs, TUN, uplink);
    let looked =
        tokio::task::spawn_blocking(move || Ruleset::list().map(|ruleset| Report::of(&ruleset, &traffic)));
    Ok(looked.await??)
}

/// `sdn-node --firewall`: prints what is found. The exit status is 0 if nothing stands in the way, else 1.
///
/// # Errors
/// As [`look`], and when the cluster's state can't be read.
pub async fn command(cluster: &ClusterLocation, node: &str) -> anyhow::Result<ExitCode> {
    let source = ClusterSource::open(cluster, &Interest::Node(node.to_owned())).await?;
    let snapshot = source.watch().borrow().clone();
    let report = look(&snapshot.state, node).await?;
    print!("{report}");
    Ok(if report.is_clear() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Looks once the agent is ready, after changes of other tables than its own, and periodically; says what it finds. Ends with the
/// agent.
pub async fn watch(
    node: String,
    state: watch::Receiver<Arc<Snapshot>>,
    changed: Arc<Notify>,
    status: watch::Sender<Status>,
    metrics: Metrics,
) {
    if status.subscribe().wait_for(|status| status.ready).await.is_err() {
        return;
    }
    loop {
        let start = Instant::now();
        let snapshot = state.borrow().clone();
        match look(&snapshot.state, &node).await {
            Ok(report) => tell(&report, &status, &metrics),
            Err(error) => warn!("it is not known what firewalls stop: {}", crate::describe(&error)),
        }
        sleep(GATHER.max(start.elapsed() * REST)).await;
        tokio::select! {
            () = changed.notified() => {}
            () = sleep(PERIOD) => {}
        }
    }
}

/// On a change, in the log too.
fn tell(report: &Report, status: &watch::Sender<Status>, metrics: &Metrics) {
    let (obstacles, unclear) = (report.obstacles(), report.unclear());
    metrics.obstacles.set(i64::try_from(report.stopped_kinds()).unwrap_or(i64::MAX));
    status.send_if_modified(|status| {
        for obstacle in obstacles.iter().filter(|obstacle| !status.obstacles.contains(obstacle)) {
            warn!("a firewall stands in the way (`sdn-node --firewall` says what to do): {obstacle}");
        }
        for doubt in unclear.iter().filter(|doubt| !status.unclear_obstacles.contains(doubt)) {
            info!("a firewall may stand in the way: {doubt}");
        }
        if obstacles.is_empty() && !status.obstacles.is_empty() {
            info!("no firewall stands in the way any more");
        }
        let changed = status.obstacles != obstacles || status.unclear_obstacles != unclear;
        (status.obstacles, status.unclear_obstacles) = (obstacles, unclear);
        changed
    });
}

#[cfg(test)]
mod tests;
