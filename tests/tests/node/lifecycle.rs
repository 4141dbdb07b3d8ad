//! What others do to Open vSwitch: ports and bridges deleted, options changed, databases lost.

use std::process::Command;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use controller::node::cni::sandbox::host_veth_name;
use tests::cni::{Sandbox, error_of, leases, nothing_is_left, socket, write_pod};
use tests::http::metric;
use tests::{Lab, Paused, daemon, run, until};

const SOON: Duration = Duration::from_secs(10);

struct Site {
    lab: Lab,
    pods: Vec<Sandbox>,
}

impl Site {
    fn new(pods: usize) -> anyhow::Result<Self> {
        let lab = Lab::up(&["--nodes", "1"])?;
        let agent = socket(&lab)?;
        let pods = (0..pods).map(|n| Sandbox::new(&lab, n)).collect::<anyhow::Result<Vec<_>>>()?;
        for pod in &pods {
            pod.succeed("ADD", &agent)?;
        }
        Ok(Self { lab, pods })
    }

    fn vsctl(&self, command: &str) -> anyhow::Result<String> {
        let words: Vec<&str> = ["ovs-vsctl"].into_iter().chain(command.split(' ')).collect();
        self.lab.ovs("node1", &words)
    }

    /// Everything is as it shall be: each pod passes CHECK and reaches the next.
    fn whole(&self) -> anyhow::Result<()> {
        let agent = socket(&self.lab)?;
        until(SOON, || {
            for pod in &self.pods {
                pod.succeed("CHECK", &agent)?;
            }
            self.lab.ask(&["diff"]).map(|_| ())
        })?;
        for pair in self.pods.windows(2) {
            pair[0].reaches(&pair[1])?;
        }
        Ok(())
    }

    /// Names, numbers and identities of the pods' ports.
    fn ports(&self) -> anyhow::Result<String> {
        self.columns("name,ofport,external_ids")
    }

    /// The same without the numbers, which a port that nobody remembers need not get again.
    fn identities(&self) -> anyhow::Result<String> {
        self.columns("name,external_ids")
    }

    fn columns(&self, columns: &str) -> anyhow::Result<String> {
        let list = format!(
            "--format=csv --no-headings --columns={columns} find Interface external_ids:sandbox!=\"\""
        );
        let mut lines: Vec<String> = self.vsctl(&list)?.lines().map(str::to_owned).collect();
        lines.sort();
        Ok(lines.join("\n"))
    }

    fn end(self) -> anyhow::Result<()> {
        let agent = socket(&self.lab)?;
        for pod in &self.pods {
            pod.succeed("DEL", &agent)?;
        }
        nothing_is_left(&self.lab)
    }
}

#[test]
fn a_port_deleted_by_hand_is_made_again_with_its_number() -> anyhow::Result<()> {
    let site = Site::new(3)?;
    let node = site.lab.netns("node/node1")?;
    let before = site.ports()?;
    ensure!(before.lines().count() == 3, "{before}");
    let port = before.lines().nth(1).and_then(|line| line.split(',').next()).context("no port")?;
    site.vsctl(&format!("del-port br0 {port}"))?;
    let start = Instant::now();
    until(SOON, || {
        ensure!(site.ports()? == before, "before\n{before}\nnow\n{}", site.ports()?);
        Ok(())
    })?;
    println!("a port deleted by hand: back within {:.0?}", start.elapsed());
    until(SOON, || {
        ensure!(metric(&node, "sdn_repairs_total{part=\"port\"}")? == 1.0, "not counted");
        Ok(())
    })?;
    site.whole()?;
    // A DEL is no repair.
    let agent = socket(&site.lab)?;
    site.pods[0].succeed("DEL", &agent)?;
    ensure!(metric(&node, "sdn_repairs_total{part=\"port\"}")? == 1.0, "a DEL was repaired");
    site.end()
}

