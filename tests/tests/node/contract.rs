//! The CNI verbs against a running agent: what CHECK, GC and STATUS say, hostile input, and who may ask.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tests::cni::{Sandbox, error_of, leases, nothing_is_left, socket};
use tests::{Lab, Paused, both, daemon, run, until};

#[test]
fn results_have_all_that_the_version_knows() -> anyhow::Result<()> {
    let lab = Lab::up(&["--nodes", "1"])?;
    let agent = socket(&lab)?;
    for (n, version) in ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"].into_iter().enumerate() {
        let pod = Sandbox::new(&lab, n)?;
        let add = pod.call_with("ADD", &json!({"cniVersion": version, "socket": agent}), |_| {})?;
        ensure!(add.status.success(), "{version}: {}", both(&add));
        let result: Value = serde_json::from_slice(&add.stdout)?;
        ensure!(result["cniVersion"] == version, "{result}");
        let (host, inside) = (&result["interfaces"][0], &result["interfaces"][1]);
        ensure!(host["name"].as_str().is_some_and(|name| name.starts_with("veth")), "{result}");
        ensure!(inside["name"] == "eth0" && inside["sandbox"] == json!(pod.netns()), "{result}");
        // As the kernel has it.
        let address = run(Command::new("ip").args(["-n", pod.netns_name(), "-o", "addr", "show", "eth0"]))?;
        let link = run(Command::new("ip").args(["-n", pod.netns_name(), "-o", "link", "show", "eth0"]))?;
        let routes = run(Command::new("ip").args(["-n", pod.netns_name(), "route"]))?;
        let text = |value: &Value| value.as_str().unwrap_or("nothing").to_owned();
        ensure!(address.contains(&text(&result["ips"][0]["address"])), "{result}\n{address}");
        ensure!(link.contains(&text(&inside["mac"])), "{result}\n{link}");
        ensure!(result["ips"][0]["interface"] == 1, "{result}");
        ensure!(
            routes.contains(&format!("default via {}", text(&result["ips"][0]["gateway"]))),
            "{result}\n{routes}"
        );
        ensure!(result["routes"].as_array().is_some_and(|routes| routes.len() >= 4), "{result}");
        ensure!(result["dns"].is_object(), "{result}");
        if version == "1.1.0" {
            ensure!(link.contains(&format!("mtu {}", inside["mtu"])), "{result}\n{link}");
        } else {
            ensure!(inside.get("mtu").is_none(), "{result}");
        }
        pod.succeed("DEL", &agent)?;
    }
    nothing_is_left(&lab)
}

#[test]
fn check_finds_each_thing_that_is_not_as_add_left_it() -> anyhow::Result<()> {
    let lab = Lab::up(&["--nodes", "1"])?;
    let agent = socket(&lab)?;
    let pod = Sandbox::new(&lab, 1)?;
    let result: Value = serde_json::from_str(&pod.succeed("ADD", &agent)?)?;
    let config = |previous: &Value| json!({"cniVersion": "1.0.0", "socket": agent, "prevResult": previous});
    let check = |previous: &Value| pod.call_with("CHECK", &config(previous), |_| {});
    let good = check(&result)?;
    ensure!(good.status.success() && good.stdout.is_empty(), "{}", both(&good));
    // What a later plugin of the chain adds is not ours to judge.
    let mut more = result.clone();
    more["interfaces"].as_array_mut().context("no list")?.push(json!({"name": "macvlan0", "sandbox": "/x"}));
    ensure!(check(&more)?.status.success(), "{}", both(&check(&more)?));

    for (pointer, value, says) in [
        ("/ips/0/address", json!("10.128.0.77/23"), "prevResult does not have the address"),
        ("/interfaces/1/mac", json!("0a:58:00:00:00:01"), "prevResult has the MAC"),
        ("/interfaces/1/name", json!("eth7"), "prevResult has no interface eth0"),
        ("/interfaces/0/name", json!("veth0"), "prevResult has no interface veth"),
    ] {
        let mut wrong = result.clone();
        *wrong.pointer_mut(pointer).context("no such place")? = value;
        let (code, text) = error_of(&check(&wrong)?)?;
        ensure!(code == 101 && text.contains(says), "{code}: {text}");
    }
    let inside = |arguments: &[&str]| run(Command::new("ip").args(["-n", pod.netns_name()]).args(arguments));
    let address = result["ips"][0]["address"].as_str().context("no address")?.to_owned();
    inside(&["addr", "del", &address, "dev", "eth0"])?;
    let (code, text) = error_of(&check(&result)?)?;
    ensure!(code == 101 && text.contains("in the pod does not have the address"), "{code}: {text}");
    inside(&["addr", "add", &address, "dev", "eth0"])?;
    inside(&["link", "set", "eth0", "address", "0a:58:01:02:03:04"])?;
    let (code, text) = error_of(&check(&result)?)?;
    ensure!(code == 101 && text.contains("in the pod does not have the MAC"), "{code}: {text}");

    pod.succeed("DEL", &agent)?;
    let (code, text) = error_of(&check(&result)?)?;
    ensure!(code == 3 && text.contains("not attached"), "{code}: {text}");
    Ok(())
}

