//! Random operations, with programs killed and files damaged in between; then everything must agree.
//!
//! `OSDN_OPERATIONS` says how many (`make soak`: 2000), `OSDN_SEED` which ones: the seed of a run is printed.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use tests::cni::{Sandbox, error_of, leases, nothing_is_left, socket};
use tests::random::Random;
use tests::{Lab, until};

/// Sandboxes that are or may be attached.
const SANDBOXES: usize = 16;
const SETTLED: Duration = Duration::from_secs(60);
/// The first reaches all and is reached by all, the others only their own pods.
const NAMESPACES: [&str; 3] = ["default", "red", "blue"];

struct Soak {
    lab: Lab,
    pods: Vec<Sandbox>,
    attached: Vec<bool>,
    /// Programs that were killed and are to be started again.
    down: Vec<&'static str>,
    /// A lease was damaged and may not be repaired yet. A pod that loses its port as well has lost both places that
    /// say who it is, and is for the runtime to make anew.
    damaged: bool,
    /// The database has forgotten what was written last, and that may not be repaired yet.
    forgetful: bool,
}

fn below(random: &mut Random, end: usize) -> usize {
    usize::try_from(random.below(end as u64)).unwrap_or_default()
}

impl Soak {
    fn up(&mut self) -> anyhow::Result<()> {
        self.start_what_is_down()?;
        self.down.clear();
        Ok(())
    }

    fn start_what_is_down(&self) -> anyhow::Result<()> {
        // In the order in which they need each other.
        let programs = ["ovsdb-server", "ovs-vswitchd", "sdn-node"];
        programs
            .iter()
            .filter(|program| self.down.contains(program))
            .try_for_each(|program| self.lab.start("node1", program))
    }

    fn kill(&mut self, program: &'static str) -> anyhow::Result<()> {
        if !self.down.contains(&program) {
            self.lab.kill("node1", program)?;
            self.down.push(program);
        }
        Ok(())
    }

    /// Calls until it succeeds, as a runtime does. What was killed is started again within two seconds meanwhile, as
    /// systemd and the kubelet do.
    fn call(&mut self, verb: &str, n: usize, random: &mut Random) -> anyhow::Result<()> {
        let agent = socket(&self.lab)?;
        let pod = self.pods.get(n).context("no such pod")?;
        let whole = self.down.is_empty();
        let (first, started) = std::thread::scope(|scope| {
            let first = scope.spawn(|| pod.call(verb, &agent, |_| {}));
            let started = if self.down.is_empty() {
                Ok(())
            } else {
                std::thread::sleep(Duration::from_millis(random.below(2000)));
                self.start_what_is_down()
            };
            (first.join(), started)
        });
        started?;
        self.down.clear();
        let first = first.map_err(|_| anyhow::anyhow!("the plugin's thread panicked"))??;
        if first.status.success() {
            return Ok(());
        }
        let (code, text) = error_of(&first)?;
        ensure!(!whole || code == 11, "nothing is down, and {verb} says {code}: {text}");
        until(SETTLED, || pod.succeed(verb, &agent).map(|_| ()))
    }

    fn one(&mut self, random: &mut Random) -> anyhow::Result<String> {
        let n = below(random, SANDBOXES);
        Ok(match random.below(22) {
            0..=6 => {
                self.call("ADD", n, random)?;
                self.attached[n] = true;
                format!("ADD {n}, attached or not before")
            }
            7..=11 => {
                self.call("DEL", n, random)?;
                self.attached[n] = false;
                format!("DEL {n}, attached or not before")
            }
            12 => {
                self.up()?;
                let valid: Value = (self.pods.iter().zip(&self.attached))
                    .filter(|(_, attached)| **attached)
                    .map(|(pod, _)| json!({"containerID": pod.container_id, "ifname": "eth0"}))
                    .collect();
                let config = json!({"cniVersion": "1.1.0", "socket": socket(&self.lab)?, "cni.dev/valid-attachments": valid});
                until(SETTLED, || {
                    let gc = self.pods[0].call_with("GC", &config, |_| {})?;
                    ensure!(gc.status.success(), "{}", tests::both(&gc));
                    Ok(())
                })?;
                "GC".to_owned()
            }
            13 => {
                self.kill("sdn-node")?;
                "sdn-node killed".to_owned()
            }
            14 => {
                self.kill("ovs-vswitchd")?;
                "ovs-vswitchd killed".to_owned()
            }
            15 => {
                self.kill("ovsdb-server")?;
                "ovsdb-server killed".to_owned()
            }
            16 => {
                self.up()?;
                "everything started".to_owned()
            }
            17 => {
                let directory = self.lab.ovs_dir("node1")?.join("../leases/openshift-sdn");
                let leases = leases(&self.lab)?;
                if let Some(lease) = leases.get(below(random, leases.len())).filter(|_| !self.forgetful) {
                    std::fs::write(directory.join(lease), "\u{0}\u{1}not a lease")?;
                    self.damaged = true;
                }
                "a lease file damaged".to_owned()
            }
            // Without its database ovs-vswitchd reads no OpenFlow message, and ovs-ofctl waits for ever.
            18 if !self.down.contains(&"ovs-vswitchd") && !self.down.contains(&"ovsdb-server") => {
                let table = format!("table={}", random.pick(&[20, 70, 80, 90]));
                let delete = ["ovs-ofctl", "--timeout=30", "-O", "OpenFlow13", "del-flows", "br0", &table];
                // The bridge comes a moment after its programs.
                until(SETTLED, || self.lab.ovs("node1", &delete))?;
                format!("flows of {table} deleted")
            }
            19 if self.down.is_empty() && !self.damaged => {
                self.lab.ovs("node1", &["ovs-vsctl", "--if-exists", "del-br", "br0"])?;
                self.forgetful = true;
                "br0 deleted".to_owned()
            }
            20 if !self.damaged => {
                self.kill("ovsdb-server")?;
                self.forgetful = true;
                self.truncate_database(random)?
            }
            _ => "nothing".to_owned(),
        })
    }

