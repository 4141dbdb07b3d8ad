//! How long a pod waits for its network: from the start of the CNI plugin to its end, on a lab of one node with the
//! userspace datapath. The answer comes after the switch has confirmed the pod's flows. Beside it, in the same run, Debian's
//! plugins `bridge` and `host-local`, which program no switch; and what Open vSwitch and the kernel take for a bare port: for
//! each change of a port or link `ovs-vswitchd` looks at all its ports, so every pod waits longer the more there are.

#![allow(clippy::indexing_slicing, reason = "a test may stop at the first surprise")]

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use controller::node::netns::{NetNs, run_in};
use nix::unistd::Pid;
use serde_json::json;
use tests::cni::{Sandbox, socket};
use tests::http::{METRICS, get};
use tests::{Lab, both, daemon, run};

const PODS: usize = 200;
const AT_ONCE: usize = 20;
/// For 15 to 27 ms, as measured here, after a link was removed the kernel keeps from links whoever asks for another.
const PAUSE: Duration = Duration::from_millis(50);
/// After this the kernel has removed the namespaces of all pods.
const CLEANED_UP: Duration = Duration::from_secs(3);
/// Ports made without us, for comparison.
const BARE: usize = 20;
const PEER: &str = "/usr/lib/cni";
const STEPS: [&str; 7] = ["lease", "veth", "port", "flows", "delete port", "delete flows", "delete veth"];
const PROGRAMS: [&str; 3] = ["ovs-vswitchd", "ovsdb-server", "sdn-node"];

fn main() -> anyhow::Result<()> {
    // `cargo test --benches` runs this as well: it is no test.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let lab = Lab::up(&["--nodes", "1"])?;
    let (agent, node) = (socket(&lab)?, lab.netns("node/node1")?);
    let add = |pod: &Sandbox| pod.succeed("ADD", &agent);
    let del = |pod: &Sandbox| pod.succeed("DEL", &agent);

    let pods = sandboxes(&lab)?;
    report("plugin alone (VERSION)", times(&pods, |pod| pod.succeed("VERSION", &agent))?);
    let before = Spent::of(&lab)?;
    let (adds, dels) = pairs(&pods, add, del)?;
    report("ADD, no other pod there", adds);
    report("DEL, no other pod there", dels);
    before.tell(&lab)?;
    let pods = replaced(&lab, pods)?;
    let before = Spent::of(&lab)?;
    report("ADD, one at a time, all pods stay", times(&pods, add)?);
    before.tell(&lab)?;
    bare(&lab)?;
    let before = Spent::of(&lab)?;
    report("DEL, one at a time", times(&pods, del)?);
    before.tell(&lab)?;
    let pods = replaced(&lab, pods)?;
    let before = Spent::of(&lab)?;
    let start = Instant::now();
    report(&format!("ADD, {AT_ONCE} at a time"), parallel(&pods, add)?);
    println!("  {:.0} pods a second", PODS as f64 / start.elapsed().as_secs_f64());
    before.tell(&lab)?;
    let start = Instant::now();
    report(&format!("DEL, {AT_ONCE} at a time"), parallel(&pods, del)?);
    println!("  {:.0} pods a second", PODS as f64 / start.elapsed().as_secs_f64());
    let pods = replaced(&lab, pods)?;

    let ns = NetNs::open(&node)?;
    let leases = tempfile::tempdir()?;
    let peer = |verb: &'static str| {
        let (ns, leases) = (ns.clone(), leases.path().to_owned());
        move |pod: &Sandbox| bridge(&ns, &leases, verb, pod)
    };
    let (adds, dels) = pairs(&pods, peer("ADD"), peer("DEL"))?;
    report("Debian's bridge + host-local: ADD, no other pod there", adds);
    report("Debian's bridge + host-local: DEL, no other pod there", dels);
    report("Debian's bridge + host-local: ADD, one at a time, all pods stay", times(&pods, peer("ADD"))?);
    report("Debian's bridge + host-local: DEL, one at a time", times(&pods, peer("DEL"))?);
    let start = Instant::now();
    report(&format!("Debian's bridge + host-local: ADD, {AT_ONCE} at a time"), parallel(&pods, peer("ADD"))?);
    println!("  {:.0} pods a second", PODS as f64 / start.elapsed().as_secs_f64());
    parallel(&pods, peer("DEL"))?;
    Ok(())
}

fn sandboxes(lab: &Lab) -> anyhow::Result<Vec<Sandbox>> {
    (0..PODS).map(|n| Sandbox::new(lab, n)).collect()
}

/// As a runtime gives each pod: no call gets a namespace that another has left something in.
fn replaced(lab: &Lab, pods: Vec<Sandbox>) -> anyhow::Result<Vec<Sandbox>> {
    drop(pods);
    std::thread::sleep(CLEANED_UP);
    sandboxes(lab)
}