#[test]
fn gc_leaves_what_is_named_and_nothing_else() -> anyhow::Result<()> {
    let lab = Lab::up(&["--nodes", "1"])?;
    let agent = socket(&lab)?;
    let pods = (0..6).map(|n| Sandbox::new(&lab, n)).collect::<anyhow::Result<Vec<_>>>()?;
    for pod in &pods {
        pod.succeed("ADD", &agent)?;
    }
    let gc = |key: &str, list: Value| {
        let mut config = json!({"cniVersion": "1.1.0", "socket": agent});
        config[key] = list;
        pods[0].call_with("GC", &config, |gc| {
            for variable in ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS"] {
                gc.env_remove(variable);
            }
        })
    };
    let named = |pods: &[Sandbox]| -> Value {
        pods.iter().map(|pod| json!({"containerID": pod.container_id, "ifname": "eth0"})).collect()
    };
    // A list that is missing or not understood must not cost anybody its network.
    for (key, list) in [("x", json!([])), ("cni.dev/valid-attachments", json!("none"))] {
        let (code, text) = error_of(&gc(key, list)?)?;
        ensure!(code == 7 && text.contains("valid-attachments"), "{code}: {text}");
    }
    ensure!(leases(&lab)?.len() == 6, "{:?}", leases(&lab)?);
    for (key, left) in [("cni.dev/valid-attachments", 4), ("cni.dev/attachments", 2)] {
        let keep = pods.get(..left).context("too few")?;
        let done = gc(key, named(keep))?;
        ensure!(done.status.success() && done.stdout.is_empty(), "{}", both(&done));
        ensure!(leases(&lab)?.len() == left, "{key}: {:?}", leases(&lab)?);
        for pod in keep {
            pod.succeed("CHECK", &agent)?;
        }
    }
    pods[0].reaches(&pods[1])?;
    // A lease that nobody uses, as a crash of the replaced system leaves them.
    std::fs::write(lab.ovs_dir("node1")?.join("../leases/openshift-sdn/10.128.0.200"), "0".repeat(64))?;
    ensure!(gc("cni.dev/valid-attachments", json!([]))?.status.success(), "GC");
    nothing_is_left(&lab)
}

#[test]
fn status_says_whether_add_would_be_served() -> anyhow::Result<()> {
    let lab = Lab::up(&["--nodes", "1"])?;
    let agent = socket(&lab)?;
    let pod = Sandbox::new(&lab, 1)?;
    let status = || pod.call_with("STATUS", &json!({"cniVersion": "1.1.0", "socket": agent}), |_| {});
    let good = status()?;
    ensure!(good.status.success() && good.stdout.is_empty(), "{}", both(&good));
    let becomes = |expected: u64, says: &str| {
        until(Duration::from_secs(10), || {
            let (code, text) = error_of(&status()?)?;
            ensure!(code == expected && text.contains(says), "{code}: {text}");
            Ok(())
        })
    };
    let serves = || {
        until(Duration::from_secs(10), || {
            let output = status()?;
            ensure!(output.status.success(), "{}", both(&output));
            Ok(())
        })
    };
    lab.kill("node1", "ovsdb-server")?;
    becomes(51, "ovsdb")?;
    lab.start("node1", "ovsdb-server")?;
    serves()?;
    lab.kill("node1", "ovs-vswitchd")?;
    becomes(51, "openflow")?;
    lab.start("node1", "ovs-vswitchd")?;
    serves()?;
    lab.kill("node1", "sdn-node")?;
    becomes(50, "not (yet?) available")?;
    // DEL must be repeated then, or what the pod has would leak.
    let (code, _) = error_of(&pod.call("DEL", &agent, |_| {})?)?;
    ensure!(code == 11, "{code}");
    Ok(())
}

