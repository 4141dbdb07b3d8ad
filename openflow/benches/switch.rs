//! 100,000 flows into a real `ovs-vswitchd` and back, side by side with `ovs-ofctl`.
//!
//! Times are wall time of whole programs: ours runs as a child of its own, so that both pay for start, parsing and end.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)] // A benchmark may stop at the first surprise.

#[path = "../tests/support/mod.rs"]
mod support;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use openflow::{Endpoint, Flow, FlowMod, FlowStatsRequest, Modification, Switch};

const FLOWS: u32 = 100_000;
const PAIRS: usize = 5;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [_, "install", target, file] => run(install(target, file)),
        [_, "dump", target] => run(dump(target)),
        // `cargo test` runs benchmarks too; only `cargo bench` is meant.
        _ if args.iter().any(|arg| arg == "--bench") => compare(),
        _ => {}
    }
}

fn run(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
}

async fn install(target: &str, file: &str) {
    let switch = Switch::connect(&target.parse::<Endpoint>().unwrap()).await.unwrap();
    let text = std::fs::read_to_string(file).unwrap();
    let changes: Vec<Modification> =
        text.lines().map(|line| FlowMod::add(line.parse::<Flow>().unwrap()).into()).collect();
    switch.bundle(changes).await.unwrap();
}

/// Counts what comes, and prints how much memory it took beyond what the connected program had.
async fn dump(target: &str) {
    let switch = Switch::connect(&target.parse::<Endpoint>().unwrap()).await.unwrap();
    let before = memory("VmRSS");
    let mut flows = switch.stream_flows(FlowStatsRequest::default()).await.unwrap();
    let mut count = 0;
    while let Some(part) = flows.next().await.unwrap() {
        count += part.len();
    }
    assert_eq!(count, FLOWS as usize);
    println!("{}", memory("VmHWM").saturating_sub(before));
}

/// A line of `/proc/self/status` in KiB.
fn memory(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn time(command: &mut Command) -> (Duration, String) {
    let start = Instant::now();
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{command:?}");
    (start.elapsed(), String::from_utf8_lossy(&output.stdout).into_owned())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn compare() {
    let ovs = support::Ovs::start();
    let target = ovs.target();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("flows");
    let text: String = (0..FLOWS)
        .map(|n| {
            let [_, b, c, d] = n.to_be_bytes();
            format!(
                "table=70,priority=100,cookie={n:#x},ip,nw_dst=10.{}.{c}.{d} \
                 actions=load:{n:#x}->NXM_NX_REG1[],load:{:#x}->NXM_NX_REG2[],goto_table:80\n",
                128 + b,
                n % 60_000
            )
        })
        .collect();
    std::fs::write(&file, text).unwrap();
    let me = std::env::current_exe().unwrap();
    let ofctl = || {
        let mut command = Command::new("ovs-ofctl");
        command.args(["-O", "OpenFlow13"]);
        command
    };
    let empty = || assert!(ofctl().args(["del-flows", &target]).status().unwrap().success());

    let (mut add, mut read, mut peak) = ([vec![], vec![]], [vec![], vec![]], 0);
    for _ in 0..PAIRS {
        add[0].push(time(ofctl().args(["--bundle", "add-flows", &target]).arg(&file)).0);
        read[0].push(time(ofctl().args(["dump-flows", &target])).0);
        let (elapsed, memory) = time(Command::new(&me).args(["dump", &target]));
        read[1].push(elapsed);
        peak = peak.max(memory.trim().parse::<u64>().unwrap());
        empty();
        add[1].push(time(Command::new(&me).args(["install", &target]).arg(&file)).0);
        empty();
    }
    let report = |what: &str, [theirs, ours]: [Vec<Duration>; 2], limit: f64| {
        let (theirs, ours) = (median(theirs), median(ours));
        let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
        println!("{what}: ovs-ofctl {theirs:.2?}, openflow {ours:.2?}, ratio {ratio:.2} (aim: {limit:.2})");
    };
    println!("{FLOWS} flows, median of {PAIRS} pairs");
    report("one bundle", add, 1.05);
    report("dump, decoded", read, 1.0);
    println!("memory of the streaming dump above idle: {:.1} MiB (aim: below 16)", peak as f64 / 1024.0);
}
