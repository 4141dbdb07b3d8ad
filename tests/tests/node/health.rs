//! Probes, metrics, state and log filter.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::ensure;
use controller::node::netns::NetNs;
use serde_json::Value;
use tests::cni::{Sandbox, socket};
use tests::http::{ADMIN, METRICS, ask, get, metric};
use tests::{Lab, binary, run, until};

const SOON: Duration = Duration::from_secs(10);

#[test]
fn probes_say_what_is_missing() -> anyhow::Result<()> {
    let lab = Lab::up(&["--nodes", "1"])?;
    let node = lab.netns("node/node1")?;
    // The lab waits for the CNI socket, which is open a moment before the probe knows.
    let ready = || {
        until(SOON, || {
            let (code, text) = get(&node, ADMIN, "/readyz")?;
            ensure!(code == 200 && text.ends_with("ready\n") && !text.contains("[-]"), "{code} {text}");
            Ok(text)
        })
    };
    let text = ready()?;
    for check in ["cluster", "ovsdb", "openflow", "flows", "cni"] {
        ensure!(text.contains(&format!("[+] {check}\n")), "{text}");
    }
    for program in ["ovs-vswitchd", "ovsdb-server"] {
        let check = if program == "ovsdb-server" { "ovsdb" } else { "openflow" };
        lab.kill("node1", program)?;
        until(SOON, || {
            let (code, text) = get(&node, ADMIN, "/readyz")?;
            ensure!(code == 503 && text.contains(&format!("[-] {check}: ")), "{code} {text}");
            ensure!(text.ends_with("not ready\n"), "{text}");
            Ok(())
        })?;
        let (code, text) = get(&node, ADMIN, "/livez")?;
        ensure!(code == 200, "a probe that restarts the agent failed: {text}");
        ensure!(metric(&node, "sdn_ready")? == 0.0, "sdn_ready");
        lab.start("node1", program)?;
        ready()?;
    }
    ensure!(metric(&node, "sdn_connections_total{peer=\"openflow\"}")? >= 2.0, "reconnects are not counted");
    ensure!(metric(&node, "sdn_connections_total{peer=\"ovsdb\"}")? == 2.0, "reconnects are not counted");
    Ok(())
}

#[test]
fn an_agent_without_open_vswitch_lives_and_says_what_it_waits_for() -> anyhow::Result<()> {
    let name = format!("t{}-alone", std::process::id());
    let ns = NetNs::create_named(&name)?;
    let path = std::path::Path::new("/run/netns").join(&name);
    let dir = tempfile::tempdir()?;
    run(Command::new("ip").args(["-n", &name, "link", "set", "lo", "up"]))?;
    let mut command = Command::new(binary("sdn-node")?);
    command
        .arg("--cluster")
        .arg(tests::checkout().join("manifests/demo"))
        .args(["--node", "node1.ocp.cn", "--ovs-dir"])
        .arg(dir.path())
        .arg("--cni-socket")
        .arg(dir.path().join("cni"))
        .arg("--lease-dir")
        .arg(dir.path().join("leases"))
        .stderr(Stdio::null());
    let mut agent = controller::node::netns::run_in(&ns, || command.spawn())??;
    let checked = until(SOON, || {
        let (code, text) = get(&path, ADMIN, "/readyz")?;
        ensure!(code == 503 && text.contains("[+] cluster\n[-] ovsdb: no connection"), "{code} {text}");
        ensure!(get(&path, ADMIN, "/livez")? == (200, "ok\n".to_owned()), "livez");
        let (code, state) = get(&path, ADMIN, "/debug/state")?;
        let state: Value = serde_json::from_str(&state)?;
        ensure!(
            code == 200 && state["agent"].as_str().is_some_and(|text| text.starts_with("busy")),
            "{state}"
        );
        Ok(())
    });
    agent.kill()?;
    agent.wait()?;
    NetNs::delete_named(&name)?;
    checked
}

#[test]
fn state_metrics_and_log_filter() -> anyhow::Result<()> {
    let lab = Lab::up(&["--nodes", "1"])?;
    let (node, agent) = (lab.netns("node/node1")?, socket(&lab)?);
    let pods = (1..=3).map(|n| Sandbox::new(&lab, n)).collect::<anyhow::Result<Vec<_>>>()?;
    for pod in &pods {
        pod.succeed("ADD", &agent)?;
    }
    let (code, text) = get(&node, ADMIN, "/debug/state")?;
    let state: Value = serde_json::from_str(&text)?;
    ensure!(code == 200 && state["ready"] == true, "{text}");
    ensure!(state["node"] == "node1" && state["network"]["mtu"].is_u64(), "{text}");
    ensure!(state["agent"]["flowsByOwner"]["pod default/pod-1"].as_u64() > Some(3), "{text}");
    ensure!(state["agent"]["ports"].as_array().is_some_and(|ports| ports.len() == 3), "{text}");
    ensure!(text == format!("{state:#}\n"), "keys are not sorted: {text}");

    for (name, value) in [
        ("sdn_pods", 3.0),
        ("sdn_leased_addresses", 3.0),
        ("sdn_ready", 1.0),
        ("sdn_connected{peer=\"ovsdb\"}", 1.0),
        ("sdn_cni_requests_total{command=\"ADD\",result=\"success\"}", 3.0),
        ("sdn_cni_request_duration_seconds_count{command=\"ADD\"}", 3.0),
        ("sdn_cni_step_duration_seconds_count{step=\"flows\"}", 3.0),
        // What the agent itself does is no repair.
        ("sdn_flow_repairs_total{change=\"added\"}", 0.0),
        ("sdn_flow_repairs_total{change=\"removed\"}", 0.0),
        ("sdn_flow_repairs_total{change=\"changed\"}", 0.0),
    ] {
        until(SOON, || {
            let found = metric(&node, name)?;
            ensure!(found == value, "{name} is {found}, not {value}");
            Ok(())
        })?;
    }
    ensure!(metric(&node, "process_resident_memory_bytes")? > 1e6, "memory");
    let (_, text) = get(&node, METRICS, "/metrics")?;
    ensure!(
        !text.contains("pod-1") && !text.contains(&pods[0].container_id),
        "a label with a pod in it:\n{text}"
    );
    ensure!(text.ends_with("# EOF\n"), "not OpenMetrics");

    let refused = [
        (METRICS, "GET", "/debug/state", "", 404),
        (METRICS, "PUT", "/logging", "debug", 404),
        (ADMIN, "GET", "/", "", 404),
        (ADMIN, "DELETE", "/readyz", "", 405),
        (ADMIN, "PUT", "/logging", "controller=loud", 400),
        (ADMIN, "PUT", "/logging", &"a".repeat(5000), 400),
    ];
    for (port, method, path, body, expected) in refused {
        let (code, text) = ask(&node, port, method, path, body)?;
        ensure!(code == expected && !text.is_empty(), "{method} {path}: {code} {text}");
    }
    ensure!(get(&node, ADMIN, "/logging")?.1 == "info\n", "log filter");
    ensure!(ask(&node, ADMIN, "PUT", "/logging", "controller=debug")?.0 == 200, "log filter");
    ensure!(get(&node, ADMIN, "/logging")?.1 == "controller=debug\n", "log filter");
    pods[0].succeed("DEL", &agent)?;
    let log = std::fs::read_to_string(lab.ovs_dir("node1")?.join("../sdn-node.log"))?;
    ensure!(log.contains("DEBUG"), "the filter has no effect");
    Ok(())
}
