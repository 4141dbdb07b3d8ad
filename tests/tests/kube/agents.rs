//! Three agents and two controllers on one API server: tenants, changes and how fast they are, and an API server that is gone
//! for a while.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use controller::api::Kind;
use controller::cluster::kube::resource;
use controller::node::netns::{NetNs, run_in};
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use openflow::message::{FlowMonitorRequest, MonitorFlags};
use openflow::{Endpoint, Match, MonitorEvent, OfPort, Switch, TABLE_ALL};
use serde_json::{Value, json};
use tests::cni::Sandbox;
use tests::kube::{Caller, ControlPlane};
use tests::{Lab, binary, both, until};

use super::Test;
use super::allocation::{Controller, DEADLINE, NETWORK, add_nodes, fields, leader};

pub(crate) const TESTS: &[Test] = &[("agents::three_nodes", three_nodes)];

/// How long the API server is gone; `OSDN_OUTAGE` in the environment says otherwise, in seconds.
const OUTAGE: Duration = Duration::from_secs(8);

/// Changes of which the median is told.
const CHANGES: u32 = 15;

/// Slower than this something waits for a clock.
const SLOWEST_MEDIAN: Duration = Duration::from_secs(1);

/// The nodes of a lab, with agents that follow the API server.
pub(crate) struct Agents {
    nodes: Vec<Node>,
    lab: Lab,
}

struct Node {
    name: String,
    started: Instant,
    agent: Child,
    socket: PathBuf,
    ovs_dir: PathBuf,
}

impl Drop for Agents {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            let _ = node.agent.kill();
            let _ = node.agent.wait();
        }
    }
}

impl Agents {
    /// Some nodes, known to the API server, whose agents are replaced by such that follow it.
    pub(crate) fn of(plane: &ControlPlane, count: u32) -> anyhow::Result<Self> {
        let kubeconfig = plane.kubeconfig(Caller::ServiceAccount("openshift-sdn", "sdn"))?;
        Self::started_as(plane, count, |program| {
            let mut command = Command::new(program);
            command.env("KUBECONFIG", &kubeconfig);
            Ok(command)
        })
    }

    /// The same with a command line of which `launch` makes the beginning, and which says where the API server is.
    pub(crate) fn started_as(
        plane: &ControlPlane,
        count: u32,
        launch: impl Fn(&Path) -> anyhow::Result<Command>,
    ) -> anyhow::Result<Self> {
        let lab = Lab::up(&["--nodes", &count.to_string(), "--plugin", "multitenant"])?;
        let status = lab.status()?;
        let records = status["nodes"].as_array().context("no nodes in the status")?.clone();
        let text = |node: &Value, field: &str| -> anyhow::Result<String> {
            Ok(node[field].as_str().with_context(|| format!("no {field} in {node}"))?.to_owned())
        };
        let mut addresses = Vec::new();
        for record in &records {
            addresses.push((text(record, "name")?, text(record, "ip")?));
        }
        add_nodes(plane, &addresses)?;
        until(DEADLINE, || {
            let subnets = fields(plane, "hostsubnets", "subnet")?;
            ensure!(addresses.iter().all(|(name, _)| subnets.contains_key(name)), "{subnets:?}");
            Ok(())
        })?;
        let mut agents = Self { nodes: Vec::new(), lab };
        for record in &records {
            let name = text(record, "name")?;
            let (socket, ovs_dir) =
                (PathBuf::from(text(record, "cniSocket")?), PathBuf::from(text(record, "ovsDir")?));
            agents.lab.kill(&name, "sdn-node")?;
            let _ = std::fs::remove_file(&socket);
            let ns = NetNs::open(agents.lab.netns(&format!("node/{name}"))?)?;
            relay(&ns, plane.port())?;
            let mut command = launch(&binary("sdn-node")?)?;
            command.args(["--cluster", "kube", "--datapath", "netdev", "--node", &name]);
            command.args(["--cni-conf-dir", "none", "--admin-address", "none", "--metrics-address", "none"]);
            command.arg("--ovs-dir").arg(&ovs_dir).arg("--cni-socket").arg(&socket).arg("--lease-dir");
            command.arg(ovs_dir.with_file_name("kube-leases"));
            command.stderr(std::fs::File::create(plane.path(&format!("agent-{name}.log")))?);
            let started = Instant::now();
            let agent = run_in(&ns, || command.spawn())??;
            agents.nodes.push(Node { name, started, agent, socket, ovs_dir });
        }
        for node in &agents.nodes {
            until(DEADLINE, || {
                std::os::unix::net::UnixStream::connect(&node.socket)?;
                Ok(())
            })
            .with_context(|| log(plane, &node.name))?;
        }
        Ok(agents)
    }

