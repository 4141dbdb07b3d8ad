//! How long a pod waits for its network: from the start of the CNI plugin to its end, one pod after the other, on a
//! lab of one node with the userspace datapath. The answer comes after the switch has confirmed the pod's flows.

#![allow(clippy::indexing_slicing, reason = "a test may stop at the first surprise")]

use std::time::{Duration, Instant};

use tests::Lab;
use tests::cni::{Sandbox, socket};

const PODS: usize = 50;

fn main() -> anyhow::Result<()> {
    // `cargo test --benches` runs this as well: it is no test.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let lab = Lab::up(&["--nodes", "1"])?;
    let agent = socket(&lab)?;

    let pods: Vec<Sandbox> = (0..PODS).map(|n| Sandbox::new(&lab, n)).collect::<anyhow::Result<_>>()?;
    let adds = times(&pods, |pod| pod.succeed("ADD", &agent))?;
    let dels = times(&pods, |pod| pod.succeed("DEL", &agent))?;
    report("CNI ADD, start to exit of the plugin", adds);
    report("CNI DEL, start to exit of the plugin", dels);
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

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let ms = |share: usize| {
        let at = (times.len() * share / 100).min(times.len().saturating_sub(1));
        times.get(at).map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
    };
    println!(
        "{what}: median {:.1} ms, p95 {:.1} ms, max {:.1} ms ({} pods)",
        ms(50),
        ms(95),
        ms(100),
        times.len()
    );
}
