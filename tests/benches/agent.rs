//! What the agent costs when nothing happens, and how long pods wait when something is started anew: on a lab of one node,
//! empty, and in a cluster of 1,000 nodes and 2,000 namespaces with 250 pods on the node.

#![allow(clippy::indexing_slicing, reason = "a bench may stop at the first surprise")]

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use nix::time::ClockId;
use tests::cni::{Sandbox, socket};
use tests::http::{ADMIN, get, metric};
use tests::{Lab, both, daemon, until};

const PODS: usize = 250;
const NODES: u16 = 1000;
const NAMESPACES: u16 = 2000;
/// Restarts, of which the median is told.
const TIMES: usize = 5;
/// What was started or made just now has been taken note of, and what only the start needed has been given back.
const SETTLED: Duration = Duration::from_secs(15);
/// With one of the looks that it takes every five minutes, and ten of those that it takes every 30 seconds.
const IDLE: Duration = Duration::from_secs(300);
const LONG: Duration = Duration::from_secs(60);

fn main() -> anyhow::Result<()> {
    // `cargo test --benches` runs this as well: it is no test.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let lab = Lab::up(&["--nodes", "1"])?;
    let (agent, node) = (socket(&lab)?, lab.netns("node/node1")?);
    cost(&lab, &node, "empty")?;
    restarts(&lab, &node, "without pods")?;

    populate(&lab)?;
    let pods: Vec<Sandbox> = (0..PODS).map(|n| Sandbox::new(&lab, n)).collect::<anyhow::Result<_>>()?;
    all(&pods, |pod| pod.succeed("ADD", &agent).map(|_| ()))?;
    lab.ask(&["diff"])?;
    let what = format!("{PODS} pods, {NODES} nodes, {NAMESPACES} namespaces");
    cost(&lab, &node, &what)?;
    restarts(&lab, &node, &format!("with {what}"))?;
    pings(&lab, &pods)?;
    let mut times = (0..TIMES).map(|_| switch(&lab, &node)).collect::<anyhow::Result<Vec<_>>>()?;
    println!(
        "ovs-vswitchd killed and started, with {what}: flows complete {:.0?} after br0.mgmt is there (median)",
        median(&mut times)
    );
    all(&pods, |pod| pod.succeed("DEL", &agent).map(|_| ()))
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// For each pod, some at a time.
fn all(pods: &[Sandbox], call: impl Fn(&Sandbox) -> anyhow::Result<()> + Sync) -> anyhow::Result<()> {
    let next = AtomicUsize::new(0);
    let one = || -> anyhow::Result<()> {
        while let Some(pod) = pods.get(next.fetch_add(1, Ordering::Relaxed)) {
            call(pod)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..20).map(|_| scope.spawn(one)).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?)
    })
}

/// Memory, and the processor's time while nothing happens; of those that run beside the agent too, as what it takes to wake up
/// from time to time depends on the machine, by a multiple.
fn cost(lab: &Lab, node: &Path, what: &str) -> anyhow::Result<()> {
    std::thread::sleep(SETTLED);
    let status = lab.status()?;
    let clocks = ["sdn-node", "ovs-vswitchd", "ovsdb-server"].map(|program| -> anyhow::Result<_> {
        // What its threads have run, also those that have ended since. In nanoseconds: proc_pid_stat(5) has ticks of 10 ms.
        let clock = ClockId::pid_cpu_clock_id(daemon(&status, "node1", program)?)?;
        Ok((program, clock, clock.now()?))
    });
    std::thread::sleep(IDLE);
    let mut shares = Vec::new();
    for clock in clocks {
        let (program, clock, before) = clock?;
        let used = Duration::from(clock.now()? - before);
        shares.push(format!("{:.3} % {program}", used.as_secs_f64() / IDLE.as_secs_f64() * 100.0));
    }
    let memory = metric(node, "process_resident_memory_bytes")? / f64::from(1 << 20);
    println!("agent, {what}: {memory:.1} MiB resident");
    println!("  of a processor in {IDLE:.0?} in which nothing happens: {}", shares.join(", "));
    Ok(())
}