    /// Waits until a node's bridge has flows to at least `others` nodes: how long its agent took for that from its start.
    pub(crate) fn knows(&self, node: usize, others: usize) -> anyhow::Result<Duration> {
        let node = self.nodes.get(node).context("no such node")?;
        until(DEADLINE, || {
            let text = self
                .lab
                .ovs(&node.name, &["ovs-ofctl", "-O", "OpenFlow13", "dump-aggregate", "br0", "table=10"])?;
            let count = text.rsplit("flow_count=").next().and_then(|count| count.trim().parse().ok());
            // One of them drops the rest.
            ensure!(count.is_some_and(|count: usize| count > others), "{text}");
            Ok(())
        })?;
        Ok(node.started.elapsed())
    }

    /// A node's agent.
    pub(crate) fn process(&self, node: usize) -> anyhow::Result<&Child> {
        Ok(&self.nodes.get(node).context("no such node")?.agent)
    }
}

/// The end of what an agent has said.
fn log(plane: &ControlPlane, node: &str) -> String {
    let text = std::fs::read_to_string(plane.path(&format!("agent-{node}.log"))).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// Makes the API server, on loopback of this machine, answer on loopback of another namespace, as long as this process lives.
fn relay(ns: &NetNs, port: u16) -> anyhow::Result<()> {
    let listener = run_in(ns, || TcpListener::bind(("127.0.0.1", port)))??;
    std::thread::spawn(move || {
        for inside in listener.incoming().flatten() {
            // Nobody there: the caller sees that as it would on a network, its connection is closed.
            let Ok(outside) = TcpStream::connect(("127.0.0.1", port)) else { continue };
            for (from, to) in [(inside.try_clone(), outside.try_clone()), (Ok(outside), Ok(inside))] {
                std::thread::spawn(move || -> io::Result<()> {
                    let (mut from, mut to) = (from?, to?);
                    let copied = io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Both);
                    copied.map(drop)
                });
            }
        }
    });
    Ok(())
}

/// A pod: an object in the API and a sandbox.
struct Pod {
    namespace: &'static str,
    name: String,
    uid: String,
    sandbox: Sandbox,
    socket: PathBuf,
    ip: Option<String>,
}

impl Pod {
    /// Makes the object, as a scheduler leaves it, and the sandbox.
    fn new(
        plane: &ControlPlane,
        agents: &Agents,
        n: usize,
        namespace: &'static str,
        node: usize,
    ) -> anyhow::Result<Self> {
        let node = agents.nodes.get(node).context("no such node")?;
        let name = format!("{namespace}-{n}");
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace},
            "spec": {"nodeName": node.name, "containers": [{"name": "c", "image": "none"}]},
        });
        plane.feed(&["create", "-f", "-"], &pod.to_string())?;
        let object = plane.json(&["get", "pod", "-n", namespace, &name])?;
        let uid = object["metadata"]["uid"].as_str().context("no UID")?.to_owned();
        let sandbox = Sandbox::new(&agents.lab, n)?;
        Ok(Self { namespace, name, uid, sandbox, socket: node.socket.clone(), ip: None })
    }

    fn call(&self, verb: &str) -> anyhow::Result<Value> {
        let args = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={};K8S_POD_UID={}",
            self.namespace, self.name, self.sandbox.container_id, self.uid
        );
        let output = self.sandbox.call(verb, &self.socket, |plugin| {
            plugin.env("CNI_ARGS", args);
        })?;
        ensure!(output.status.success(), "{verb} of {}: {}", self.name, both(&output));
        Ok(serde_json::from_slice(&output.stdout).unwrap_or_default())
    }

    /// CNI ADD, tried again as a kubelet does while the agent does not know the namespace yet.
    fn add(&mut self) -> anyhow::Result<()> {
        let result = until(DEADLINE, || self.call("ADD"))?;
        let address = result["ips"][0]["address"].as_str().context("no address")?;
        self.ip = address.split('/').next().map(str::to_owned);
        Ok(())
    }

    fn ip(&self) -> anyhow::Result<&str> {
        self.ip.as_deref().with_context(|| format!("{} has no address", self.name))
    }

    fn ping(&self, other: &Pod, arguments: &[&str]) -> anyhow::Result<Command> {
        let mut command = Command::new("ping");
        command
            .args(["-n", "-W", "1"])
            .args(arguments)
            .arg(other.ip()?)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Ok(command)
    }

    fn reaches(&self, other: &Pod) -> anyhow::Result<bool> {
        let mut command = self.ping(other, &["-c", "1"])?;
        let ns = NetNs::open(self.sandbox.netns())?;
        Ok(run_in(&ns, || command.output())??.status.success())
    }
}

