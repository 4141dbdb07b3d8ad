//! As container runtimes call it: through libcni, by the configuration that the agent has written, in a chain with other
//! plugins.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use anyhow::{Context, ensure};
use controller::node::netns::{NetNs, run_in};
use serde_json::{Value, json};
use tests::cni::{Sandbox, nothing_is_left, socket};
use tests::{Lab, binary, both, run};

/// Debian's plugins.
const PLUGINS: &str = "/usr/lib/cni";

fn cnitool() -> anyhow::Result<PathBuf> {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| tests::checkout().join("target"), PathBuf::from);
    let path = target.join("cnitool/cnitool");
    ensure!(path.is_file(), "{} is missing: run `make test-deps`", path.display());
    Ok(path)
}

struct Runtime<'a> {
    lab: &'a Lab,
    configurations: &'a Path,
    network: &'a str,
    capabilities: Value,
}

impl Runtime<'_> {
    fn call(&self, verb: &str, pod: &Sandbox) -> anyhow::Result<Output> {
        let own = binary("openshift-sdn")?;
        let path = format!("{}:{PLUGINS}", own.parent().context("no directory")?.display());
        let mut call = self.lab.inside(
            "node/node1",
            &[cnitool()?.as_os_str(), verb.as_ref(), self.network.as_ref(), pod.netns().as_os_str()],
        );
        call.env("NETCONFPATH", self.configurations)
            .env("CNI_PATH", path)
            .env("CNI_ARGS", pod.args(""))
            .env("CAP_ARGS", self.capabilities.to_string());
        Ok(call.output()?)
    }

    fn succeed(&self, verb: &str, pod: &Sandbox) -> anyhow::Result<String> {
        let output = self.call(verb, pod)?;
        ensure!(output.status.success(), "cnitool {verb}: {}", both(&output));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

#[test]
fn the_configuration_that_is_written_works_with_portmap_and_tuning() -> anyhow::Result<()> {
    let lab = Lab::up(&["--nodes", "1"])?;
    let pods = [Sandbox::new(&lab, 1)?, Sandbox::new(&lab, 2)?];
    let written = lab.ovs_dir("node1")?.join("../net.d/10-openshift-sdn.conflist");
    let mut list: Value = serde_json::from_slice(&std::fs::read(&written)?)?;
    let plugins = list["plugins"].as_array_mut().context("no plugins")?;
    let types: Vec<&str> = plugins.iter().filter_map(|plugin| plugin["type"].as_str()).collect();
    ensure!(types == ["openshift-sdn", "portmap"], "{types:?}");
    plugins.push(json!({"type": "tuning", "sysctl": {"net.core.somaxconn": "500"}}));
    let directory = tempfile::tempdir()?;
    std::fs::write(directory.path().join("10.conflist"), list.to_string())?;
    let runtime = Runtime {
        lab: &lab,
        configurations: directory.path(),
        network: "openshift-sdn",
        capabilities: json!({"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}),
    };
    let result: Value = serde_json::from_str(&runtime.succeed("add", &pods[0])?)?;
    ensure!(result["interfaces"][1]["name"] == "eth0", "{result}");
    // The runtime hands the result of the whole chain back. Without port mappings: with them Debian's portmap (1.1.1) looks
    // for its IPv6 rules also where no address is one.
    let unmapped = Runtime { capabilities: json!({}), ..runtime };
    unmapped.succeed("check", &pods[0])?;
    let sysctl = ["ip", "netns", "exec", pods[0].netns_name(), "sysctl", "-n", "net.core.somaxconn"];
    let tuned = run(std::process::Command::new(sysctl[0]).args(&sysctl[1..]))?;
    ensure!(tuned.trim() == "500", "{tuned}");

    // From outside of the node by its port into the pod.
    let shown = run(&mut lab.inside("node/node1", &["ip", "-o", "-4", "addr", "show", "scope", "global"]))?;
    let node = shown
        .lines()
        .filter(|line| !line.contains(" tun0 "))
        .find_map(|line| line.split_whitespace().nth(3)?.split('/').next())
        .with_context(|| shown.clone())?;
    let pod: SocketAddr = format!("{}:80", pods[0].address()?).parse()?;
    let listener = run_in(&NetNs::open(pods[0].netns())?, || TcpListener::bind(pod))??;
    let served =
        std::thread::spawn(move || -> std::io::Result<()> { listener.accept()?.0.write_all(b"hello") });
    let host: SocketAddr = format!("{node}:8080").parse()?;
    let said = run_in(&NetNs::open(lab.netns("underlay")?)?, || -> anyhow::Result<String> {
        let mut connection = TcpStream::connect_timeout(&host, Duration::from_secs(10))?;
        connection.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut said = String::new();
        connection.read_to_string(&mut said)?;
        Ok(said)
    })??;
    ensure!(said == "hello", "{said:?}");
    served.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;

    // One whose plugins fail after ours is taken down by the runtime's DEL of the whole chain.
    list["plugins"][2]["sysctl"] = json!({"net.core.there_is_none": "1"});
    std::fs::write(directory.path().join("10.conflist"), list.to_string())?;
    let refused = both(&unmapped.call("add", &pods[1])?);
    ensure!(refused.contains("there_is_none"), "{refused}");
    for pod in &pods {
        unmapped.succeed("del", pod)?;
        unmapped.succeed("del", pod)?;
    }
    nothing_is_left(&lab)
}

#[test]
fn all_verbs_of_version_1_1() -> anyhow::Result<()> {
    let lab = Lab::up(&["--nodes", "1"])?;
    let pod = Sandbox::new(&lab, 1)?;
    let directory = tempfile::tempdir()?;
    let list = json!({
        "cniVersion": "1.1.0", "name": "alone",
        "plugins": [{"type": "openshift-sdn", "socket": socket(&lab)?}],
    });
    std::fs::write(directory.path().join("10.conflist"), list.to_string())?;
    let runtime =
        Runtime { lab: &lab, configurations: directory.path(), network: "alone", capabilities: json!({}) };
    runtime.succeed("status", &pod)?;
    let result: Value = serde_json::from_str(&runtime.succeed("add", &pod)?)?;
    ensure!(result["interfaces"][1]["mtu"] == 1450, "{result}");
    runtime.succeed("check", &pod)?;
    lab.kill("node1", "sdn-node")?;
    let status = both(&runtime.call("status", &pod)?);
    ensure!(status.contains("not (yet?) available") || status.contains("try again"), "{status}");
    lab.start("node1", "sdn-node")?;
    runtime.succeed("check", &pod)?;
    // cnitool has no list of attachments to hand over: libcni takes down all that it knows itself; we can't know what
    // may go.
    let gc = both(&runtime.call("gc", &pod)?);
    ensure!(gc.contains("cni.dev/valid-attachments is missing"), "{gc}");
    nothing_is_left(&lab)?;
    runtime.succeed("del", &pod)?;
    nothing_is_left(&lab)
}
