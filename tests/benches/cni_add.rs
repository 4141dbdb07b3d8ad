//! How long a pod waits for its network: from the start of the CNI plugin to its end, on a lab of one node with the
//! userspace datapath. The answer comes after the switch has confirmed the pod's flows. Beside it, in the same run, Debian's
//! plugins `bridge` and `host-local`, which program no switch.

#![allow(clippy::indexing_slicing, reason = "a test may stop at the first surprise")]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use controller::node::netns::{NetNs, run_in};
use serde_json::json;
use tests::cni::{Sandbox, socket};
use tests::http::{METRICS, get};
use tests::{Lab, both};

const PODS: usize = 200;
const AT_ONCE: usize = 20;
const PEER: &str = "/usr/lib/cni";
const STEPS: [&str; 7] = ["lease", "veth", "port", "flows", "delete port", "delete flows", "delete veth"];

fn main() -> anyhow::Result<()> {
    // `cargo test --benches` runs this as well: it is no test.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let lab = Lab::up(&["--nodes", "1"])?;
    let (agent, node) = (socket(&lab)?, lab.netns("node/node1")?);

    let pods: Vec<Sandbox> = (0..PODS).map(|n| Sandbox::new(&lab, n)).collect::<anyhow::Result<_>>()?;
    report("plugin alone (VERSION)", times(&pods, |pod| pod.succeed("VERSION", &agent))?);
    report("ADD, one at a time", times(&pods, |pod| pod.succeed("ADD", &agent))?);
    steps(&node)?;
    report("DEL, one at a time", times(&pods, |pod| pod.succeed("DEL", &agent))?);
    steps(&node)?;
    let start = Instant::now();
    report(&format!("ADD, {AT_ONCE} at a time"), parallel(&pods, |pod| pod.succeed("ADD", &agent))?);
    println!("  {:.0} pods a second", PODS as f64 / start.elapsed().as_secs_f64());
    let start = Instant::now();
    report(&format!("DEL, {AT_ONCE} at a time"), parallel(&pods, |pod| pod.succeed("DEL", &agent))?);
    println!("  {:.0} pods a second", PODS as f64 / start.elapsed().as_secs_f64());

    let ns = NetNs::open(&node)?;
    let leases = tempfile::tempdir()?;
    let peer = |verb: &'static str| {
        let (ns, leases) = (ns.clone(), leases.path().to_owned());
        move |pod: &Sandbox| bridge(&ns, &leases, verb, pod)
    };
    report("Debian's bridge + host-local: ADD, one at a time", times(&pods, peer("ADD"))?);
    report("Debian's bridge + host-local: DEL, one at a time", times(&pods, peer("DEL"))?);
    let start = Instant::now();
    report(&format!("Debian's bridge + host-local: ADD, {AT_ONCE} at a time"), parallel(&pods, peer("ADD"))?);
    println!("  {:.0} pods a second", PODS as f64 / start.elapsed().as_secs_f64());
    parallel(&pods, peer("DEL"))?;
    Ok(())
}

/// Another plugin, with its own IPAM, in the node's namespace.
fn bridge(ns: &NetNs, leases: &Path, verb: &str, pod: &Sandbox) -> anyhow::Result<String> {
    let config = json!({
        "cniVersion": "1.0.0", "name": "peer", "type": "bridge", "bridge": "cni-peer", "isGateway": true,
        "ipam": {"type": "host-local", "subnet": "10.99.0.0/16", "dataDir": leases},
    });
    let mut command = Command::new(Path::new(PEER).join("bridge"));
    command
        .env_clear()
        .env("CNI_COMMAND", verb)
        .env("CNI_CONTAINERID", &pod.container_id)
        .env("CNI_NETNS", pod.netns())
        .env("CNI_IFNAME", "peer0")
        .env("CNI_PATH", PEER)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child =
        run_in(ns, || command.spawn())?.context("containernetworking-plugins is not installed")?;
    child.stdin.take().context("no stdin")?.write_all(config.to_string().as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{}", both(&output));
    Ok(String::new())
}

/// Where the time goes: the mean of each step since the start of the agent.
fn steps(node: &Path) -> anyhow::Result<()> {
    let (_, text) = get(node, METRICS, "/metrics")?;
    let value = |what: &str, step: &str| -> Option<f64> {
        let name = format!("sdn_cni_step_duration_seconds_{what}{{step=\"{step}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&name))?.parse().ok()
    };
    for step in STEPS {
        if let (Some(sum), Some(count)) = (value("sum", step), value("count", step)) {
            println!("  {step}: {:.2} ms (mean of {count})", sum / count * 1000.0);
        }
    }
    Ok(())
}

fn times(
    pods: &[Sandbox],
    call: impl Fn(&Sandbox) -> anyhow::Result<String>,
) -> anyhow::Result<Vec<Duration>> {
    pods.iter()
        .map(|pod| {
            let start = Instant::now();
            call(pod)?;
            Ok(start.elapsed())
        })
        .collect()
}

fn parallel(
    pods: &[Sandbox],
    call: impl Fn(&Sandbox) -> anyhow::Result<String> + Sync,
) -> anyhow::Result<Vec<Duration>> {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let one = || {
            let mut times = Vec::new();
            while let Some(pod) = pods.get(next.fetch_add(1, Ordering::Relaxed)) {
                let start = Instant::now();
                call(pod)?;
                times.push(start.elapsed());
            }
            anyhow::Ok(times)
        };
        let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(one)).collect();
        let mut all = Vec::new();
        for thread in threads {
            all.extend(thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??);
        }
        Ok(all)
    })
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let ms = |share: usize| {
        let at = (times.len() * share / 100).min(times.len().saturating_sub(1));
        times.get(at).map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
    };
    println!(
        "{what}: median {:.1} ms, p99 {:.1} ms, max {:.1} ms ({} pods)",
        ms(50),
        ms(99),
        ms(100),
        times.len()
    );
}