/// Waits until exactly the pods with one of these pairs of namespaces, or the same, reach each other.
fn expect(pods: &[&Pod], joined: &[(&str, &str)]) -> anyhow::Result<()> {
    let pairs: Vec<(&Pod, &Pod)> = pods
        .iter()
        .flat_map(|from| pods.iter().map(move |to| (*from, *to)))
        .filter(|(from, to)| from.name != to.name)
        .collect();
    until(DEADLINE, || {
        // At once, as each that must fail takes a second.
        let results: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = pairs.iter().map(|(from, to)| scope.spawn(|| from.reaches(to))).collect();
            threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect()
        });
        for ((from, to), result) in pairs.iter().zip(results) {
            let pair = (from.namespace, to.namespace);
            let expected = pair.0 == pair.1 || joined.contains(&pair) || joined.contains(&(pair.1, pair.0));
            if result.map_err(|_| anyhow::anyhow!("a ping panicked"))?? != expected {
                bail!("{} {} {}", from.name, if expected { "does not reach" } else { "reaches" }, to.name);
            }
        }
        Ok(())
    })
}

fn three_nodes(plane: &ControlPlane) -> anyhow::Result<()> {
    plane.apply(NETWORK)?;
    let mut controllers: Vec<_> = ["left", "right"]
        .into_iter()
        .map(|name| Controller::start(plane, name).map(|controller| (name, controller)))
        .collect::<Result<_, _>>()?;
    for name in ["crimson", "navy"] {
        plane.ask(&["create", "namespace", name])?;
    }
    let agents = Agents::of(plane, 3)?;
    let mut pods = Vec::new();
    for (n, (namespace, node)) in
        [("crimson", 0), ("crimson", 1), ("navy", 0), ("navy", 2)].into_iter().enumerate()
    {
        let mut pod = Pod::new(plane, &agents, n, namespace, node)?;
        pod.add().with_context(|| log(plane, &agents.nodes[node].name))?;
        pods.push(pod);
    }
    expect(&pods.iter().collect::<Vec<_>>(), &[])?;
    until(DEADLINE, || {
        let events = plane.json(&["get", "events", "-A", "--field-selector=reason=Starting"])?;
        let said = |node: &Node| {
            let events = events["items"].as_array().into_iter().flatten();
            events.into_iter().any(|event| {
                event["involvedObject"]["kind"] == "Node"
                    && event["involvedObject"]["name"] == node.name.as_str()
                    && event["type"] == "Normal"
                    && event["message"] == "openshift-sdn done initializing node networking."
            })
        };
        ensure!(agents.nodes.iter().all(said), "{events:#}");
        Ok(())
    })?;

    // The leader is gone in the middle of it; the other one does what is asked for then.
    let leader = leader(plane)?;
    let at = controllers
        .iter()
        .position(|(name, _)| *name == leader)
        .with_context(|| format!("{leader:?} leads"))?;
    controllers.swap_remove(at).1.kill();
    let annotate = |value: &str| {
        let annotation = format!("pod.network.openshift.io/multitenant.change-network={value}");
        plane.ask(&["annotate", "--overwrite", "netnamespace", "navy", &annotation])
    };
    annotate("join:crimson")?;
    expect(&pods.iter().collect::<Vec<_>>(), &[("crimson", "navy")])?;
    annotate("isolate")?;
    expect(&pods.iter().collect::<Vec<_>>(), &[])?;

    latency(plane, &agents)?;
    outage(plane, &agents, &mut pods)?;

    for pod in &pods {
        pod.call("DEL")?;
        plane.ask(&["delete", "pod", "-n", pod.namespace, &pod.name, "--force", "--grace-period=0"])?;
    }
    let names: Vec<_> = agents.nodes.iter().map(|node| node.name.as_str()).collect();
    plane.ask(&[&["delete", "node", "--wait=false"], names.as_slice()].concat())?;
    plane.ask(&["delete", "namespace", "crimson", "navy", "--wait=false"])?;
    Ok(())
}

