//! Random operations, with programs killed and files damaged in between; then everything must agree.
//!
//! `OSDN_OPERATIONS` says how many (`make soak`: 2000), `OSDN_SEED` which ones: the seed of a run is printed.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use tests::cni::{Sandbox, leases, nothing_is_left, socket};
use tests::random::Random;
use tests::{Lab, until};

/// Sandboxes that are or may be attached.
const SANDBOXES: usize = 16;
const SETTLED: Duration = Duration::from_secs(60);

struct Soak {
    lab: Lab,
    pods: Vec<Sandbox>,
    attached: Vec<bool>,
    /// Programs that were killed and are to be started again.
    down: Vec<&'static str>,
    /// A lease was damaged and may not be repaired yet. A pod that loses its port as well has lost both places that
    /// say who it is, and is for the runtime to make anew.
    damaged: bool,
}

fn below(random: &mut Random, end: usize) -> usize {
    usize::try_from(random.below(end as u64)).unwrap_or_default()
}

impl Soak {
    fn up(&mut self) -> anyhow::Result<()> {
        // In the order in which they need each other.
        for program in ["ovsdb-server", "ovs-vswitchd", "sdn-node"] {
            if self.down.contains(&program) {
                self.lab.start("node1", program)?;
            }
        }
        self.down.clear();
        Ok(())
    }

    fn kill(&mut self, program: &'static str) -> anyhow::Result<()> {
        if !self.down.contains(&program) {
            self.lab.kill("node1", program)?;
            self.down.push(program);
        }
        Ok(())
    }

    /// Calls until it succeeds, as a runtime does.
    fn call(&mut self, verb: &str, n: usize) -> anyhow::Result<()> {
        let agent = socket(&self.lab)?;
        let pod = self.pods.get(n).context("no such pod")?;
        if pod.call(verb, &agent, |_| {})?.status.success() {
            return Ok(());
        }
        self.up()?;
        let pod = self.pods.get(n).context("no such pod")?;
        until(SETTLED, || pod.succeed(verb, &agent).map(|_| ()))
    }

    fn one(&mut self, random: &mut Random) -> anyhow::Result<String> {
        let n = below(random, SANDBOXES);
        Ok(match random.below(20) {
            0..=6 => {
                self.call("ADD", n)?;
                self.attached[n] = true;
                format!("ADD {n}, attached or not before")
            }
            7..=11 => {
                self.call("DEL", n)?;
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
                if let Some(lease) = leases.get(below(random, leases.len())) {
                    std::fs::write(directory.join(lease), "\u{0}\u{1}not a lease")?;
                    self.damaged = true;
                }
                "a lease file damaged".to_owned()
            }
            // Without its database ovs-vswitchd reads no OpenFlow message, and ovs-ofctl waits for ever.
            18 if !self.down.contains(&"ovs-vswitchd") && !self.down.contains(&"ovsdb-server") => {
                let table = format!("table={}", random.pick(&[20, 70, 80, 90]));
                let delete = ["ovs-ofctl", "--timeout=30", "-O", "OpenFlow13", "del-flows", "br0", &table];
                self.lab.ovs("node1", &delete)?;
                format!("flows of {table} deleted")
            }
            _ if self.down.is_empty() && !self.damaged => {
                self.lab.ovs("node1", &["ovs-vsctl", "--if-exists", "del-br", "br0"])?;
                "br0 deleted".to_owned()
            }
            _ => "nothing".to_owned(),
        })
    }

    /// Leases, ports, flows and living pods agree, and every pod reaches another.
    fn agrees(&mut self) -> anyhow::Result<()> {
        self.up()?;
        let agent = socket(&self.lab)?;
        let living: Vec<&Sandbox> = self
            .pods
            .iter()
            .zip(&self.attached)
            .filter(|(_, attached)| **attached)
            .map(|(pod, _)| pod)
            .collect();
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
            pair[0].reaches(pair[1])?;
        }
        self.damaged = false;
        Ok(())
    }
}

#[test]
fn random_operations() -> anyhow::Result<()> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let operations = number("OSDN_OPERATIONS").unwrap_or(40);
    let seed = number("OSDN_SEED").unwrap_or(1);
    println!("{operations} operations, OSDN_SEED={seed}");
    let lab = Lab::up(&["--nodes", "1"])?;
    let pods = (0..SANDBOXES).map(|n| Sandbox::new(&lab, n)).collect::<anyhow::Result<Vec<_>>>()?;
    let mut soak = Soak { lab, pods, attached: vec![false; SANDBOXES], down: Vec::new(), damaged: false };
    let mut random = Random::new(seed);
    let mut story: Vec<String> = Vec::new();
    for n in 0..operations {
        let step = soak.one(&mut random);
        let checked = match &step {
            Ok(_) if n % 20 == 19 => soak.agrees(),
            _ => Ok(()),
        };
        story.push(format!("{n}: {step:?}"));
        if step.is_err() || checked.is_err() {
            soak.lab.show_logs();
            let last = story.iter().rev().take(25).rev().cloned().collect::<Vec<_>>().join("\n");
            bail!("OSDN_SEED={seed}\n{last}\n{:?}", step.map(|_| ()).and(checked));
        }
    }
    soak.agrees()?;
    let agent = socket(&soak.lab)?;
    for pod in &soak.pods {
        pod.succeed("DEL", &agent)?;
    }
    nothing_is_left(&soak.lab)
}
