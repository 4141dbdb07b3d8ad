//! Which OpenFlow ports a node's pods have, where no switch can say it.

use std::collections::BTreeSet;

use flowtables::pipeline::port::{FIRST_POD, PODS};
use k8s_openapi::api::core::v1::Pod;
use openflow::OfPort;

use super::PodPort;
use crate::cluster::ClusterState;

/// Fixes the OpenFlow port that a pod asks for.
const PORT_ANNOTATION: &str = "osdn.io/ofport";

/// The port that a pod asks for by annotation.
#[must_use]
pub fn annotated_port(pod: &Pod) -> Option<OfPort> {
    let text = pod.metadata.annotations.as_ref()?.get(PORT_ANNOTATION)?;
    let port = OfPort(text.parse().ok()?);
    PODS.contains(&port).then_some(port)
}

/// The pods of `node` that have an address, at the ports they get when started in order: the next free one from
/// 3 on, in order of creationTimestamp, then namespace and name; the annotation `osdn.io/ofport` fixes one, of two pods that
/// fix the same one that of the first.
#[must_use]
pub fn offline_ports(state: &ClusterState, node: &str) -> Vec<PodPort> {
    let mut pods: Vec<(&(String, String), &Pod)> = state
        .pods
        .iter()
        .map(|(key, pod)| (key, pod.as_ref()))
        .filter(|(_, pod)| {
            pod.spec.as_ref().is_some_and(|spec| {
                spec.node_name.as_deref() == Some(node) && spec.host_network != Some(true)
            })
        })
        .collect();
    pods.sort_by_key(|(key, pod)| (pod.metadata.creation_timestamp.clone(), *key));

    let mut taken: BTreeSet<OfPort> = pods.iter().filter_map(|(_, pod)| annotated_port(pod)).collect();
    let mut fixed = taken.clone();
    let mut next = FIRST_POD;
    let mut ports = Vec::new();
    for ((namespace, name), pod) in pods {
        let port = annotated_port(pod).filter(|port| fixed.remove(port)).unwrap_or_else(|| {
            while taken.contains(&next) {
                next = OfPort(next.0 + 1);
            }
            taken.insert(next);
            next
        });
        let ip =
            pod.status.as_ref().and_then(|status| status.pod_ip.as_deref()).and_then(|ip| ip.parse().ok());
        if let Some(ip) = ip {
            ports.push(PodPort {
                namespace: namespace.clone(),
                name: name.clone(),
                sandbox: pod.metadata.uid.clone().unwrap_or_default(),
                ip,
                port,
            });
        }
    }
    ports
}
