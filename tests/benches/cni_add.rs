//! How long a pod waits for its network: from the start of the CNI plugin to its end, one pod after the other, on a
//! lab of one node with the userspace datapath. The answer comes after the switch has confirmed the pod's flows.

#![allow(clippy::indexing_slicing, reason = "a test may stop at the first surprise")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use controller::node::netns::NetNs;
use std::io::Write;
use tests::{Lab, binary};

const PODS: usize = 50;

fn main() -> anyhow::Result<()> {
    // `cargo test --benches` runs this as well: it is no test.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let lab = Lab::up(&["--nodes", "1"])?;
    let status = lab.status()?;
    let socket = status["nodes"][0]["cniSocket"].as_str().context("no cniSocket in the status")?;

    let pods: Vec<Pod> = (0..PODS).map(|n| Pod::new(&lab, n)).collect::<anyhow::Result<_>>()?;
    let adds = times(&pods, |pod| pod.call("ADD", Path::new(socket)))?;
    let dels = times(&pods, |pod| pod.call("DEL", Path::new(socket)))?;
    report("CNI ADD, start to exit of the plugin", adds);
    report("CNI DEL, start to exit of the plugin", dels);
    Ok(())
}

fn times(pods: &[Pod], call: impl Fn(&Pod) -> anyhow::Result<()>) -> anyhow::Result<Vec<Duration>> {
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

struct Pod {
    name: String,
    container_id: String,
    netns: String,
}

impl Pod {
    fn new(lab: &Lab, n: usize) -> anyhow::Result<Self> {
        let netns = format!("{}.bench.{n}", lab.name());
        NetNs::create_named(&netns)?;
        Ok(Self { name: format!("bench-{n}"), container_id: format!("{:064x}", n + 1), netns })
    }

    fn call(&self, command: &str, socket: &Path) -> anyhow::Result<()> {
        let config = serde_json::json!({
            "cniVersion": "1.0.0", "name": "openshift-sdn", "type": "openshift-sdn", "socket": socket,
        });
        let mut plugin = Command::new(binary("openshift-sdn")?)
            .env_clear()
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", &self.container_id)
            .env("CNI_NETNS", format!("/run/netns/{}", self.netns))
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", "/opt/cni/bin")
            .env("CNI_ARGS", format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={}", self.name))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        plugin.stdin.take().context("no stdin")?.write_all(config.to_string().as_bytes())?;
        let output = plugin.wait_with_output()?;
        ensure!(output.status.success(), "{command} {}: {}", self.name, tests::both(&output));
        Ok(())
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        if let Err(error) = NetNs::delete_named(&self.netns) {
            eprintln!("{error}");
        }
    }
}