#[test]
fn a_link_set_down_by_hand_comes_up_again() -> anyhow::Result<()> {
    let site = Site::new(2)?;
    let node = site.lab.netns("node/node1")?;
    let name = site.columns("name")?.lines().next().context("no port")?.to_owned();
    let flags = || site.lab.ovs("node1", &["ip", "-o", "link", "show", "dev", &name]);
    site.lab.ovs("node1", &["ip", "link", "set", "dev", &name, "down"])?;
    let start = Instant::now();
    until(SOON, || {
        ensure!(flags()?.contains(",UP"), "{}", flags()?);
        Ok(())
    })?;
    println!("a link set down by hand: up again within {:.0?}", start.elapsed());
    site.whole()?;
    let repairs = |count: f64| {
        until(SOON, || {
            ensure!(metric(&node, "sdn_repairs_total{part=\"links\"}")? == count, "not counted");
            Ok(())
        })
    };
    repairs(1.0)?;
    // Of a link whose other end was down before the switch tells nothing new.
    let pod =
        site.pods.iter().find(|pod| host_veth_name(&pod.container_id, "eth0") == name).context("no pod")?;
    let pods_end =
        |state: &str| run(Command::new("ip").args(["-n", pod.netns_name(), "link", "set", "eth0", state]));
    pods_end("down")?;
    let link_state = || site.vsctl(&format!("get Interface {name} link_state"));
    until(SOON, || {
        ensure!(link_state()?.trim() == "down", "{}", link_state()?);
        Ok(())
    })?;
    site.lab.ovs("node1", &["ip", "link", "set", "dev", &name, "down"])?;
    until(SOON, || {
        ensure!(flags()?.contains(",UP"), "{}", flags()?);
        Ok(())
    })?;
    repairs(2.0)?;
    site.end()
}

#[test]
fn the_bridge_deleted_by_hand_is_made_again_and_pods_are_attached() -> anyhow::Result<()> {
    let site = Site::new(4)?;
    let before = site.ports()?;
    site.vsctl("del-br br0")?;
    let start = Instant::now();
    site.whole()?;
    println!("br0 deleted by hand: all as before within {:.0?}", start.elapsed());
    ensure!(site.ports()? == before, "before\n{before}\nnow\n{}", site.ports()?);
    // And without the agent's memory of what there was.
    site.lab.kill("node1", "sdn-node")?;
    site.vsctl("del-br br0")?;
    site.lab.start("node1", "sdn-node")?;
    site.whole()?;
    site.end()
}

#[test]
fn the_database_lost_with_everything_in_it() -> anyhow::Result<()> {
    let site = Site::new(3)?;
    site.lab.kill("node1", "ovsdb-server")?;
    site.lab.new_database("node1")?;
    site.lab.start("node1", "ovsdb-server")?;
    let start = Instant::now();
    site.whole()?;
    println!("conf.db lost: all as before within {:.0?}", start.elapsed());
    site.end()
}

/// As after its file was cut off, or brought back from a backup.
#[test]
fn the_database_of_some_time_ago() -> anyhow::Result<()> {
    let site = Site::new(4)?;
    let database = site.lab.ovs_dir("node1")?.join("conf.db");
    let older = std::fs::read(&database)?;
    let agent = socket(&site.lab)?;
    let other = Sandbox::new(&site.lab, 4)?;
    // Gone since, and there again under another address.
    for pod in &site.pods[..2] {
        pod.succeed("DEL", &agent)?;
    }
    let before = site.pods[1].succeed("ADD", &agent)?;
    // And the address of the one that is gone with another.
    let taken = |plugin: &mut std::process::Command| {
        plugin.env("CNI_ARGS", other.args(";IP=10.128.0.2"));
    };
    ensure!(other.call("ADD", &agent, taken)?.status.success(), "the address is not free");
    let now = site.identities()?;
    for agent_sees_it in [true, false] {
        if !agent_sees_it {
            site.lab.kill("node1", "sdn-node")?;
        }
        site.lab.kill("node1", "ovsdb-server")?;
        std::fs::write(&database, &older)?;
        site.lab.start("node1", "ovsdb-server")?;
        if !agent_sees_it {
            site.lab.start("node1", "sdn-node")?;
        }
        until(SOON, || {
            for pod in &site.pods[1..] {
                pod.succeed("CHECK", &agent)?;
            }
            site.lab.ask(&["diff"])?;
            let found = site.identities()?;
            ensure!(found == now, "were\n{now}\nare\n{found}");
            ensure!(leases(&site.lab)?.len() == 4, "{:?}", leases(&site.lab)?);
            Ok(())
        })?;
        site.pods[2].reaches(&other)?;
        ensure!(site.pods[1].succeed("ADD", &agent)? == before, "another result");
        site.pods[1].reaches(&site.pods[2])?;
    }
    other.succeed("DEL", &agent)?;
    site.end()
}