    /// Cuts conf.db off anywhere. What comes before the cut is the state of some time ago: ports of pods that are gone,
    /// none of pods that came since, old addresses.
    fn truncate_database(&self, random: &mut Random) -> anyhow::Result<String> {
        let path = self.lab.ovs_dir("node1")?.join("conf.db");
        let file = std::fs::File::options().write(true).open(&path)?;
        let whole = file.metadata()?.len();
        let left = random.below(whole);
        file.set_len(left)?;
        let name = Command::new("ovsdb-tool").arg("db-name").arg(&path).output()?;
        let readable = name.status.success();
        if !readable {
            // Not even the schema is left, and the server would not start.
            self.lab.new_database("node1")?;
        }
        Ok(format!("conf.db cut off after {left} of {whole} bytes, made anew: {}", !readable))
    }

    fn living(&self) -> Vec<&Sandbox> {
        self.pods.iter().zip(&self.attached).filter(|(_, attached)| **attached).map(|(pod, _)| pod).collect()
    }

    /// Leases, ports, flows and living pods agree, and every pod reaches another.
    fn agrees(&mut self) -> anyhow::Result<()> {
        self.up()?;
        let agent = socket(&self.lab)?;
        let living = self.living();
        until(SETTLED, || {
            for pod in &living {
                pod.succeed("CHECK", &agent)?;
            }
            self.lab.ask(&["diff"])?;
            let leases = leases(&self.lab)?;
            ensure!(leases.len() == living.len(), "{} pods, leases {leases:?}", living.len());
            let ports =
                self.lab.ovs("node1", &["ovs-vsctl", "--columns=external_ids", "list", "Interface"])?;
            let ports = ports.matches("sandbox=").count();
            ensure!(ports == living.len(), "{} pods, {ports} ports", living.len());
            let links = self.lab.inside("node/node1", &["ip", "-brief", "link"]).output()?;
            let veths = tests::both(&links).matches("veth").count();
            ensure!(veths == living.len(), "{} pods, {veths} veths", living.len());
            Ok(())
        })?;
        for pair in living.windows(2) {
            if may_reach(pair[0], pair[1]) {
                pair[0].reaches(pair[1])?;
            }
        }
        self.damaged = false;
        self.forgetful = false;
        Ok(())
    }

    /// Every pod reaches every pod that it may, and no other.
    fn reach(&self) -> anyhow::Result<usize> {
        let living = self.living();
        std::thread::scope(|scope| {
            let from = |pod: &Sandbox| {
                living.iter().filter(|other| other.name != pod.name).try_for_each(|other| {
                    if may_reach(pod, other) { pod.reaches(other) } else { pod.is_isolated_from(other) }
                })
            };
            let threads: Vec<_> = living.iter().map(|pod| scope.spawn(move || from(pod))).collect();
            threads.into_iter().try_for_each(|thread| match thread.join() {
                Ok(reached) => reached,
                Err(_) => bail!("a thread panicked"),
            })
        })?;
        Ok(living.len() * living.len().saturating_sub(1))
    }
}

fn may_reach(one: &Sandbox, other: &Sandbox) -> bool {
    one.namespace == other.namespace || [one, other].iter().any(|pod| pod.namespace == NAMESPACES[0])
}

#[test]
fn random_operations() -> anyhow::Result<()> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let operations = number("OSDN_OPERATIONS").unwrap_or(40);
    let seed = number("OSDN_SEED").unwrap_or(1);
    println!("{operations} operations, OSDN_SEED={seed}");
    let lab = Lab::up(&["--nodes", "1", "--plugin", "multitenant"])?;
    for name in &NAMESPACES[1..] {
        let namespace = format!("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}\n");
        std::fs::write(lab.cluster_dir("node1")?.join(format!("{name}.yaml")), namespace)?;
    }
    let pods = (0..SANDBOXES).zip(NAMESPACES.iter().cycle()).map(|(n, namespace)| {
        let mut pod = Sandbox::new(&lab, n)?;
        (*namespace).clone_into(&mut pod.namespace);
        anyhow::Ok(pod)
    });
    let pods = pods.collect::<anyhow::Result<Vec<_>>>()?;
    let attached = vec![false; SANDBOXES];
    let mut soak = Soak { lab, pods, attached, down: Vec::new(), damaged: false, forgetful: false };
    let start = Instant::now();
    let mut random = Random::new(seed);
    let mut story: Vec<String> = Vec::new();
    for n in 0..operations {
        let step = soak.one(&mut random);
        let checked = match &step {
            Ok(_) if n % 20 == 19 => soak.agrees(),
            _ => Ok(()),
        };
        if n % 100 == 99 {
            println!("{} operations after {:.0?}", n + 1, start.elapsed());
        }
        story.push(format!("{n}: {step:?}"));
        if step.is_err() || checked.is_err() {
            soak.lab.show_logs();
            let last = story.iter().rev().take(25).rev().cloned().collect::<Vec<_>>().join("\n");
            bail!("OSDN_SEED={seed}\n{last}\n{:?}", step.map(|_| ()).and(checked));
        }
    }
    soak.agrees()?;
    println!("every living pod and every other: {} pairs are as they should be", soak.reach()?);
    let agent = socket(&soak.lab)?;
    for pod in &soak.pods {
        pod.succeed("DEL", &agent)?;
    }
    nothing_is_left(&soak.lab)
}
