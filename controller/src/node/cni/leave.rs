//! Pods that leave the network: DEL.
//!
//! The flows go first, then port, veth and lease: the address is not free for another pod before nothing leads to it. The
//! switch is quick with flows, but does nothing else while it removes a port. For that nobody needs to wait: without flows
//! nothing passes a port.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use cni_shim::cni::{CniError, ErrorCode};
use cni_shim::contract::Request;

use super::fault;
use super::pods::{PodNetwork, host_veth_of, switch_step};
use super::server::Caller;
use crate::node::ovs::ports::Leg;
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
            (Some(leg), _) => self.detach(leg).await,
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

    /// Takes away a pod's flows and then its port, with its queues.
    pub(super) async fn detach(&self, leg: &Leg) -> Result<(), CniError> {
        self.forget_port(leg).await?;
        let _leaving = Leaving::new(self, &leg.sandbox);
        let gone = self.timed("delete flows", self.until_gone(&leg.sandbox)).await;
        let deleted = self.timed("delete port", self.ports.delete(&leg.host_veth)).await;
        gone.and(deleted.map_err(|error| switch_step("port", error)))
    }

    /// Whether the switch has not confirmed that the flows of a sandbox without a port are gone. Once it has, it is looked after
    /// what waits for that.
    pub(super) fn flows_remain(&self, sandbox: &str) -> bool {
        let remain = self.current_status().has(sandbox);
        if remain {
            self.flows_awaited.store(true, Ordering::Relaxed);
        }
        remain
    }

    /// Waits until the switch has confirmed that it has no flows of a sandbox any more.
    async fn until_gone(&self, sandbox: &str) -> Result<(), CniError> {
        self.nudge.notify_one();
        self.until(|status| !status.has(sandbox)).await
    }

    /// The ports of pods that stay.
    pub(in crate::node) fn staying(&self) -> Arc<Vec<PodPort>> {
        // Read under the lock: a sandbox leaves those that leave only when the replica has its port no more.
        let leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        let ports = self.pod_ports.of(&self.ovsdb.replica());
        match leaving.is_empty() {
            true => ports,
            false => {
                let stays = |port: &&PodPort| !leaving.contains(&port.sandbox);
                Arc::new(ports.iter().filter(stays).cloned().collect())
            }
        }
    }
}

/// As long as it lives a sandbox is one that leaves.
struct Leaving<'a> {
    pods: &'a PodNetwork,
    sandbox: &'a str,
}

impl<'a> Leaving<'a> {
    fn new(pods: &'a PodNetwork, sandbox: &'a str) -> Self {
        pods.leaving.lock().unwrap_or_else(PoisonError::into_inner).insert(sandbox.to_owned());
        Self { pods, sandbox }
    }
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.pods.leaving.lock().unwrap_or_else(PoisonError::into_inner).remove(self.sandbox);
    }
}
