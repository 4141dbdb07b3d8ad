//! The cluster of `manifests/demo` on real Open vSwitch, one plugin after the other: the documented walks, the
//! flows as the switch prints them, packets of every kind, false senders, and what a killed program costs.
//!
//! One lab serves all tests of a plugin, so they run one at a time and each leaves the lab as it found it.

#![allow(clippy::indexing_slicing, reason = "a test may stop at the first surprise")]

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use tests::Lab;

#[path = "cluster/egress_nodes.rs"]
mod egress_nodes;
#[path = "cluster/names.rs"]
mod names;
#[path = "cluster/packets.rs"]
mod packets;
#[path = "cluster/restart.rs"]
mod restart;
#[path = "cluster/spoof.rs"]
mod spoof;
#[path = "cluster/switch.rs"]
mod switch;
#[path = "cluster/walks.rs"]
mod walks;

type Test = fn(&Lab) -> anyhow::Result<()>;
type Tests = Vec<(&'static str, Test)>;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let plugins: [(&str, Tests); 2] = [
        (
            "subnet",
            [walks::tests(), switch::tests(), packets::flat(), spoof::tests(), restart::tests()].concat(),
        ),
        (
            "multitenant",
            [walks::tenants(), names::tests(), egress_nodes::tests(), switch::tests(), packets::tenants()]
                .concat(),
        ),
    ];
    for (plugin, tests) in plugins {
        let lab = if arguments.list { Ok(None) } else { Lab::demo(plugin).map(Some) };
        let lab = match lab {
            Ok(lab) => lab,
            Err(error) => {
                eprintln!("{error:#}");
                return ExitCode::FAILURE;
            }
        };
        if !run(&arguments, plugin, tests, lab) {
            return ExitCode::from(101);
        }
    }
    ExitCode::SUCCESS
}

/// Runs one plugin's tests in its lab, which ends with them. Whether all passed.
fn run(arguments: &Arguments, plugin: &str, tests: Tests, lab: Option<Lab>) -> bool {
    let lab = std::sync::Arc::new(lab);
    let trials = tests
        .into_iter()
        .map(|(name, test)| {
            let lab = std::sync::Arc::clone(&lab);
            Trial::test(format!("{plugin}::{name}"), move || match lab.as_ref() {
                Some(lab) => test(lab).map_err(|error| Failed::from(format!("{error:#}"))),
                None => Err(Failed::from("there is no lab")),
            })
        })
        .collect();
    let conclusion = libtest_mimic::run(arguments, trials);
    if let Some(lab) = lab.as_ref()
        && conclusion.has_failed()
    {
        lab.show_logs();
    }
    !conclusion.has_failed()
}