#[test]
fn a_lease_moved_by_hand_cuts_nobody_off() -> anyhow::Result<()> {
    let site = Site::new(2)?;
    let now = site.identities()?;
    let directory = site.lab.ovs_dir("node1")?.join("../leases/openshift-sdn");
    std::fs::rename(directory.join("10.128.0.3"), directory.join("10.128.0.77"))?;
    site.lab.kill("node1", "sdn-node")?;
    site.lab.start("node1", "sdn-node")?;
    site.whole()?;
    ensure!(site.identities()? == now, "was\n{now}\nis\n{}", site.identities()?);
    ensure!(leases(&site.lab)?.len() == 2, "{:?}", leases(&site.lab)?);
    site.end()
}

#[test]
fn ovsdb_server_alone_restarted_changes_nothing() -> anyhow::Result<()> {
    let site = Site::new(2)?;
    let before = site.ports()?;
    // While it is away ovs-vswitchd decides on no new flow, whoever asks: nothing to be seen but that it comes back.
    site.lab.kill("node1", "ovsdb-server")?;
    site.lab.start("node1", "ovsdb-server")?;
    site.whole()?;
    ensure!(site.ports()? == before, "before\n{before}\nnow\n{}", site.ports()?);
    let node = site.lab.netns("node/node1")?;
    ensure!(metric(&node, "sdn_connections_total{peer=\"openflow\"}")? == 1.0, "the switch was bothered");
    site.end()
}

#[test]
fn nothing_is_confirmed_while_the_switch_is_away() -> anyhow::Result<()> {
    let site = Site::new(1)?;
    let (agent, pod) = (socket(&site.lab)?, &site.pods[0]);
    site.lab.kill("node1", "ovs-vswitchd")?;
    let (code, text) = error_of(&pod.call("ADD", &agent, |_| {})?)?;
    ensure!(code == 11 && text.contains("flows"), "ADD: {code} {text}");
    let (code, text) = error_of(&pod.call("CHECK", &agent, |_| {})?)?;
    ensure!(code == 11 && text.contains("no OpenFlow connection to br0"), "CHECK: {code} {text}");
    site.lab.start("node1", "ovs-vswitchd")?;
    pod.succeed("ADD", &agent)?;
    site.whole()?;
    site.end()
}

/// The runtime gets rid of a pod, the address stays taken as long as flows may lead to it.
#[test]
fn an_address_waits_for_its_flows() -> anyhow::Result<()> {
    let site = Site::new(1)?;
    let (agent, pod) = (socket(&site.lab)?, &site.pods[0]);
    site.lab.kill("node1", "ovs-vswitchd")?;
    let (code, text) = error_of(&pod.call("DEL", &agent, |_| {})?)?;
    ensure!(code == 11 && text.contains("flows"), "DEL: {code} {text}");
    pod.succeed("DEL", &agent)?;
    ensure!(leases(&site.lab)?.len() == 1, "its address was free before the switch was asked");
    site.lab.start("node1", "ovs-vswitchd")?;
    // Well below the 30 seconds after which it would be looked at anyway.
    until(Duration::from_secs(20), || nothing_is_left(&site.lab))
}

