//! Who talks to whom: what `--from` and `--to` of a trace name, as the cluster knows it.

use std::net::Ipv4Addr;

use anyhow::{anyhow, bail};
use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::cli::WrongUse;
use crate::cluster::{ClusterState, NamespacedName};

/// Says of which Service an EndpointSlice is.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// A transport protocol, as far as the tables tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Proto {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
    /// ICMP: a ping. Has no ports.
    Icmp,
}

impl Proto {
    /// Its name in flow syntax.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Proto::Tcp => "tcp",
            Proto::Udp => "udp",
            Proto::Sctp => "sctp",
            Proto::Icmp => "icmp",
        }
    }
}

/// A pod, where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodPlace {
    /// Namespace and name.
    pub name: NamespacedName,
    /// Its node.
    pub node: String,
    /// Its address; that of the node with `hostNetwork`.
    pub ip: Ipv4Addr,
    /// Whether it uses the node's own network.
    pub host_network: bool,
}

/// Where a packet is meant to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// To a pod.
    Pod(PodPlace),
    /// To a service's address.
    Service(ServicePlace),
    /// To an address that is neither.
    Address(Ipv4Addr),
}

/// A port of a service, and who answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePlace {
    /// Namespace and name.
    pub name: NamespacedName,
    /// Its virtual address.
    pub cluster_ip: Ipv4Addr,
    /// The port and its protocol.
    pub port: (Proto, u16),
    /// Address and port of each ready endpoint.
    pub endpoints: Vec<(Ipv4Addr, u16)>,
}

impl Destination {
    /// The address that the sender's packet carries.
    #[must_use]
    pub fn ip(&self) -> Ipv4Addr {
        match self {
            Destination::Pod(pod) => pod.ip,
            Destination::Service(service) => service.cluster_ip,
            Destination::Address(ip) => *ip,
        }
    }
}

fn namespaced(text: &str, option: &str) -> anyhow::Result<NamespacedName> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok((namespace.to_owned(), name.to_owned()))
        }
        _ => Err(WrongUse(format!("{option} {text}: say NAMESPACE/NAME")).into()),
    }
}

/// The pod that `--from` names.
///
/// # Errors
/// When there is none, or it is not where it could send.
pub fn sender(state: &ClusterState, text: &str) -> anyhow::Result<PodPlace> {
    pod(state, namespaced(text, "--from")?)
}

/// What `--to` names: a pod, a service (`NAME` alone is one of the sender's namespace), or an address.
///
/// # Errors
/// When there is no such thing, or a service's port is not clear.
pub fn destination(
    state: &ClusterState,
    text: &str,
    from: &PodPlace,
    proto: Option<Proto>,
    port: Option<u16>,
) -> anyhow::Result<Destination> {
    if let Ok(ip) = text.parse::<Ipv4Addr>() {
        return at_address(state, ip, proto, port);
    }
    let (kind, text) = match text.split_once('/') {
        Some((kind @ ("pod" | "svc" | "service"), rest)) if rest.contains('/') => (kind, rest),
        _ => ("", text),
    };
    let key = match text.contains('/') {
        true => namespaced(text, "--to")?,
        false => (from.name.0.clone(), text.to_owned()),
    };
    match (state.pods.contains_key(&key), state.services.get(&key)) {
        (true, Some(_)) if kind.is_empty() => Err(WrongUse(format!(
            "--to {0}/{1}: there is a pod and a service of this name; say pod/{0}/{1} or svc/{0}/{1}",
            key.0, key.1
        ))
        .into()),
        (_, Some(object)) if kind != "pod" => service(state, key, object, proto, port),
        (true, _) if matches!(kind, "" | "pod") => pod(state, key).map(Destination::Pod),
        _ => {
            let what = if kind.is_empty() { "pod or service" } else { kind };
            Err(unknown(state, what, &key))
        }
    }
}

fn unknown(state: &ClusterState, what: &str, (namespace, name): &NamespacedName) -> anyhow::Error {
    let known = || state.pods.keys().chain(state.services.keys()).filter(|key| key.0 == *namespace);
    if !state.namespaces.contains_key(namespace) && known().next().is_none() {
        return anyhow!("there is no {what} {namespace}/{name}: there is no namespace {namespace}");
    }
    let names: Vec<&str> = known().map(|key| key.1.as_str()).take(10).collect();
    match names.as_slice() {
        [] => anyhow!("there is no {what} {namespace}/{name}: the namespace is empty"),
        names => anyhow!("there is no {what} {namespace}/{name}: {namespace} has {}", names.join(", ")),
    }
}

