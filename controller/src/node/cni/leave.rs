//! Pods that leave the network: DEL.
//!
//! The flows go first, then port, veth and lease: the address is not free for another pod before nothing leads to it. The
//! switch is quick with flows, but does nothing else while it removes a port. For that nobody needs to wait: without flows
//! nothing passes a port.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use cni_shim::cni::{CniError, ErrorCode};
use cni_shim::contract::Request;

use super::bandwidth;
use super::fault;
use super::pods::{FLOWS_DEADLINE, PodNetwork, host_veth_of, switch_step};
use super::server::Caller;
use crate::view::PodPort;

/// How long it is waited for flows to go where the request ends in the same way if they do not: a switch that works needs some
/// milliseconds, and the address waits by itself.
pub(super) const MOMENT: Duration = Duration::from_secs(1);

impl PodNetwork {
    /// CNI DEL: takes away whatever there is of the sandbox. Nothing there is success.
    ///
    /// # Errors
    /// When something could not be taken away; the runtime asks again.
    pub(super) async fn del(&self, request: &Request, caller: &Caller<'_>) -> Result<(), CniError> {
        let lock = self.lock(&request.container_id);
        let guard = lock.lock().await;
        caller.waits()?;
        fault::point("del:begin")?;
        let mut problems = Vec::new();
        let attached = self.leg(&request.container_id);
        let leg = attached.as_ref().filter(|leg| leg.ifname == request.ifname);
        let veth = host_veth_of(leg, &request.container_id, &request.ifname);
        let detached = match (leg, &attached) {
            (Some(leg), _) => self.detach(&leg.sandbox, &leg.host_veth, FLOWS_DEADLINE).await,
            (None, None) => {
                // Its port has gone before, by somebody else or by a DEL whose flows were not confirmed in time. The runtime can
                // do no more about those: the address alone waits for them.
                let _ = self.until_gone(&request.container_id, MOMENT).await;
                Ok(())
            }
            (None, Some(_)) => Ok(()),
        };
        let failed = detached.is_err();
        if let Err(error) = detached {
            problems.push(error.msg);
        }
        fault::point("del:port")?;
        if let Err(error) = self.timed("delete veth", self.unwire(&veth)).await {
            problems.push(format!("veth: {error}"));
        }
        fault::point("del:veth")?;
        // An address whose flows may still be there must not go to another pod.
        let waits = failed || attached.is_none() && self.flows_remain(&request.container_id);
        if problems.is_empty() && !waits {
            let network = self.current_status().network;
            if let Some(network) = network
                && let Err(error) =
                    self.release(network.local_subnet, &request.container_id, &request.ifname).await
            {
                problems.push(error.msg);
            }
        }
        fault::point("del:lease")?;
        if waits {
            self.settle_later(guard);
        }
        match problems.is_empty() {
            true => Ok(()),
            false => Err(CniError::new(ErrorCode::TRY_AGAIN_LATER, problems.join("; "))),
        }
    }

    /// Has it looked after what a request leaves, once nobody takes the request to be at work on it.
    pub(super) fn settle_later(&self, request: tokio::sync::MutexGuard<'_, ()>) {
        drop(request);
        self.look();
    }

    /// Takes away a sandbox's flows and then its port, with its queues. It may have none of them. The port goes even if the
    /// switch has not confirmed in time that the flows are gone.
    ///
    /// # Errors
    /// If it has not; or the database refuses something.
    pub(super) async fn detach(&self, sandbox: &str, veth: &str, patience: Duration) -> Result<(), CniError> {
        let _leaving = Leaving::new(self, sandbox);
        self.miss_no_more(sandbox);
        let queues = bandwidth::remove(&self.ovsdb, veth).await;
        queues.map_err(|error| switch_step("bandwidth", error))?;
        let gone = self.timed("delete flows", self.until_gone(sandbox, patience)).await;
        let deleted = self.timed("delete port", self.ports.delete(veth)).await;
        gone.and(deleted.map_err(|error| switch_step("port", error)))
    }

    /// Whether the switch has not confirmed that the flows of a sandbox without a port are gone. Once it has, it is looked after
    /// what waits for that.
    pub(super) fn flows_remain(&self, sandbox: &str) -> bool {
        if !self.may_have_flows(sandbox) {
            return false;
        }
        self.flows_awaited.store(true, Ordering::SeqCst);
        // Once more: they may have gone before anybody knew that something waits for it.
        self.may_have_flows(sandbox)
    }

    /// Whether there is something to wait for. Before the first flows are written there is not, whatever an earlier run has left
    /// on the switch: until it is gone nobody is given an address.
    fn may_have_flows(&self, sandbox: &str) -> bool {
        self.status.borrow().ready && self.served().may_have_flows(sandbox)
    }

    /// Waits until the switch has confirmed that it has no flows of a sandbox any more.
    async fn until_gone(&self, sandbox: &str, patience: Duration) -> Result<(), CniError> {
        if !self.may_have_flows(sandbox) {
            return Ok(());
        }
        self.nudge.notify_one();
        self.until(patience, |_| !self.served().may_have_flows(sandbox)).await
    }