/// From a merge patch to the flows that follow from it, as the switch of the first node tells them.
fn latency(plane: &ControlPlane, agents: &Agents) -> anyhow::Result<()> {
    plane.apply(
        "apiVersion: network.openshift.io/v1\nkind: HostSubnet\nmetadata: {name: ramp}\nhost: ramp\nhostIP: 192.0.2.1\nsubnet: 10.131.128.0/23\n",
    )?;
    let node = &agents.nodes[0];
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let client = plane.client(Caller::Admin).await?;
        let endpoint: Endpoint = format!("unix:{}", node.ovs_dir.join("br0.mgmt").display()).parse()?;
        let switch = Switch::connect(&endpoint).await?;
        let mut monitor = switch
            .monitor_flows(FlowMonitorRequest {
                id: 1,
                flags: MonitorFlags(MonitorFlags::ADD | MonitorFlags::DELETE | MonitorFlags::MODIFY),
                out_port: OfPort::ANY,
                table: TABLE_ALL,
                fields: Match::default(),
            })
            .await?;
        for (kind, name, patches) in [
            (Kind::NetNamespace, "navy", [json!({"netid": 5001}), json!({"netid": 5002})]),
            (Kind::HostSubnet, "ramp", [json!({"hostIP": "192.0.2.2"}), json!({"hostIP": "192.0.2.3"})]),
        ] {
            let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource(kind));
            let mut times = Vec::new();
            for patch in patches.iter().cycle().take(CHANGES as usize) {
                // What is still under way belongs to the change before.
                while tokio::time::timeout(Duration::from_millis(300), monitor.next()).await.is_ok() {}
                let began = Instant::now();
                api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
                loop {
                    match tokio::time::timeout(DEADLINE, monitor.next()).await {
                        Ok(Some(MonitorEvent::Updates(updates))) if !updates.is_empty() => break,
                        Ok(Some(_)) => {}
                        Ok(None) => bail!("the switch has closed the connection"),
                        Err(_) => bail!("no flow changed after {kind} {name} {patch}"),
                    }
                }
                times.push(began.elapsed());
            }
            times.sort();
            let median = times[times.len() / 2];
            println!(
                "kubectl patch {} -> flows: median {:.1} ms, slowest {:.1} ms of {CHANGES}",
                kind.plural(),
                median.as_secs_f64() * 1e3,
                times[times.len() - 1].as_secs_f64() * 1e3
            );
            ensure!(median < SLOWEST_MEDIAN, "{times:?}");
        }
        Ok(())
    })?;
    // They were the right flows: the last numbers are in them.
    let flows = agents.lab.ovs(&node.name, &["ovs-ofctl", "-O", "OpenFlow13", "dump-flows", "br0"])?;
    let vnid = fields(plane, "netnamespaces", "netid")?["navy"].as_u64().context("no VNID")?;
    ensure!(flows.contains(&format!("{vnid:#x}")), "no {vnid:#x} in {flows}");
    let ramp = fields(plane, "hostsubnets", "hostIP")?["ramp"].as_str().unwrap_or_default().to_owned();
    ensure!(flows.contains(&ramp), "no {ramp} in {flows}");
    plane.ask(&["delete", "hostsubnet", "ramp"])?;
    Ok(())
}

