//! `sdnctl lab demo`: a whole cluster, who reaches whom under each plugin, and why.

use std::env;
use std::fs;
use std::io::{self, IsTerminal};
#[cfg(test)]
use std::path::Path;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use flowtables::walk::{Assumptions, Packet, walk};
use openflow::Match;

use super::{DEFAULT_NAME, interrupted, matrix, status_text};
use crate::api::PluginMode;
use crate::cli::diff::Differences;
use crate::cli::output::print;
use crate::cli::target::{Node, view};
use crate::cli::{Exit, trace};
use crate::cluster::{ClusterLocation, ClusterSource, ClusterState};
use crate::lab::{self, Cluster, LabDir, Options, Progress};
use crate::node::ovs::syncer;
use crate::view::Known;

/// The cluster of the demo, so that it runs from anywhere.
const CLUSTER: [(&str, &str); 5] = [
    ("namespaces.yaml", include_str!("../../../../manifests/demo/namespaces.yaml")),
    ("network.yaml", include_str!("../../../../manifests/demo/network.yaml")),
    ("nodes.yaml", include_str!("../../../../manifests/demo/nodes.yaml")),
    ("pods.yaml", include_str!("../../../../manifests/demo/pods.yaml")),
    ("services.yaml", include_str!("../../../../manifests/demo/services.yaml")),
];

/// How long the nodes may take to follow a change of the plugin.
const SWITCHOVER: Duration = Duration::from_secs(10);

/// Arguments of `sdnctl lab demo`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Another cluster than the built-in one: a directory of Kubernetes YAML
    #[arg(long, value_name = "DIR")]
    cluster: Option<PathBuf>,
    /// Leave the lab running at the end, to look around in
    #[arg(long)]
    keep: bool,
}

/// A packet whose way through the built-in cluster is documented.
struct Documented {
    what: &'static str,
    node: &'static str,
    packet: &'static str,
    path: &'static [u8],
}

const WALKS: [Documented; 6] = [
    Documented {
        what: "a pod to a pod on the same node",
        node: "node2.ocp.cn",
        packet: "in_port=4,tcp,nw_src=10.130.0.6,nw_dst=10.130.0.5,ct_state=trk",
        path: &[0, 20, 21, 30, 70, 80],
    },
    Documented {
        what: "a pod to a pod on another node",
        node: "node2.ocp.cn",
        packet: "in_port=4,tcp,nw_src=10.130.0.6,nw_dst=10.131.0.4,ct_state=trk",
        path: &[0, 20, 21, 30, 90],
    },
    Documented {
        what: "the tunnel to that pod, on its node",
        node: "node1.ocp.cn",
        packet: "in_port=1,tcp,tun_src=192.168.108.112,nw_dst=10.131.0.4,ct_state=trk",
        path: &[0, 10, 30, 70, 80],
    },
    Documented {
        what: "a tunnel endpoint that is no other node, to a pod",
        node: "node1.ocp.cn",
        packet: "in_port=1,tcp,tun_src=192.168.108.111,nw_dst=10.131.0.4,ct_state=trk",
        path: &[0, 10],
    },
    Documented {
        what: "a pod to the world outside",
        node: "node2.ocp.cn",
        packet: "in_port=4,tcp,nw_src=10.130.0.6,nw_dst=192.168.108.1,ct_state=trk",
        path: &[0, 20, 21, 30, 100, 101],
    },
    Documented {
        what: "a pod to a service",
        node: "node2.ocp.cn",
        packet: "in_port=4,tcp,nw_src=10.130.0.6,nw_dst=172.30.161.148,ct_state=trk",
        path: &[0, 20, 21, 30, 60],
    },
];

/// Runs the demo.
///
/// # Errors
/// What could not be done. What came out other than it should is told, and makes the answer no.
pub(super) async fn run(dir: &LabDir, args: Args) -> anyhow::Result<Exit> {
    lab::preflight::root()?;
    lab::preflight::tools(&["ping"])?;
    let start = Instant::now();
    let stop = futures::FutureExt::shared(interrupted()?);

    heading("A cluster of Kubernetes nodes, on this machine");
    let built_in = if args.cluster.is_none() { Some(BuiltIn::write()?) } else { None };
    let cluster = args.cluster.or_else(|| built_in.as_ref().map(|built_in| built_in.0.clone()));
    let options = Options {
        cluster: Cluster::Dir(cluster.unwrap_or_default()),
        plugin: Some(PluginMode::Subnet),
        ..Options::default()
    };
    lab::up(dir, &options, Progress::spoken(), stop.clone()).await?;
    drop(built_in);

    let shown = tokio::select! {
        shown = show(dir) => shown,
        () = stop => Err(anyhow::anyhow!("interrupted")),
    };
    if args.keep {
        let name = dir.name();
        print(&format!(
            "\nThe lab stays: `sdnctl lab status --name {name}`, `sdnctl lab down --name {name}`"
        ))?;
    } else {
        lab::down(dir).await?;
        print("\nThe lab is removed.")?;
    }
    let faults = shown?;
    let seconds = start.elapsed().as_secs_f64();
    if faults == 0 {
        print(&format!("Demo passed: everything as it should be, in {seconds:.1} s."))?;
        Ok(Exit::Done)
    } else {
        print(&format!(
            "Demo FAILED: {faults} things are not as they should be (✗ above), after {seconds:.1} s."
        ))?;
        Ok(Exit::No)
    }
}