/// What may have been sent to the switch is waited for, what was not is not.
#[test]
fn a_failed_add_keeps_its_address_only_as_long_as_its_flows_may_be_there() -> anyhow::Result<()> {
    let lab = Lab::up(&["--nodes", "1"])?;
    let (agent, pod) = (socket(&lab)?, Sandbox::new(&lab, 0)?);
    let failed = || {
        let (code, text) = error_of(&pod.call("ADD", &agent, |_| {})?)?;
        ensure!(code == 11, "ADD: {code} {text}");
        Ok(())
    };
    lab.kill("node1", "ovs-vswitchd")?;
    failed()?;
    ensure!(leases(&lab)?.is_empty(), "it waits for a switch that was sent nothing: {:?}", leases(&lab)?);
    lab.start("node1", "ovs-vswitchd")?;
    until(Duration::from_secs(20), || nothing_is_left(&lab))?;

    let stands_still = Paused::new(daemon(&lab.status()?, "node1", "ovs-vswitchd")?)?;
    failed()?;
    drop(stands_still);
    // As above.
    until(Duration::from_secs(20), || nothing_is_left(&lab))
}

/// The same sandbox comes and goes while the switch is slow, in every second round after somebody has removed its port: each
/// time it gets a port of its own and not what the switch has left of the one before.
#[test]
fn a_switch_that_stands_still_now_and_then_cuts_nobody_off() -> anyhow::Result<()> {
    const ROUNDS: u64 = 100;
    let site = Site::new(2)?;
    let agent = socket(&site.lab)?;
    let [other, pod] = [&site.pods[0], &site.pods[1]];
    let veth = host_veth_name(&pod.container_id, "eth0");
    let switch = daemon(&site.lab.status()?, "node1", "ovs-vswitchd")?;
    let (ended, slow) = mpsc::channel();
    thread::scope(|scope| {
        let paused = scope.spawn(move || -> anyhow::Result<()> {
            // Until the other end is dropped, however that comes.
            for pause in (0..).map(|n| n * 17 % 50) {
                let stands_still = Paused::new(switch)?;
                thread::sleep(Duration::from_millis(pause));
                drop(stands_still);
                if slow.recv_timeout(Duration::from_millis(10)) == Err(RecvTimeoutError::Disconnected) {
                    break;
                }
            }
            Ok(())
        });
        let ended: mpsc::Sender<()> = ended;
        for round in 0..ROUNDS {
            if round % 2 == 1 {
                site.vsctl(&format!("--no-wait del-port br0 {veth}"))?;
            }
            pod.succeed("DEL", &agent)?;
            pod.succeed("ADD", &agent)?;
            other.reaches(pod).with_context(|| format!("round {round}"))?;
        }
        drop(ended);
        paused.join().map_err(|_| anyhow!("the switch was not made slow"))?
    })?;
    site.whole()?;
    site.end()
}

#[test]
fn wrong_options_are_put_right_in_place_and_foreign_bridges_left_alone() -> anyhow::Result<()> {
    let site = Site::new(2)?;
    site.vsctl("add-br br-other -- set bridge br-other datapath_type=netdev fail_mode=standalone")?;
    let uuid = |site: &Site| site.vsctl("get Bridge br0 _uuid");
    let (before, other) = (uuid(&site)?, site.vsctl("list Bridge br-other")?);
    for (wrong, column, right) in [
        ("set Bridge br0 fail_mode=standalone", "Bridge br0 fail_mode", "secure"),
        ("set Bridge br0 protocols=OpenFlow13,OpenFlow15", "Bridge br0 protocols", "[OpenFlow13]"),
        ("set Interface vxlan0 options:dst_port=4790", "Interface vxlan0 options:dst_port", "\"4789\""),
        ("set Interface vxlan0 options:remote_ip=192.0.2.1", "Interface vxlan0 options:remote_ip", "flow"),
        ("set Interface tun0 mtu_request=1000", "Interface tun0 mtu_request", "1450"),
    ] {
        site.vsctl(wrong)?;
        until(SOON, || {
            let now = site.vsctl(&format!("get {column}"))?;
            ensure!(now.trim() == right, "{wrong}: {now}");
            Ok(())
        })?;
    }
    site.whole()?;
    ensure!(uuid(&site)? == before, "br0 was made anew");
    ensure!(site.vsctl("list Bridge br-other")? == other, "the foreign bridge was changed");
    site.vsctl("del-br br-other")?;
    site.end()
}