/// The flows of a node without counters, sorted.
pub(crate) fn flows(agents: &Agents, node: usize) -> anyhow::Result<Vec<String>> {
    let node = &agents.nodes[node].name;
    let text = agents.lab.ovs(node, &["ovs-ofctl", "-O", "OpenFlow13", "--no-stats", "dump-flows", "br0"])?;
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    lines.sort();
    Ok(lines)
}

/// The API server is killed and stays away while pods come and go.
fn outage(plane: &ControlPlane, agents: &Agents, pods: &mut Vec<Pod>) -> anyhow::Result<()> {
    let length = std::env::var("OSDN_OUTAGE")
        .ok()
        .and_then(|text| text.parse().ok())
        .map_or(OUTAGE, Duration::from_secs);
    // Scheduled before, started during the outage.
    let mut waiting = Vec::new();
    for (n, (namespace, node)) in
        [("crimson", 0), ("crimson", 2), ("navy", 1), ("crimson", 1)].into_iter().enumerate()
    {
        waiting.push(Pod::new(plane, agents, 10 + n, namespace, node)?);
    }
    // What is started now outlives the outage.
    let count = usize::try_from(length.as_millis() / 50 + 40)?;
    let mut traffic = pods[0].ping(&pods[1], &["-i", "0.05", "-c", &count.to_string()])?;
    let ns = NetNs::open(pods[0].sandbox.netns())?;
    let traffic = run_in(&ns, || traffic.spawn())??;
    plane.kill_api_server();
    let killed = Instant::now();

    let mut adds = Vec::new();
    for pod in &mut waiting {
        let began = Instant::now();
        pod.add().with_context(|| {
            format!("while the API server is gone: {}", log(plane, &agents.nodes[0].name))
        })?;
        adds.push(began.elapsed());
    }
    let all: Vec<&Pod> = pods.iter().chain(&waiting).collect();
    expect(&all, &[])?;
    let gone = waiting.pop().context("no pod to delete")?;
    gone.call("DEL")?;
    ensure!(killed.elapsed() < length, "too slow for an outage of {length:?}: {:?}", killed.elapsed());
    std::thread::sleep(length.saturating_sub(killed.elapsed()));

    let output = traffic.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let summary = said.lines().find(|line| line.contains("packet loss")).unwrap_or_default();
    let answers = said.matches("ttl=").count();
    // Open vSwitch's tunnel in user space reads the node's routes anew when a link comes or goes, and may lose what is in it
    // at that moment, with or without an agent: one for each pod that came or went.
    let came_or_went = waiting.len() + 2;
    ensure!(answers + came_or_went >= count, "traffic has suffered: {}", both(&output));
    plane.start_api_server()?;
    let back = Instant::now();

    // What was asked for meanwhile and afterwards is done, and what was done stays.
    plane.ask(&["delete", "pod", "-n", gone.namespace, &gone.name, "--force", "--grace-period=0"])?;
    plane.ask(&["patch", "netnamespace", "navy", "--type=merge", "-p", r#"{"netid": 6001}"#])?;
    for node in [0, 1, 2] {
        until(DEADLINE, || {
            let flows = flows(agents, node)?;
            ensure!(flows.iter().any(|flow| flow.contains("0x1771")), "{flows:#?}");
            Ok(())
        })?;
    }
    let converged = back.elapsed();
    let all: Vec<&Pod> = pods.iter().chain(&waiting).collect();
    expect(&all, &[])?;
    adds.sort();
    println!(
        "API server gone for {:.0} s: {} pods added (slowest CNI ADD {} ms), {}; a change reaches all nodes {} ms after it is back",
        killed.elapsed().as_secs_f64() - back.elapsed().as_secs_f64(),
        adds.len(),
        adds.last().map_or(0, Duration::as_millis),
        summary.trim(),
        converged.as_millis()
    );
    pods.append(&mut waiting);
    Ok(())
}