/// Other nodes and namespaces, as the controller would have made them.
fn populate(lab: &Lab) -> anyhow::Result<()> {
    let directory = lab.cluster_dir("node1")?;
    let mut text = String::new();
    for n in 0..u32::from(NODES) {
        let vtep = std::net::Ipv4Addr::from(0xc633_6401_u32 + n);
        // The upper half of the lab's 10.128.0.0/14.
        let subnet = std::net::Ipv4Addr::from(0x0a82_0000_u32 + n * 128);
        text += &format!(
            "---\napiVersion: network.openshift.io/v1\nkind: HostSubnet\nmetadata:\n  name: far{n}\nhost: far{n}\n\
             hostIP: {vtep}\nsubnet: {subnet}/25\n"
        );
    }
    for n in 0..NAMESPACES {
        text += &format!(
            "---\napiVersion: network.openshift.io/v1\nkind: NetNamespace\nmetadata:\n  name: ns{n}\nnetname: ns{n}\nnetid: {}\n",
            1000 + u32::from(n)
        );
    }
    let temporary = directory.join(".populate.tmp");
    std::fs::write(&temporary, text)?;
    std::fs::rename(temporary, directory.join("populate.yaml"))?;
    let node = lab.netns("node/node1")?;
    until(LONG, || {
        // A flow or more for each, and nothing left out.
        let (flows, left_out) = (metric(&node, "sdn_flows")?, metric(&node, "sdn_left_out_objects")?);
        ensure!(flows > f64::from(NODES) && left_out == 0.0, "{flows} flows, {left_out} objects left out");
        Ok(())
    })
}

/// From the start of the process until it serves, as the lab sees it; and what the switch was told.
fn restarts(lab: &Lab, node: &Path, what: &str) -> anyhow::Result<()> {
    let (mut times, mut changes) = (Vec::new(), 0.0);
    for _ in 0..TIMES {
        lab.kill("node1", "sdn-node")?;
        let output = lab.sdnctl(&["lab", "start", "node1", "sdn-node"]).output()?;
        let text = both(&output);
        let shown = text.split("serves pods (").nth(1).and_then(|rest| rest.split(" s)").next());
        times.push(Duration::from_secs_f64(shown.with_context(|| text.clone())?.parse()?));
        ready(node)?;
        for change in ["added", "removed", "changed"] {
            changes += metric(node, &format!("sdn_flow_changes_total{{change=\"{change}\"}}"))?;
        }
    }
    println!(
        "agent killed and started, {what}: ready after {:.0?} (median of {TIMES}), {changes} flow modifications in all",
        median(&mut times)
    );
    Ok(())
}

fn ready(node: &Path) -> anyhow::Result<()> {
    until(LONG, || {
        let (code, text) = get(node, ADMIN, "/readyz")?;
        ensure!(code == 200, "{text}");
        Ok(())
    })
}

/// 1,000 packets a second from one pod to another while the agent is killed and started.
fn pings(lab: &Lab, pods: &[Sandbox]) -> anyhow::Result<()> {
    // One ping(8) sends 400 to 500 packets a second, however small the interval that it is given.
    const AT_ONCE: usize = 3;
    let ping = |[from, to]: &[Sandbox; 2]| {
        let mut ping = std::process::Command::new("ip");
        ping.args([
            "netns",
            "exec",
            from.netns_name(),
            "ping",
            "-q",
            "-i",
            "0.001",
            "-c",
            "2500",
            &to.address()?,
        ]);
        anyhow::Ok(ping.stdout(Stdio::piped()).spawn()?)
    };
    let start = Instant::now();
    let sent_by: Vec<_> = pods.as_chunks().0.iter().take(AT_ONCE).map(ping).collect::<anyhow::Result<_>>()?;
    std::thread::sleep(Duration::from_millis(500));
    lab.kill("node1", "sdn-node")?;
    lab.start("node1", "sdn-node")?;
    let (mut sent, mut received) = (0, 0);
    for ping in sent_by {
        let text = both(&ping.wait_with_output()?);
        let line = text.lines().find(|line| line.contains("packets transmitted"));
        let mut numbers = line.with_context(|| text.clone())?.split(|c: char| !c.is_ascii_digit());
        let mut number = || numbers.find_map(|number| number.parse::<u32>().ok()).context("no number");
        (sent, received) = (sent + number()?, received + number()?);
    }
    let rate = f64::from(sent) / start.elapsed().as_secs_f64();
    println!(
        "agent killed and started under {rate:.0} packets a second: {sent} sent, {} lost",
        sent - received
    );
    Ok(())
}

/// From when the switch can be spoken to until all flows are there.
fn switch(lab: &Lab, node: &Path) -> anyhow::Result<Duration> {
    let name = "sdn_connections_total{peer=\"openflow\"}";
    let before = metric(node, name)?;
    let management = lab.ovs_dir("node1")?.join("br0.mgmt");
    lab.kill("node1", "ovs-vswitchd")?;
    let listens = std::thread::spawn(move || {
        until(LONG, || {
            UnixStream::connect(&management)?;
            Ok(Instant::now())
        })
    });
    lab.start("node1", "ovs-vswitchd")?;
    until(LONG, || {
        ensure!(metric(node, name)? > before, "not connected again");
        ready(node)
    })?;
    let complete = Instant::now();
    let listens = listens.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
    lab.ask(&["diff"])?;
    Ok(complete.saturating_duration_since(listens))
}