/// What Open vSwitch and the kernel take for a port alone, on the same switch beside all the pods: a veth pair by ip(8), and
/// the port by ovs-vsctl(8), which waits for `ovs-vswitchd` as we do. No lease, address, route, rule or flow.
fn bare(lab: &Lab) -> anyhow::Result<()> {
    let node = format!("{}-node1", lab.name());
    let database = format!("--db=unix:{}", lab.ovs_dir("node1")?.join("db.sock").display());
    let pods: Vec<Sandbox> =
        (PODS..PODS + BARE).map(|n| Sandbox::new(lab, n)).collect::<anyhow::Result<_>>()?;
    let veth = |pod: &Sandbox| format!("bare{}", pod.name.trim_start_matches("pod-"));
    let ip = |arguments: &[&str]| run(Command::new("ip").args(["-n", &node]).args(arguments));
    let vsctl = |arguments: &[&str]| run(Command::new("ovs-vsctl").arg(&database).args(arguments));
    report(
        "ip(8) and ovs-vsctl(8) alone (their versions)",
        times(&pods, |_| Ok(run(Command::new("ip").arg("-V"))? + &vsctl(&["--version"])?))?,
    );
    let before = Spent::of(lab)?;
    report(
        "ip link add, ovs-vsctl add-port, beside them",
        times(&pods, |pod| {
            let (veth, netns) = (veth(pod), pod.netns_name());
            ip(&["link", "add", &veth, "up", "type", "veth", "peer", "name", "eth0", "netns", netns])?;
            vsctl(&["add-port", "br0", &veth])
        })?,
    );
    before.tell(lab)?;
    let before = Spent::of(lab)?;
    report(
        "ovs-vsctl del-port, ip link delete, beside them",
        times(&pods, |pod| {
            vsctl(&["del-port", "br0", &veth(pod)])?;
            ip(&["link", "delete", &veth(pod)])
        })?,
    );
    before.tell(lab)
}

/// What the steps and the node's programs have taken since they were started, in seconds: each step with how often it was
/// done, each program's processor time with 0.
struct Spent(BTreeMap<String, (f64, f64)>);

impl Spent {
    fn of(lab: &Lab) -> anyhow::Result<Self> {
        let (_, text) = get(&lab.netns("node/node1")?, METRICS, "/metrics")?;
        let value = |what: &str, step: &str| -> Option<f64> {
            let name = format!("sdn_cni_step_duration_seconds_{what}{{step=\"{step}\"}} ");
            text.lines().find_map(|line| line.strip_prefix(&name))?.parse().ok()
        };
        let steps = STEPS
            .iter()
            .filter_map(|&step| Some((step.to_owned(), (value("sum", step)?, value("count", step)?))));
        let mut spent: BTreeMap<_, _> = steps.collect();
        let status = lab.status()?;
        for program in PROGRAMS {
            spent.insert(program.to_owned(), (processor(daemon(&status, "node1", program)?)?, 0.0));
        }
        Ok(Self(spent))
    }

    /// Tells where the time has gone since: the mean of each step, and of the processor's time for each done.
    fn tell(&self, lab: &Lab) -> anyhow::Result<()> {
        let now = Self::of(lab)?.0;
        let since = |what: &str| {
            let (before, after) = (self.0.get(what).copied().unwrap_or_default(), now.get(what)?);
            Some((after.0 - before.0, after.1 - before.1))
        };
        let mut most = 0.0_f64;
        for step in STEPS {
            if let Some((sum, count)) = since(step).filter(|(_, count)| *count > 0.0) {
                println!("  {step}: {:.2} ms (mean of {count})", sum / count * 1000.0);
                most = most.max(count);
            }
        }
        // Without us nobody counts.
        let done = if most > 0.0 { most } else { BARE as f64 };
        let programs: Vec<String> = PROGRAMS
            .iter()
            .filter_map(|program| Some(format!("{program} {:.1} ms", since(program)?.0 / done * 1000.0)))
            .collect();
        println!("  processor time for each: {}", programs.join(", "));
        Ok(())
    }
}

/// The processor time of a process, also of threads that have ended, in seconds (`utime` and `stime` of proc(5)).
fn processor(process: Pid) -> anyhow::Result<f64> {
    /// `USER_HZ`, the same on every machine that Linux runs on today.
    const TICKS: f64 = 100.0;
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').context("no name in stat")?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    Ok(ticks.sum::<Result<f64, _>>()? / TICKS)
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

/// Each pod added and deleted again, and the kernel given time to clean up, before the next: the times of both.
fn pairs(
    pods: &[Sandbox],
    add: impl Fn(&Sandbox) -> anyhow::Result<String>,
    del: impl Fn(&Sandbox) -> anyhow::Result<String>,
) -> anyhow::Result<(Vec<Duration>, Vec<Duration>)> {
    let timed = |pod| -> anyhow::Result<(Duration, Duration)> {
        let start = Instant::now();
        add(pod)?;
        let added = start.elapsed();
        del(pod)?;
        let deleted = start.elapsed().saturating_sub(added);
        std::thread::sleep(PAUSE);
        Ok((added, deleted))
    };
    pods.iter().map(timed).collect()
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