/// Shows everything; how much of it was not as it should be.
async fn show(dir: &LabDir) -> anyhow::Result<usize> {
    print("")?;
    print(&status_text(&lab::status(dir).await?))?;

    let mut faults = 0;
    heading("Who reaches whom: one flat network");
    faults += reachability(dir).await?;

    heading("Who reaches whom: a tenant a namespace");
    switch_over(dir, PluginMode::Multitenant).await?;
    faults += reachability(dir).await?;

    if is_documented(&ClusterSource::load(&ClusterLocation::Dir(dir.cluster()))?) {
        heading("Why: the way of a packet, table by table");
        switch_over(dir, PluginMode::Subnet).await?;
        for documented in &WALKS {
            faults += explain(dir, documented).await?;
        }
    }
    Ok(faults)
}

/// Whether the cluster is the one that [`WALKS`] are about.
fn is_documented(state: &ClusterState) -> bool {
    let pods = ["10.130.0.5", "10.130.0.6", "10.131.0.4"];
    let has = |ip: &str| {
        state
            .pods
            .values()
            .any(|pod| pod.status.as_ref().is_some_and(|status| status.pod_ip.as_deref() == Some(ip)))
    };
    WALKS.iter().all(|walk| state.nodes.contains_key(walk.node)) && pods.into_iter().all(has)
}

async fn reachability(dir: &LabDir) -> anyhow::Result<usize> {
    let (plugin, measured) = lab::matrix::measure(dir).await?;
    print(&matrix::text(plugin, &measured))?;
    Ok(measured.faults().len())
}

/// Changes the plugin of the running cluster, and waits until every switch has the flows of the new one.
async fn switch_over(dir: &LabDir, plugin: PluginMode) -> anyhow::Result<()> {
    let start = Instant::now();
    lab::set_plugin(dir, plugin).await?;
    let (_, state) = lab::state::Store::open(dir)?;
    for name in state.nodes.keys() {
        while !(lab::matrix::tenants_are_known(dir)? && in_sync(dir, name).await?) {
            if start.elapsed() > SWITCHOVER {
                bail!(
                    "node {name} does not follow the change of the plugin; see {}",
                    dir.node(name).agent_log().display()
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let took = start.elapsed().as_millis();
    print(&format!(
        "pluginName is {} now; every switch has the flows for it after {took} ms, nothing was restarted.",
        plugin.plugin_name()
    ))?;
    print("")
}

async fn in_sync(dir: &LabDir, node: &str) -> anyhow::Result<bool> {
    let node = node_of(dir, node)?;
    let view = view(&node.live().await?);
    let actual = syncer::read(&node.switch().await?).await?;
    Ok(Differences::between(&actual, view.flows()).is_empty())
}

fn node_of(dir: &LabDir, name: &str) -> anyhow::Result<Node> {
    let state = ClusterSource::load(&ClusterLocation::Dir(dir.cluster()))?;
    Ok(Node {
        name: name.to_owned(),
        state: state.into(),
        known: Known::default(),
        ovs_dir: dir.node(name).ovs(),
        cni_socket: dir.node(name).cni_socket(),
    })
}

/// Explains one packet's way, and compares it with what the switch says and with what is documented.
async fn explain(dir: &LabDir, documented: &Documented) -> anyhow::Result<usize> {
    let Documented { what, node, packet, path } = documented;
    let node = node_of(dir, node)?;
    let fields: Match = packet.parse().with_context(|| format!("the packet {packet}"))?;
    let view = view(&node.live().await?);
    let walk = walk(view.flows(), Packet::from(&fields), &Assumptions::default());
    let (live, _) = trace::ask_switch(&node, packet, &Assumptions::default()).await?;

    let mut faults = trace::differences(&walk, &live);
    if walk.path() != *path {
        faults.push(format!("documented is the path {path:?}, this one is {:?}", walk.path()));
    }
    let mut text = format!(
        "{}\n$ sdnctl trace {}--live --node {} {packet}\n{}",
        strong(&format!("From {what}")),
        if dir.name().as_str() == DEFAULT_NAME { String::new() } else { format!("--name {} ", dir.name()) },
        node.name,
        trace::text(&walk)
    );
    match faults.is_empty() {
        true => text += "✓ as documented, and as the switch's own trace says\n",
        false => text.extend(faults.iter().map(|fault| format!("✗ {fault}\n"))),
    }
    print(&text)?;
    print("")?;
    Ok(faults.len())
}

/// The built-in cluster as a directory, which goes away with this.
struct BuiltIn(PathBuf);

impl BuiltIn {
    fn write() -> anyhow::Result<Self> {
        let path = env::temp_dir().join(format!("sdnctl-demo-{}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("could not create {}", path.display()))?;
        let directory = Self(path);
        for (name, text) in CLUSTER {
            let file = directory.0.join(name);
            fs::write(&file, text).with_context(|| format!("could not write {}", file.display()))?;
        }
        Ok(directory)
    }
}

impl Drop for BuiltIn {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn heading(text: &str) {
    let _ = print(&format!("\n{}\n{}", strong(text), "=".repeat(text.chars().count())));
}

/// Bold on a terminal.
fn strong(text: &str) -> String {
    if io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none() {
        format!("\x1b[1m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_cluster_is_the_one_of_the_manifests() {
        let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/demo");
        let mut files: Vec<_> = fs::read_dir(manifests)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".yaml"))
            .collect();
        files.sort();
        assert_eq!(files, CLUSTER.map(|(name, _)| name));
        let written = BuiltIn::write().unwrap();
        let state = ClusterSource::load(&ClusterLocation::Dir(written.0.clone())).unwrap();
        assert!(is_documented(&state));
        assert!(!is_documented(&ClusterState::default()));
        let path = written.0.clone();
        drop(written);
        assert!(!path.exists());
    }
}