    /// The ports of pods that stay: a round of the loop begins, which makes flows of them.
    pub(in crate::node) fn staying(&self) -> Arc<Vec<PodPort>> {
        // Read under the lock: a sandbox leaves those that leave only when the replica has its port no more.
        let mut served = self.served();
        let ports = self.pod_ports.of(&self.ovsdb.replica());
        served.staying(ports)
    }

    /// What has become of the flows of the round.
    pub(in crate::node) fn flows_are(&self, flows: Flows) {
        self.served().flows_are(flows);
    }

    /// The round is over. If nothing was said of its flows they have not been sent.
    pub(in crate::node) fn round_is_over(&self) {
        self.served().given = Arc::default();
    }

    fn served(&self) -> MutexGuard<'_, Served> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What has become of the flows that were sent to the switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::node) enum Flows {
    /// The switch has confirmed that it has them, and no others.
    Confirmed,
    /// It has not answered.
    Unknown,
}

/// Which sandboxes the switch leads packets to.
#[derive(Debug, Default)]
pub(super) struct Served {
    /// Those that a request is taking away: the pipeline leads nothing to and from their ports any more.
    leaving: BTreeSet<String>,
    /// The ports that the round under way makes flows of.
    given: Arc<Vec<PodPort>>,
    /// Those that the switch may have flows of: what it confirmed last, and what it was sent since then.
    sent: Vec<Arc<Vec<PodPort>>>,
}

impl Served {
    fn staying(&mut self, ports: Arc<Vec<PodPort>>) -> Arc<Vec<PodPort>> {
        self.given = match self.leaving.is_empty() {
            true => ports,
            false => {
                let stays = |port: &&PodPort| !self.leaving.contains(&port.sandbox);
                Arc::new(ports.iter().filter(stays).cloned().collect())
            }
        };
        Arc::clone(&self.given)
    }

    fn flows_are(&mut self, flows: Flows) {
        let given = std::mem::take(&mut self.given);
        match flows {
            Flows::Confirmed => self.sent = vec![given],
            Flows::Unknown if self.sent.contains(&given) => {}
            Flows::Unknown => self.sent.push(given),
        }
    }

    fn may_have_flows(&self, sandbox: &str) -> bool {
        let mut ports = self.sent.iter().chain([&self.given]).flat_map(|ports| ports.iter());
        ports.any(|port| port.sandbox == sandbox)
    }
}

/// As long as it lives a sandbox is one that leaves.
struct Leaving<'a> {
    pods: &'a PodNetwork,
    sandbox: &'a str,
}

impl<'a> Leaving<'a> {
    fn new(pods: &'a PodNetwork, sandbox: &'a str) -> Self {
        pods.served().leaving.insert(sandbox.to_owned());
        Self { pods, sandbox }
    }
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.pods.served().leaving.remove(self.sandbox);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use openflow::OfPort;

    use super::*;

    fn port(sandbox: &str) -> PodPort {
        PodPort {
            namespace: "shop".to_owned(),
            name: "web".to_owned(),
            sandbox: sandbox.to_owned(),
            ip: Ipv4Addr::new(10, 128, 2, 2),
            port: OfPort(3),
        }
    }

    #[test]
    fn flows_may_be_there_until_a_later_round_is_confirmed() {
        let both = Arc::new(vec![port("a"), port("b")]);
        let mut served = Served::default();
        assert_eq!(served.staying(Arc::clone(&both)), both);
        // Its request has failed before the switch has confirmed anything.
        served.leaving.insert("a".to_owned());
        assert!(served.may_have_flows("a"), "they are on their way");
        served.flows_are(Flows::Confirmed);
        assert!(served.may_have_flows("a"), "they are there");
        assert_eq!(*served.staying(Arc::clone(&both)), [port("b")]);
        assert!(served.may_have_flows("a"), "not confirmed yet");
        served.flows_are(Flows::Unknown);
        assert!(served.may_have_flows("a"), "still not");
        served.staying(both);
        served.flows_are(Flows::Confirmed);
        assert!(!served.may_have_flows("a"));
        assert!(served.may_have_flows("b"));
    }

    #[test]
    fn what_was_not_sent_is_not_there() {
        let (a, both) = (Arc::new(vec![port("a")]), Arc::new(vec![port("a"), port("b")]));
        let mut served = Served::default();
        served.staying(a);
        served.flows_are(Flows::Confirmed);
        served.staying(Arc::clone(&both));
        assert!(served.may_have_flows("b"), "nobody can tell yet");
        served.given = Arc::default();
        assert!(!served.may_have_flows("b"));
        assert!(served.may_have_flows("a"));
        // Sent twice, and never answered.
        for _ in 0..2 {
            served.staying(Arc::clone(&both));
            served.flows_are(Flows::Unknown);
        }
        assert_eq!(served.sent.len(), 2);
        served.staying(Arc::default());
        assert!(served.may_have_flows("a") && served.may_have_flows("b"));
        served.flows_are(Flows::Confirmed);
        assert!(!served.may_have_flows("a") && !served.may_have_flows("b"));
    }
}