#[test]
fn hostile_input_is_refused_and_leaves_nothing() -> anyhow::Result<()> {
    let lab = Lab::up(&["--nodes", "1"])?;
    let agent = socket(&lab)?;
    let pod = Sandbox::new(&lab, 1)?;
    let file = tempfile::NamedTempFile::new()?;
    let netns_is_a_file = file.path().to_string_lossy().into_owned();
    let long = "x".repeat(300);
    for (variable, value, code, says) in [
        ("CNI_CONTAINERID", "../../etc/passwd", 4, "CNI_CONTAINERID"),
        ("CNI_CONTAINERID", "", 4, "CNI_CONTAINERID"),
        ("CNI_CONTAINERID", long.as_str(), 4, "CNI_CONTAINERID"),
        ("CNI_IFNAME", long.as_str(), 4, "CNI_IFNAME"),
        ("CNI_IFNAME", "a/b", 4, "CNI_IFNAME"),
        ("CNI_IFNAME", "lo", 100, "interface named lo"),
        ("CNI_NETNS", netns_is_a_file.as_str(), 4, "CNI_NETNS"),
        ("CNI_NETNS", "/nonexistent/ns", 4, "CNI_NETNS"),
        ("CNI_NETNS", "/dev/null", 4, "CNI_NETNS"),
        ("CNI_NETNS", "/proc/self/ns/uts", 4, "CNI_NETNS"),
        ("CNI_NETNS", "", 4, "CNI_NETNS"),
        ("CNI_ARGS", "", 4, "K8S_POD_NAMESPACE"),
        ("CNI_ARGS", "K8S_POD_NAMESPACE", 4, "KEY=VALUE"),
        ("CNI_ARGS", "K8S_POD_NAMESPACE=default;K8S_POD_NAME=a;COLOR=red", 4, "COLOR"),
        ("CNI_ARGS", "K8S_POD_NAMESPACE=default;K8S_POD_NAME=a;IP=10.0.0.0.1", 4, "IP="),
        (
            "CNI_ARGS",
            "K8S_POD_NAMESPACE=default;K8S_POD_NAME=a;IP=192.0.2.1",
            100,
            "not in the node's subnet",
        ),
        ("CNI_COMMAND", "UPDATE", 4, "CNI_COMMAND"),
    ] {
        let output = pod.call("ADD", &agent, |add| {
            add.env(variable, value);
        })?;
        let (found, text) = error_of(&output).with_context(|| format!("{variable}={value}"))?;
        ensure!(found == code && text.contains(says), "{variable}={value}: {found} {text}");
        nothing_is_left(&lab).with_context(|| format!("{variable}={value}"))?;
    }
    let chained =
        json!({"cniVersion": "1.0.0", "socket": agent, "prevResult": {"ips": []}, "unknown": [1, {}]});
    let (code, text) = error_of(&pod.call_with("ADD", &chained, |_| {})?)?;
    ensure!(code == 7 && text.contains("first plugin"), "{code}: {text}");
    // Keys that it does not know are another's.
    let unknown =
        json!({"cniVersion": "1.0.0", "socket": agent, "unknown": [1, {}], "runtimeConfig": {"a": 1}});
    ensure!(pod.call_with("ADD", &unknown, |_| {})?.status.success(), "unknown keys");
    pod.succeed("DEL", &agent)?;

    // Anyone else on the socket. The directory keeps them out too, so it is opened for this.
    let directory = agent.parent().context("no parent")?;
    let open = |mode: &str, path: &std::path::Path| run(Command::new("chmod").arg(mode).arg(path));
    for path in
        directory.ancestors().filter(|path| path.starts_with("/run") && *path != std::path::Path::new("/run"))
    {
        open("a+x", path)?;
    }
    open("a+rw", &agent)?;
    // What is sent is no request, so root is told so, in a frame; others are told nothing.
    let send = |user: &str| -> anyhow::Result<Vec<u8>> {
        let ids = [format!("--reuid={user}"), format!("--regid={user}")];
        let mut child = Command::new("setpriv")
            .args(&ids)
            .args(["--clear-groups", "nc", "-N", "-U"])
            .arg(&agent)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        // The agent may have hung up by now.
        let _ = child.stdin.take().context("no stdin")?.write_all(&[0, 0, 0, 2, 0xff, 0xff]);
        let output = child.wait_with_output()?;
        ensure!(!String::from_utf8_lossy(&output.stderr).contains("nc: unix connect"), "{}", both(&output));
        Ok(output.stdout)
    };
    ensure!(!send("0")?.is_empty(), "root is not answered");
    let refused = || -> anyhow::Result<bool> {
        let log = std::fs::read_to_string(lab.ovs_dir("node1")?.join("../sdn-node.log"))?;
        Ok(log
            .lines()
            .any(|line| line.contains("only the agent's own user may ask") && line.contains("uid=65534")))
    };
    ensure!(!refused()?, "root is refused");
    let answer = send("65534")?;
    ensure!(answer.is_empty(), "another user is answered: {}", String::from_utf8_lossy(&answer));
    until(Duration::from_secs(5), || {
        ensure!(refused()?, "the log does not say that another user was refused");
        Ok(())
    })?;
    nothing_is_left(&lab)
}

