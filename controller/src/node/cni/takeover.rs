//! Pods that the replaced system has wired, taken over as they run.
//!
//! Its leases are files of the same form, and its ports carry sandbox and address; only whose they are was in its memory
//! and in the API. The Pod object that has the address says so: namespace, name and UID are written to the port, and from
//! then on it is one like any other, under the name of its veth and with the number that it has. Until the Pod object is
//! known nothing of such a pod is removed.

use cni_shim::cni::CniError;
use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Pod;
use tracing::{info, warn};

use super::alias::Alias;
use super::pods::{PodNetwork, step};
use super::sandbox;
use crate::cluster::ClusterState;
use crate::node::host::links;
use crate::node::ovs::ports::Leg;

impl PodNetwork {
    /// Takes over a leg without a name. The caller holds the sandbox's lock.
    pub(super) async fn take_over(&self, leg: &Leg) {
        let found = pod_at(&self.snapshot().state, &self.node, leg);
        let Some(Alias { namespace, name, uid }) = found else {
            warn!(
                port = leg.host_veth, sandbox = leg.sandbox, ip = %leg.ip,
                "no pod of this node has the address of a port that the replaced system has left: it is cut off until one has"
            );
            return;
        };
        let leg = Leg { namespace, name, uid, ..leg.clone() };
        match self.name(&leg).await {
            Ok(()) => {
                info!(pod = %leg.pod(), port = leg.host_veth, ip = %leg.ip, "taken over from the replaced system")
            }
            Err(error) => warn!(pod = %leg.pod(), port = leg.host_veth, "can't be taken over: {error}"),
        }
    }

    async fn name(&self, leg: &Leg) -> Result<(), CniError> {
        if self.datapath_is_userspace {
            links::ignore_arp(&leg.host_veth).map_err(|error| step("veth", error))?;
        }
        let alias = Alias { namespace: leg.namespace.clone(), name: leg.name.clone(), uid: leg.uid.clone() };
        sandbox::set_alias(&leg.host_veth, alias.text()).await.map_err(|error| step("veth", error))?;
        self.write_port(leg, leg.port).await.map(|_| ())
    }

    /// Whether there is a leg without a name.
    pub(in crate::node) fn any_unnamed(&self) -> bool {
        self.legs().iter().any(|leg| !leg.is_named())
    }

    /// Looks for what may be taken over. The caller has read ports and leases before.
    pub(super) async fn take_over_all(&self, subnet: Ipv4Net, legs: &[Leg]) {
        for leg in legs.iter().filter(|leg| !leg.is_named() && subnet.contains(&leg.ip)) {
            let lock = self.lock(&leg.sandbox);
            let Ok(_guard) = lock.try_lock() else { continue };
            if self.leg(&leg.sandbox).is_some_and(|now| now == *leg) {
                self.take_over(leg).await;
            }
        }
    }
}

/// The one pod of a node that runs with a leg's address.
fn pod_at(state: &ClusterState, node: &str, leg: &Leg) -> Option<Alias> {
    let has_address = |pod: &Pod| {
        let spec = pod.spec.as_ref();
        let status = pod.status.as_ref();
        spec.is_some_and(|spec| spec.node_name.as_deref() == Some(node) && spec.host_network != Some(true))
            && status.is_some_and(|status| {
                let ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
                !ended && status.pod_ip.as_deref() == Some(leg.ip.to_string().as_str())
            })
    };
    let mut pods = state.pods.iter().filter(|(_, pod)| has_address(pod));
    let ((namespace, name), pod) = pods.next()?;
    // Of two the API does not know either whose the address is.
    pods.next().is_none().then(|| Alias {
        namespace: namespace.clone(),
        name: name.clone(),
        uid: pod.metadata.uid.clone().unwrap_or_default(),
    })
}