fn pod(state: &ClusterState, key: NamespacedName) -> anyhow::Result<PodPlace> {
    let Some(object) = state.pods.get(&key) else { return Err(unknown(state, "pod", &key)) };
    let (namespace, name) = &key;
    let spec = object.spec.as_ref();
    let Some(node) = spec.and_then(|spec| spec.node_name.clone()).filter(|node| !node.is_empty()) else {
        bail!("pod {namespace}/{name} is on no node yet: wait until it is scheduled");
    };
    if !state.host_subnets.contains_key(&node) {
        bail!(
            "pod {namespace}/{name} is on node {node}, which has no HostSubnet: sdn-controller gives it one once the \
             Node object has an InternalIP"
        );
    }
    let status = object.status.as_ref();
    let Some(ip) = status.and_then(|status| status.pod_ip.as_deref()).and_then(|ip| ip.parse().ok()) else {
        bail!("pod {namespace}/{name} has no IPv4 address yet (status.podIP)");
    };
    let host_network = spec.is_some_and(|spec| spec.host_network == Some(true));
    Ok(PodPlace { name: key, node, ip, host_network })
}

/// Whose an address is: a pod's, a service's, or somebody else's.
fn at_address(
    state: &ClusterState,
    ip: Ipv4Addr,
    proto: Option<Proto>,
    port: Option<u16>,
) -> anyhow::Result<Destination> {
    let text = ip.to_string();
    let of_pod = state.pods.iter().find(|(_, pod)| {
        let on_host = pod.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true));
        !on_host && pod.status.as_ref().and_then(|status| status.pod_ip.as_ref()) == Some(&text)
    });
    if let Some((key, _)) = of_pod {
        return pod(state, key.clone()).map(Destination::Pod);
    }
    let of_service = state
        .services
        .iter()
        .find(|(_, service)| service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_ref()) == Some(&text));
    match of_service {
        Some((key, object)) => service(state, key.clone(), object, proto, port),
        None => Ok(Destination::Address(ip)),
    }
}

fn service(
    state: &ClusterState,
    key: NamespacedName,
    object: &Service,
    proto: Option<Proto>,
    port: Option<u16>,
) -> anyhow::Result<Destination> {
    let (namespace, name) = &key;
    let spec = object.spec.as_ref();
    let Some(cluster_ip) = spec.and_then(|spec| spec.cluster_ip.as_deref()).and_then(|ip| ip.parse().ok())
    else {
        bail!("service {namespace}/{name} has no ClusterIP: name one of its pods instead");
    };
    let ports = spec.and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    let fits = |candidate: &&ServicePort| {
        proto.is_none_or(|proto| proto == protocol(candidate))
            && port.is_none_or(|port| i32::from(port) == candidate.port)
    };
    let fitting: Vec<&ServicePort> = ports.iter().filter(fits).collect();
    let has = ports
        .iter()
        .map(|port| format!("{} --port {}", protocol(port).name(), port.port))
        .collect::<Vec<_>>()
        .join(" or --proto ");
    let chosen = match fitting.as_slice() {
        [] if ports.is_empty() => {
            bail!("service {namespace}/{name} has no ports: nobody is let through to it")
        }
        [] => bail!("service {namespace}/{name} has no such port: say --proto {has}"),
        [one] => *one,
        _ => {
            return Err(
                WrongUse(format!("service {namespace}/{name} has several ports: say --proto {has}")).into()
            );
        }
    };
    let Ok(number) = u16::try_from(chosen.port) else {
        bail!("service {namespace}/{name}: port {} is not between 1 and 65535", chosen.port);
    };
    let endpoints = endpoints(state, &key, chosen);
    let port = (protocol(chosen), number);
    Ok(Destination::Service(ServicePlace { name: key, cluster_ip, port, endpoints }))
}

fn protocol(port: &ServicePort) -> Proto {
    match port.protocol.as_deref() {
        Some("UDP") => Proto::Udp,
        Some("SCTP") => Proto::Sctp,
        _ => Proto::Tcp,
    }
}

/// The ready endpoints of a port, in order. One that says nothing of being ready is (as the API has it).
fn endpoints(
    state: &ClusterState,
    (namespace, name): &NamespacedName,
    port: &ServicePort,
) -> Vec<(Ipv4Addr, u16)> {
    let of_service = |slice: &&EndpointSlice| {
        let label = slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_LABEL));
        slice.metadata.namespace.as_ref() == Some(namespace) && label == Some(name)
    };
    let mut found: Vec<(Ipv4Addr, u16)> = Vec::new();
    for slice in state.endpoint_slices.values().map(|slice| slice.as_ref()).filter(of_service) {
        let ports = slice.ports.as_deref().unwrap_or_default().iter();
        let numbers: Vec<u16> = ports
            .filter(|other| {
                other.name.as_deref().unwrap_or_default() == port.name.as_deref().unwrap_or_default()
            })
            .filter_map(|other| u16::try_from(other.port?).ok())
            .collect();
        for endpoint in &slice.endpoints {
            if endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) == Some(false) {
                continue;
            }
            let addresses = endpoint.addresses.iter().filter_map(|address| address.parse().ok());
            found.extend(addresses.flat_map(|ip| numbers.iter().map(move |&port| (ip, port))));
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}
