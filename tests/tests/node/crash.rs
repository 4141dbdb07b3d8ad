//! The agent killed, or a step made to fail, at every point of ADD and DEL: the next start brings everything together,
//! the runtime's next try succeeds, and nothing is left.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use controller::node::cni::fault::POINTS;
use nix::sys::signal::kill;
use tests::cni::{Sandbox, error_of, nothing_is_left, socket};
use tests::{Lab, run, until};

/// Starts the agent anew, with a fault or without.
fn restart(lab: &Lab, fault: Option<&str>) -> anyhow::Result<()> {
    if let Ok(pid) = tests::daemon(&lab.status()?, "node1", "sdn-node")
        && kill(pid, None).is_ok()
    {
        lab.kill("node1", "sdn-node")?;
    }
    let mut start = lab.sdnctl(&["lab", "start", "node1", "sdn-node"]);
    match fault {
        Some(fault) => start.env("SDN_FAULT", fault),
        None => start.env_remove("SDN_FAULT"),
    };
    run(&mut start).map(|_| ())
}

/// The agent is dead after this.
fn dies(lab: &Lab) -> anyhow::Result<()> {
    until(Duration::from_secs(5), || {
        ensure!(
            tests::daemon(&lab.status()?, "node1", "sdn-node").map_or(true, |pid| kill(pid, None).is_err()),
            "it lives"
        );
        Ok(())
    })
}

#[test]
fn killed_at_every_point() -> anyhow::Result<()> {
    let lab = Lab::up(&["--nodes", "1"])?;
    let agent = socket(&lab)?;
    let other = Sandbox::new(&lab, 100)?;
    other.succeed("ADD", &agent)?;
    for (n, point) in POINTS.into_iter().enumerate() {
        let pod = Sandbox::new(&lab, n)?;
        let verb = if point.starts_with("add") { "ADD" } else { "DEL" };
        if verb == "DEL" {
            restart(&lab, None)?;
            pod.succeed("ADD", &agent)?;
        }
        restart(&lab, Some(&format!("kill:{point}")))?;
        let (code, text) = error_of(&pod.call(verb, &agent, |_| {})?).with_context(|| point)?;
        ensure!(code == 11, "{point}: the runtime would not try again: {code} {text}");
        dies(&lab).context(point)?;
        restart(&lab, None)?;
        lab.ask(&["diff"]).context(point)?;
        if verb == "ADD" {
            pod.succeed("ADD", &agent).context(point)?;
            pod.succeed("CHECK", &agent).context(point)?;
            other.reaches(&pod).context(point)?;
        }
        pod.succeed("DEL", &agent).context(point)?;
        other.succeed("CHECK", &agent).context(point)?;
    }
    other.succeed("DEL", &agent)?;
    nothing_is_left(&lab)
}

#[test]
fn a_step_that_fails_is_undone_and_named() -> anyhow::Result<()> {
    let lab = Lab::up(&["--nodes", "1"])?;
    let agent = socket(&lab)?;
    for (n, point) in POINTS.into_iter().enumerate() {
        let pod = Sandbox::new(&lab, n)?;
        restart(&lab, None)?;
        if point.starts_with("del") {
            pod.succeed("ADD", &agent)?;
        }
        restart(&lab, Some(&format!("fail:{point}")))?;
        let verb = if point.starts_with("add") { "ADD" } else { "DEL" };
        let (_, text) = error_of(&pod.call(verb, &agent, |_| {})?).with_context(|| point)?;
        ensure!(text.contains(point), "{point}: {text}");
        if verb == "ADD" {
            nothing_is_left(&lab).context(point)?;
        }
        restart(&lab, None)?;
        pod.succeed("DEL", &agent).context(point)?;
        nothing_is_left(&lab).context(point)?;
    }
    Ok(())
}

#[test]
fn adds_that_fail_at_once_leave_no_flows_behind_their_answers() -> anyhow::Result<()> {
    let lab = Lab::up(&["--nodes", "1"])?;
    let agent = socket(&lab)?;
    let pods = (0..8).map(|n| Sandbox::new(&lab, n)).collect::<anyhow::Result<Vec<_>>>()?;
    restart(&lab, Some("fail:add:port"))?;
    for round in 0..10 {
        // While the flows of one are on their way to the switch another fails.
        std::thread::scope(|scope| {
            let failing = |pod: &Sandbox| {
                let (_, text) = error_of(&pod.call("ADD", &agent, |_| {})?)?;
                ensure!(text.contains("add:port"), "{text}");
                Ok(())
            };
            let calls: Vec<_> = pods.iter().map(|pod| scope.spawn(move || failing(pod))).collect();
            calls.into_iter().try_for_each(|call| call.join().unwrap_or_else(|_| bail!("it panicked")))
        })?;
        nothing_is_left(&lab).with_context(|| format!("round {round}"))?;
    }
    Ok(())
}