/// A runtime that repeats an ADD while the port is lost: what the pod has is its own, and it gets its port by that.
#[test]
fn an_add_of_a_pod_whose_port_is_lost_gives_it_back() -> anyhow::Result<()> {
    let site = Site::new(2)?;
    let agent = socket(&site.lab)?;
    let before = leases(&site.lab)?;
    let pod = site.pods.first().context("no pod")?;
    let address = pod.address()?;
    for lose_lease in [false, true] {
        // The agent would find out by itself: it is held up while the port goes, and the request waits for it.
        let paused = Paused::new(daemon(&site.lab.status()?, "node1", "sdn-node")?)?;
        site.vsctl("del-br br0")?;
        if lose_lease {
            std::fs::remove_file(site.lab.ovs_dir("node1")?.join("../leases/openshift-sdn").join(&address))?;
        }
        drop(paused);
        until(SOON, || pod.succeed("ADD", &agent).map(|_| ()))?;
        ensure!(pod.address()? == address, "another address");
        site.whole()?;
        let after = leases(&site.lab)?;
        ensure!(
            after.len() == before.len() && after.contains(&address),
            "leases were {before:?}, are {after:?}"
        );
    }
    site.end()
}

/// What a pod that runs has is nobody else's, even for a moment: its address while the leases are lost, its port number
/// when another pod asks for the same one.
#[test]
fn what_a_running_pod_has_is_not_given_to_another() -> anyhow::Result<()> {
    let mut site = Site::new(2)?;
    let agent = socket(&site.lab)?;
    let pod = site.pods.first().context("no pod")?;
    let address = pod.address()?;
    let numbers = |name: &str| -> anyhow::Result<(String, String)> {
        let list = format!(
            "--format=csv --no-headings --columns=ofport,ofport_request find Interface external_ids:name={name}"
        );
        let line = site.vsctl(&list)?;
        let mut fields = line.trim().split(',').map(str::to_owned);
        let mut next = || fields.next().context(line.clone());
        Ok((next()?, next()?))
    };
    let (number, _) = numbers(&pod.name)?;
    std::fs::remove_dir_all(site.lab.ovs_dir("node1")?.join("../leases/openshift-sdn"))?;
    // It reads the directory anew.
    let (code, text) = error_of(&pod.call("CHECK", &agent, |_| {})?)?;
    ensure!(code == 101 && text.contains("is not leased to it"), "{code}: {text}");

    let other = Sandbox::new(&site.lab, 2)?;
    write_pod(&site.lab, &other.name, &format!("  annotations:\n    osdn.io/ofport: \"{number}\"\n"), "")?;
    let wants_it =
        format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={};IP={address}", other.name);
    let (code, text) = error_of(&other.call("ADD", &agent, |add| {
        add.env("CNI_ARGS", &wants_it);
    })?)?;
    ensure!(code == 100 && text.contains("is in use by interface eth0"), "{code}: {text}");
    other.succeed("ADD", &agent)?;
    ensure!(other.address()? != address, "two pods have {address}");
    let (given, asked) = numbers(&other.name)?;
    ensure!(given != number && asked == given, "number {given}, asked for {asked}, {number} is another's");
    site.pods.push(other);
    // The lost leases are written again within the half minute, and at a start.
    site.lab.kill("node1", "sdn-node")?;
    site.lab.start("node1", "sdn-node")?;
    site.whole()?;
    site.end()
}