#[test]
fn an_agent_that_stands_still_is_given_up_on_in_time() -> anyhow::Result<()> {
    let lab = Lab::up(&["--nodes", "1"])?;
    let agent = socket(&lab)?;
    let pod = Sandbox::new(&lab, 1)?;
    let paused = Paused::new(daemon(&lab.status()?, "node1", "sdn-node")?)?;
    let config = json!({"cniVersion": "1.0.0", "socket": agent, "timeout": 1});
    let (code, text) = error_of(&pod.call_with("ADD", &config, |_| {})?)?;
    ensure!(code == 11 && text.contains("within 1 s"), "{code}: {text}");
    drop(paused);
    // The request that nobody waits for is carried out or not: DEL makes an end of either.
    until(Duration::from_secs(10), || pod.succeed("DEL", &agent).map(|_| ()))?;
    pod.succeed("ADD", &agent)?;
    pod.succeed("DEL", &agent)?;
    nothing_is_left(&lab)
}

#[test]
fn one_agent_has_the_socket_and_it_comes_back() -> anyhow::Result<()> {
    let lab = Lab::up(&["--nodes", "1"])?;
    let agent = socket(&lab)?;
    let pod = Sandbox::new(&lab, 1)?;
    let pid = daemon(&lab.status()?, "node1", "sdn-node")?;
    let line = std::fs::read(format!("/proc/{pid}/cmdline"))?;
    let mut words: Vec<&str> =
        line.split(|byte| *byte == 0).filter_map(|word| std::str::from_utf8(word).ok()).collect();
    words.pop();
    words.extend(["--admin-address", "none", "--metrics-address", "none"]);
    let second = lab.inside("node/node1", &words).output()?;
    let text = both(&second);
    ensure!(!second.status.success() && text.contains("another sdn-node serves it"), "{text}");
    pod.succeed("ADD", &agent)?;

    for _ in 0..2 {
        std::fs::remove_file(&agent)?;
        until(Duration::from_secs(15), || pod.succeed("CHECK", &agent).map(|_| ()))?;
    }
    // Something else in its place.
    let other = agent.with_extension("other");
    std::fs::write(&other, "no socket")?;
    std::fs::rename(&other, &agent)?;
    until(Duration::from_secs(15), || pod.succeed("CHECK", &agent).map(|_| ()))?;
    pod.succeed("DEL", &agent)?;
    nothing_is_left(&lab)
}
