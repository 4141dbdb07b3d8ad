//! Bandwidth annotations: as the database has them, as packets feel them, and as an ADD that is refused names them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use controller::node::netns::{NetNs, run_in};
use serde_json::Value;
use tests::cni::{Sandbox, error_of, nothing_is_left, socket, write_pod};
use tests::{Lab, run, until};

#[test]
fn limits_come_and_go_with_the_pod() -> anyhow::Result<()> {
    let lab = Lab::up(&["--nodes", "1"])?;
    let agent = socket(&lab)?;
    let (limited, refused) = (Sandbox::new(&lab, 1)?, Sandbox::new(&lab, 2)?);
    write_pod(
        &lab,
        "pod-1",
        "  annotations:\n    kubernetes.io/ingress-bandwidth: 10M\n    kubernetes.io/egress-bandwidth: 5M\n",
        "",
    )?;
    write_pod(&lab, "pod-2", "  annotations:\n    kubernetes.io/egress-bandwidth: 12bananas\n", "")?;
    // The agent has to have read the files.
    let (code, text) = until(Duration::from_secs(10), || {
        let output = refused.call("ADD", &agent, |_| {})?;
        if output.status.success() {
            refused.succeed("DEL", &agent)?;
        }
        error_of(&output)
    })?;
    ensure!(
        code == 7 && text.contains("kubernetes.io/egress-bandwidth") && text.contains("12bananas"),
        "{code}: {text}"
    );

    let result: Value = serde_json::from_str(&limited.succeed("ADD", &agent)?)?;
    let veth = result["interfaces"][0]["name"].as_str().context("no name")?;
    let get =
        |row: &str| lab.ovs("node1", &[&["ovs-vsctl"][..], &row.split(' ').collect::<Vec<_>>()].concat());
    ensure!(get(&format!("get Interface {veth} ingress_policing_rate"))?.trim() == "5000", "policing");
    ensure!(get(&format!("get Interface {veth} ingress_policing_burst"))?.trim() == "5000", "burst");
    let queue = get("--columns=type,other_config list QoS")?;
    ensure!(queue.contains("linux-htb") && queue.contains("max-rate=\"10000000\""), "{queue}");
    ensure!(get(&format!("get Port {veth} qos"))?.trim() != "[]", "the port has no queue");
    // Lost with the bridge, and made again with it.
    lab.ovs("node1", &["ovs-vsctl", "del-br", "br0"])?;
    until(Duration::from_secs(10), || {
        ensure!(get(&format!("get Interface {veth} ingress_policing_rate"))?.trim() == "5000", "policing");
        ensure!(get(&format!("get Port {veth} qos"))?.trim() != "[]", "the port has no queue");
        Ok(())
    })?;
    limited.succeed("DEL", &agent)?;
    nothing_is_left(&lab)
}

/// What goes to a pod is shaped by its queue. (What comes from it is policed by the kernel only behind the place where the
/// userspace datapath takes it: nothing of that can be felt here.)
#[test]
fn packets_to_a_limited_pod_wait() -> anyhow::Result<()> {
    const BYTES: usize = 500_000;
    // 2 Mbit/s would take 2 seconds, of which what may come at once is taken off.
    const LEAST: Duration = Duration::from_millis(1500);
    let lab = Lab::up(&["--nodes", "1"])?;
    let agent = socket(&lab)?;
    let (limited, sender) = (Sandbox::new(&lab, 1)?, Sandbox::new(&lab, 2)?);
    write_pod(&lab, "pod-1", "  annotations:\n    kubernetes.io/ingress-bandwidth: 2M\n", "")?;
    sender.succeed("ADD", &agent)?;
    // The agent has to have read the file.
    let veth = until(Duration::from_secs(10), || {
        let result: Value = serde_json::from_str(&limited.succeed("ADD", &agent)?)?;
        let veth = result["interfaces"][0]["name"].as_str().context("no name")?.to_owned();
        if lab.ovs("node1", &["ovs-vsctl", "get", "Port", &veth, "qos"])?.trim() == "[]" {
            limited.succeed("DEL", &agent)?;
            bail!("no queue yet");
        }
        Ok(veth)
    })?;

    let address: SocketAddr = format!("{}:9", limited.address()?).parse()?;
    let listener = run_in(&NetNs::open(limited.netns())?, || TcpListener::bind(address))??;
    let received = std::thread::spawn(move || -> std::io::Result<usize> {
        let mut data = Vec::new();
        listener.accept()?.0.read_to_end(&mut data)
    });
    let start = Instant::now();
    run_in(&NetNs::open(sender.netns())?, || {
        TcpStream::connect_timeout(&address, Duration::from_secs(10))?.write_all(&vec![0; BYTES])
    })??;
    let received = received.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
    let took = start.elapsed();
    ensure!(received == BYTES, "{received} bytes arrived");
    println!("{BYTES} bytes at 2 Mbit/s took {took:.1?}");
    ensure!(took >= LEAST, "they took {took:?} only");
    let classes = run(&mut lab.inside("node/node1", &["tc", "-s", "class", "show", "dev", &veth]))?;
    let held_back = classes.split("overlimits ").skip(1).any(|rest| !rest.starts_with("0 "));
    ensure!(classes.contains("rate 2Mbit") && held_back, "{classes}");
    for pod in [&limited, &sender] {
        pod.succeed("DEL", &agent)?;
    }
    nothing_is_left(&lab)
}
