//! What goes on beside requests: leases, veths and ports are brought together, links kept up, and what the container runtime
//! has forgotten is removed. Each waits for something else, so that none holds up another.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, interval_at, sleep, timeout};
use tracing::{info, warn};

use super::pods::PodNetwork;
use super::sandbox;
use crate::node::agent::RESYNC;
use crate::node::metrics;
use crate::node::ovs::ports::{Leg, legs_down};
use crate::node::status::Status;

/// The longest pause between two looks while no lease can be written, and while a link is down: nobody tells when that ends.
const IN_TROUBLE: Duration = Duration::from_secs(5);
const LINK_DOWN: Duration = Duration::from_secs(1);

/// The shortest pause between two looks at links that are down.
const LINKS_PAUSE: Duration = Duration::from_millis(50);

impl PodNetwork {
    /// Has leases, veths and ports brought together soon, in the background.
    pub(in crate::node) fn look(&self) {
        self.look.notify_one();
    }

    /// Brings leases, veths and ports together whenever it is asked to, and every half minute. What is asked for meanwhile is
    /// done afterwards. Tells whether leases can be written.
    pub(in crate::node) async fn keep_together(&self, status: watch::Sender<Status>) {
        loop {
            let problem = self.lease_problem().await;
            let pause = if problem.is_some() { IN_TROUBLE } else { RESYNC };
            status.send_if_modified(|status| {
                let is_new = status.lease_problem != problem;
                match &problem {
                    Some(problem) if is_new => warn!("pods get no addresses: {problem}"),
                    None if is_new => info!("leases can be written again"),
                    _ => {}
                }
                status.lease_problem = problem;
                is_new
            });
            let _ = timeout(pause, self.look.notified()).await;
            let network = self.current_status().network;
            if let Some(network) = network {
                self.converge(network.local_subnet).await;
            }
        }
    }

    /// Sets links up that somebody sets down, as soon as the switch tells that one is down. Of one that stays down it tells
    /// no more, whatever becomes of it.
    pub(in crate::node) async fn keep_links_up(&self) {
        let mut changes = self.ovsdb.changes();
        loop {
            changes.borrow_and_update();
            let down: Vec<Leg> = legs_down(&self.ovsdb.replica()).collect();
            for leg in &down {
                match sandbox::bring_up_again(&leg.host_veth).await {
                    // The pod's own end is down, which is the pod's affair.
                    Ok(false) => {}
                    Ok(true) => {
                        warn!(pod = %leg.pod(), "its link {} was down: brought up", leg.host_veth);
                        self.repaired(&metrics::LINKS);
                    }
                    Err(error) => warn!(pod = %leg.pod(), "{error}"),
                }
            }
            if down.is_empty() {
                if changes.changed().await.is_err() {
                    return;
                }
            } else {
                sleep(LINKS_PAUSE).await;
                let _ = timeout(LINK_DOWN, changes.changed()).await;
            }
        }
    }

    /// Asks the container runtime every half minute, if there is one to be asked, what it has forgotten.
    pub(in crate::node) async fn keep_what_is_known(&self) {
        let mut look = interval_at(Instant::now() + RESYNC, RESYNC);
        loop {
            look.tick().await;
            let network = self.current_status().network;
            if let Some(network) = network {
                self.remove_unknown(network.local_subnet).await;
            }
        }
    }
}
