//! One dump of the replaced system with the objects behind it; `reference/README.md` tells the form.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use controller::cluster::ClusterState;
use controller::view::{Inputs, Known, Names, PodPort, View, inputs_knowing};
use flowtables::flowset::{FlowSet, Rendered};
use flowtables::pipeline::cookie::Owner;
use flowtables::pipeline::port::{TUN0, VXLAN0};
use flowtables::walk::Packet;
use openflow::{Field, Flow, Group, OfPort};

/// The node whose bridge was dumped.
const NODE: &str = "node1";

pub(crate) struct Scenario {
    pub(crate) name: String,
    pub(crate) state: ClusterState,
    pub(crate) inputs: Inputs,
    /// Ours.
    pub(crate) view: View,
    /// The replaced system's.
    pub(crate) theirs: FlowSet,
}

/// What a dump says besides flows and groups.
#[derive(Default)]
struct Facts {
    ports: Vec<(OfPort, Ipv4Addr)>,
    known: Known,
    common: Option<String>,
}

fn dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn facts(text: &str) -> Facts {
    let mut facts = Facts::default();
    for line in text.lines().filter_map(|line| line.strip_prefix("# ")) {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["tun0", mac] => {
                let bytes: Vec<u8> =
                    mac.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
                facts.known.tun0_mac = Some(bytes.try_into().unwrap());
            }
            ["port", port, ip] => facts.ports.push((OfPort(port.parse().unwrap()), ip.parse().unwrap())),
            ["name", name, ips] => {
                let ips: BTreeSet<Ipv4Addr> = ips.split(',').map(|ip| ip.parse().unwrap()).collect();
                facts.known.names.extend(Names::from([((*name).to_owned(), ips)]));
            }
            ["unreachable", node] => {
                facts.known.unreachable.insert((*node).to_owned());
            }
            ["common", name] => facts.common = Some((*name).to_owned()),
            other => panic!("what is {other:?}?"),
        }
    }
    facts
}

/// A flow set of the lines of a dump.
fn flow_set(text: &str) -> FlowSet {
    let mut rendered = Rendered::default();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if line.starts_with("group_id=") {
            rendered.groups.push(line.parse::<Group>().unwrap_or_else(|error| panic!("{line}: {error}")));
        } else {
            rendered.flows.push(line.parse::<Flow>().unwrap_or_else(|error| panic!("{line}: {error}")));
        }
    }
    let lines = rendered.flows.len();
    let mut set = FlowSet::new();
    set.replace(&Owner::Base, rendered);
    assert_eq!(set.len(), lines, "a switch has no flow twice");
    set
}

impl Scenario {
    /// Every dump there is.
    pub(crate) fn all() -> Vec<Self> {
        let entries = std::fs::read_dir(dir()).unwrap().map(|entry| entry.unwrap().path());
        let mut names: Vec<String> = entries
            .filter(|path| path.is_dir())
            .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names.iter().map(|name| Self::named(name)).collect()
    }

    pub(crate) fn named(name: &str) -> Self {
        let dir = dir();
        let state =
            controller::cluster::dir::load(&dir.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let dump = read(&dir.join(name).join("bridge.txt"));
        let facts = facts(&dump);
        let common = facts.common.map(|common| read(&dir.join(format!("common-{common}.flows"))));
        let theirs = flow_set(&(common.unwrap_or_default() + &dump));
        let leg = |(port, ip): (OfPort, Ipv4Addr)| {
            let has_it = |pod: &k8s_openapi::api::core::v1::Pod| {
                pod.status.as_ref().and_then(|status| status.pod_ip.as_deref()) == Some(&ip.to_string())
            };
            let ((namespace, name), _) = state.pods.iter().find(|(_, pod)| has_it(pod))?;
            let (namespace, name) = (namespace.clone(), name.clone());
            Some(PodPort { namespace, sandbox: name.clone(), name, ip, port })
        };
        let legs: Vec<PodPort> = facts.ports.into_iter().filter_map(leg).collect();
        let inputs = inputs_knowing(&state, NODE, &legs, &facts.known)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let view = View::of(&inputs);
        assert_eq!(view.conflicts(), [], "{name}");
        Self { name: name.to_owned(), state, inputs, view, theirs }
    }

    /// Our flows but for these.
    pub(crate) fn without(&self, gone: &[(Flow, Owner)]) -> FlowSet {
        let ours = self.view.flows();
        let kept: Vec<Flow> =
            ours.iter().filter(|flow| !gone.iter().any(|(gone, _)| gone == *flow)).cloned().collect();
        let mut set = FlowSet::new();
        set.replace(&Owner::Base, Rendered { flows: kept, groups: ours.groups().cloned().collect() });
        set
    }

    /// The VNID of who sent the packet, by the objects: the pod at the port, the one whose address came back from the
    /// host's service NAT, what the tunnel says, or the node itself.
    pub(crate) fn sender(&self, packet: &Packet) -> Option<u32> {
        let source = packet.ipv4(Field::IPV4_SRC);
        let pod = |port: Option<OfPort>| {
            let found = self
                .inputs
                .pods
                .iter()
                .find(|pod| pod.ip == source && port.is_none_or(|port| port == pod.port));
            found.map(|pod| pod.vnid.get())
        };
        match packet.in_port() {
            VXLAN0 => u32::try_from(packet.get(Field::TUN_ID)).ok(),
            TUN0 if self.inputs.base.local_subnet.contains(&source) => pod(None).or(Some(0)),
            TUN0 => Some(0),
            port => pod(Some(port)),
        }
    }
}
