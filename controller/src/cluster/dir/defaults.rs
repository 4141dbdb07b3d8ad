//! What an API server adds to an object on creation, as far as this system reads it.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::api::{GLOBAL_NAMESPACE, ObjectRef};
use crate::cluster::Object;

/// Label that every Namespace has, with its name.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

const TCP: &str = "TCP";

/// Fills in what the document left out.
pub(super) fn set(object: &mut Object) {
    let is_empty = |text: &Option<String>| text.as_deref().unwrap_or_default().is_empty();
    if object.kind().is_namespaced() && is_empty(&object.metadata().namespace) {
        object.metadata_mut().namespace = Some(GLOBAL_NAMESPACE.to_owned());
    }
    if is_empty(&object.metadata().uid) {
        let uid = uid(&object.reference());
        object.metadata_mut().uid = Some(uid);
    }
    match object {
        Object::Namespace(namespace) => self::namespace(Arc::make_mut(namespace)),
        Object::Pod(pod) => self::pod(Arc::make_mut(pod)),
        Object::Service(service) => self::service(Arc::make_mut(service)),
        Object::EndpointSlice(slice) => self::endpoint_slice(Arc::make_mut(slice)),
        Object::NetworkPolicy(policy) => self::network_policy(Arc::make_mut(policy)),
        _ => {}
    }
}

fn namespace(namespace: &mut Namespace) {
    let name = namespace.metadata.name.clone().unwrap_or_default();
    namespace.metadata.labels.get_or_insert_with(BTreeMap::new).insert(NAME_LABEL.to_owned(), name);
}

fn pod(pod: &mut Pod) {
    let containers = pod.spec.iter_mut().flat_map(|spec| &mut spec.containers);
    for port in containers.flat_map(|container| container.ports.iter_mut().flatten()) {
        set_protocol(&mut port.protocol);
    }
}

fn service(service: &mut Service) {
    for port in service.spec.iter_mut().flat_map(|spec| spec.ports.iter_mut().flatten()) {
        set_protocol(&mut port.protocol);
        port.target_port.get_or_insert(IntOrString::Int(port.port));
    }
}

fn endpoint_slice(slice: &mut EndpointSlice) {
    for port in slice.ports.iter_mut().flatten() {
        set_protocol(&mut port.protocol);
    }
}

fn network_policy(policy: &mut NetworkPolicy) {
    let Some(spec) = &mut policy.spec else { return };
    let ingress = spec.ingress.iter_mut().flatten().filter_map(|rule| rule.ports.as_mut());
    let egress = spec.egress.iter_mut().flatten().filter_map(|rule| rule.ports.as_mut());
    for port in ingress.chain(egress).flatten() {
        set_protocol(&mut port.protocol);
    }
    if spec.policy_types.as_ref().is_none_or(Vec::is_empty) {
        let egress = spec.egress.as_ref().is_some_and(|rules| !rules.is_empty()).then_some("Egress");
        spec.policy_types = Some(["Ingress"].into_iter().chain(egress).map(str::to_owned).collect());
    }
}

fn set_protocol(protocol: &mut Option<String>) {
    if protocol.as_deref().unwrap_or_default().is_empty() {
        *protocol = Some(TCP.to_owned());
    }
}

/// A UUID (RFC 9562 version 8) made from an object's name: the same each time the directory is read.
pub(super) fn uid(object: &ObjectRef) -> String {
    // FNV-1a, 128 bits.
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let hash = [object.kind.as_str(), object.namespace.as_deref().unwrap_or_default(), &object.name]
        .iter()
        .flat_map(|part| part.bytes().chain([b'/']))
        .fold(OFFSET, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME));
    let bits = (hash & !(0xf << 76) & !(0x3 << 62)) | (0x8 << 76) | (0x2 << 62);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        bits >> 96,
        (bits >> 80) & 0xffff,
        (bits >> 64) & 0xffff,
        (bits >> 48) & 0xffff,
        bits & 0xffff_ffff_ffff
    )
}