/// An administrator changes the ClusterNetwork while pods run: tunnels and `tun0` follow, and so do pods that come later. Of those that
/// run nothing is touched, as in the replaced system; their MTU is set when they are made.
#[test]
fn vxlan_port_and_mtu_changed_while_pods_run() -> anyhow::Result<()> {
    let site = Site::new(2)?;
    let node = site.lab.netns("node/node1")?;
    let inside = |words: &str| -> anyhow::Result<String> {
        let words: Vec<&str> = words.split(' ').collect();
        run(&mut site.lab.inside("node/node1", &words))
    };
    let flows = || {
        site.lab.ovs("node1", &["ovs-ofctl", "-O", "OpenFlow13", "--no-stats", "--sort", "dump-flows", "br0"])
    };
    let vxlan0 = || site.vsctl("get Interface vxlan0 _uuid ofport");
    let changes = || -> anyhow::Result<[f64; 3]> {
        let of = |change| metric(&node, &format!("sdn_flow_changes_total{{change=\"{change}\"}}"));
        Ok([of("added")?, of("removed")?, of("changed")?])
    };
    let (flows_before, ports, vxlan_before, changed) = (flows()?, site.ports()?, vxlan0()?, changes()?);

    let cluster = site.lab.cluster_dir("node1")?;
    let patch = r#"{"mtu": 1400, "vxlanPort": 4790}"#;
    let mut sdnctl = std::process::Command::new(tests::binary("sdnctl")?);
    run(sdnctl.args(["patch", "clusternetwork", "default", "--patch", patch, "--cluster"]).arg(cluster))?;
    until(SOON, || {
        for (column, right) in
            [("vxlan0 options:dst_port", "\"4790\""), ("tun0 mtu_request", "1400"), ("tun0 mtu", "1400")]
        {
            let now = site.vsctl(&format!("get Interface {column}"))?;
            ensure!(now.trim() == right, "{column}: {now}");
        }
        let rules = inside("nft list table ip openshift-sdn")?;
        ensure!(rules.contains("udp dport 4790 accept") && !rules.contains("4789"), "{rules}");
        let routes = inside("ip route show dev tun0")?;
        ensure!(!routes.contains("mtu 1450"), "{routes}");
        Ok(())
    })?;
    site.whole()?;
    // Pods must not send VXLAN themselves: the one flow that names the port is another one now.
    let expected = flows_before.replace("udp,tp_dst=4789 actions=drop", "udp,tp_dst=4790 actions=drop");
    ensure!(expected != flows_before, "{flows_before}");
    ensure!(flows()? == expected, "{expected}\n{}", flows()?);
    let [added, removed, same] = changed;
    // Counted after the switch has them.
    until(SOON, || {
        let now = changes()?;
        ensure!(now == [added + 1.0, removed + 1.0, same], "{changed:?} {now:?}");
        Ok(())
    })?;
    ensure!(site.ports()? == ports, "ports were made anew");
    ensure!(vxlan0()? == vxlan_before, "vxlan0 was made anew");
    let mtu = |pod: &Sandbox| {
        run(std::process::Command::new("ip").args(["-n", pod.netns_name(), "-o", "link", "show", "eth0"]))
    };
    for pod in &site.pods {
        ensure!(mtu(pod)?.contains(" mtu 1450 "), "{}", mtu(pod)?);
    }
    let agent = socket(&site.lab)?;
    let later = Sandbox::new(&site.lab, site.pods.len())?;
    later.succeed("ADD", &agent)?;
    ensure!(mtu(&later)?.contains(" mtu 1400 "), "{}", mtu(&later)?);
    site.pods[0].reaches(&later)?;
    later.succeed("DEL", &agent)?;
    site.end()
}
