//! Pods that leave the network: DEL.
//!
//! The flows go first, then port, veth and lease: the address is not free for another pod before nothing leads to it. The
//! switch is quick with flows, but does nothing else while it removes a port. For that nobody needs to wait: without flows
//! nothing passes a port.

use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use cni_shim::cni::{CniError, ErrorCode};
use cni_shim::contract::Request;

use super::bandwidth;
use super::fault;
use super::pods::{PodNetwork, host_veth_of, switch_step};
use super::server::Caller;
use crate::view::PodPort;

impl PodNetwork {
    /// CNI DEL: takes away whatever there is of the sandbox. Nothing there is success.
    ///
    /// # Errors
    /// When something could not be taken away; the runtime asks again.
    pub(super) async fn del(&self, request: &Request, caller: &Caller<'_>) -> Result<(), CniError> {
        let lock = self.lock(&request.container_id);
        let _guard = lock.lock().await;
        caller.waits()?;
        fault::point("del:begin")?;
        let mut problems = Vec::new();
        let attached = self.leg(&request.container_id);
        let leg = attached.as_ref().filter(|leg| leg.ifname == request.ifname);
        let veth = host_veth_of(leg, &request.container_id, &request.ifname);
        let detached = match (leg, &attached) {
            (Some(leg), _) => self.detach(&leg.sandbox, &leg.host_veth).await,
            (None, None) => {
                // Its port has gone before, by somebody else or by a DEL whose flows were not confirmed in time. The runtime can
                // do no more about those: the address alone waits for them.
                let _ = self.until_gone(&request.container_id).await;
                Ok(())
            }
            (None, Some(_)) => Ok(()),
        };
        if let Err(error) = detached {
            problems.push(error.msg);
        }
        fault::point("del:port")?;
        if let Err(error) = self.timed("delete veth", self.unwire(&veth)).await {
            problems.push(format!("veth: {error}"));
        }
        fault::point("del:veth")?;
        // An address whose flows may still be there must not go to another pod.
        if problems.is_empty() && (attached.is_some() || !self.flows_remain(&request.container_id)) {
            let network = self.current_status().network;
            if let Some(network) = network
                && let Err(error) =
                    self.release(network.local_subnet, &request.container_id, &request.ifname).await
            {
                problems.push(error.msg);
            }
        }
        fault::point("del:lease")?;
        match problems.is_empty() {
            true => Ok(()),
            false => Err(CniError::new(ErrorCode::TRY_AGAIN_LATER, problems.join("; "))),
        }
    }

    /// Takes away a sandbox's flows and then its port, with its queues. It may have none of them.
    pub(super) async fn detach(&self, sandbox: &str, veth: &str) -> Result<(), CniError> {
        self.miss_no_more(sandbox);
        let queues = bandwidth::remove(&self.ovsdb, veth).await;
        queues.map_err(|error| switch_step("bandwidth", error))?;
        let _leaving = Leaving::new(self, sandbox);
        let gone = self.timed("delete flows", self.until_gone(sandbox)).await;
        let deleted = self.timed("delete port", self.ports.delete(veth)).await;
        gone.and(deleted.map_err(|error| switch_step("port", error)))
    }

    /// Whether the switch has not confirmed that the flows of a sandbox without a port are gone. Once it has, it is looked after
    /// what waits for that.
    pub(super) fn flows_remain(&self, sandbox: &str) -> bool {
        let remain = self.may_have_flows(sandbox);
        if remain {
            self.flows_awaited.store(true, Ordering::Relaxed);
        }
        remain
    }

    /// Whether there is something to wait for. Before the first flows are written there is not, whatever an earlier run has left
    /// on the switch: until it is gone nobody is given an address.
    fn may_have_flows(&self, sandbox: &str) -> bool {
        self.status.borrow().ready && self.served().possible.contains(sandbox)
    }

    /// Waits until the switch has confirmed that it has no flows of a sandbox any more.
    async fn until_gone(&self, sandbox: &str) -> Result<(), CniError> {
        if !self.may_have_flows(sandbox) {
            return Ok(());
        }
        self.nudge.notify_one();
        self.until(|_| !self.served().possible.contains(sandbox)).await
    }

    /// The ports of pods that stay, for the loop to make flows of.
    pub(in crate::node) fn staying(&self) -> Arc<Vec<PodPort>> {
        // Read under the lock: a sandbox leaves those that leave only when the replica has its port no more.
        let mut served = self.served();
        let ports = self.pod_ports.of(&self.ovsdb.replica());
        served.staying(ports)
    }

    /// The switch has confirmed that it has flows of these ports and of no others.
    pub(in crate::node) fn confirmed(&self, ports: &[PodPort]) {
        self.served().confirmed(ports);
    }

    fn served(&self) -> MutexGuard<'_, Served> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which sandboxes the switch leads packets to.
#[derive(Debug, Default)]
pub(super) struct Served {
    /// Those that a request is taking away: the pipeline leads nothing to and from their ports any more.
    leaving: BTreeSet<String>,
    /// Those that the switch may have flows of. What the loop was given once may reach the switch until something later is
    /// confirmed: that nothing is confirmed of a sandbox does not say that its flows are not on their way.
    possible: BTreeSet<String>,
}

impl Served {
    fn staying(&mut self, ports: Arc<Vec<PodPort>>) -> Arc<Vec<PodPort>> {
        let staying = match self.leaving.is_empty() {
            true => ports,
            false => {
                let stays = |port: &&PodPort| !self.leaving.contains(&port.sandbox);
                Arc::new(ports.iter().filter(stays).cloned().collect())
            }
        };
        for port in staying.iter() {
            if !self.possible.contains(&port.sandbox) {
                self.possible.insert(port.sandbox.clone());
            }
        }
        staying
    }

    fn confirmed(&mut self, ports: &[PodPort]) {
        let there: HashSet<&str> = ports.iter().map(|port| port.sandbox.as_str()).collect();
        self.possible.retain(|sandbox| there.contains(sandbox.as_str()));
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
    fn flows_that_are_on_their_way_are_possible_until_a_later_round_is_confirmed() {
        let (none, both) = (Arc::new(Vec::new()), Arc::new(vec![port("a"), port("b")]));
        let mut served = Served::default();
        let first = served.staying(Arc::clone(&both));
        assert_eq!(first, both);
        // Its request has failed before the switch has confirmed anything.
        served.leaving.insert("a".to_owned());
        assert!(served.possible.contains("a"), "its flows are on their way");
        served.confirmed(&first);
        assert!(served.possible.contains("a"), "its flows are there");
        let second = served.staying(Arc::clone(&both));
        assert_eq!(*second, [port("b")]);
        assert!(served.possible.contains("a"), "not confirmed yet");
        served.confirmed(&second);
        assert!(!served.possible.contains("a"));
        assert!(served.possible.contains("b"));
        // A round that fails leaves all that was possible before it.
        served.leaving.remove("a");
        let third = served.staying(none);
        assert!(served.possible.contains("b"));
        served.confirmed(&third);
        assert!(served.possible.is_empty());
    }
}
