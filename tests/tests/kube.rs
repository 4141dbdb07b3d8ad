//! Against a real API server, as the accounts that the manifests give to the components.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop at the first surprise")]

#[path = "kube/agents.rs"]
mod agents;
#[path = "kube/allocation.rs"]
mod allocation;
#[path = "kube/connection.rs"]
mod connection;
#[path = "kube/egress.rs"]
mod egress;
#[path = "kube/hindrances.rs"]
mod hindrances;
#[path = "kube/install.rs"]
mod install;
#[path = "kube/objects.rs"]
mod objects;
#[path = "kube/permissions.rs"]
mod permissions;
#[path = "kube/projects.rs"]
mod projects;
#[path = "kube/races.rs"]
mod races;
#[path = "kube/scale.rs"]
mod scale;

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use libtest_mimic::{Arguments, Failed, Trial};
use tests::kube::ControlPlane;

/// A test: its name and what it does with the control plane.
type Test = (&'static str, fn(&ControlPlane) -> anyhow::Result<()>);

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // All work on one cluster.
    arguments.test_threads = Some(1);
    let tests: Vec<Test> = [
        install::TESTS,
        objects::TESTS,
        allocation::TESTS,
        hindrances::TESTS,
        projects::TESTS,
        egress::TESTS,
        agents::TESTS,
        connection::TESTS,
        // At the end: all that the others did counts too.
        permissions::TESTS,
        races::TESTS,
        scale::TESTS,
    ]
    .concat();
    // Made by the first test that runs, so that listing them starts nothing.
    let plane: Arc<OnceLock<Result<ControlPlane, String>>> = Arc::default();
    let trials = tests.into_iter().map(|(name, test)| {
        let plane = plane.clone();
        Trial::test(name, move || {
            let plane = plane.get_or_init(|| install::installed().map_err(|error| format!("{error:#}")));
            let plane = plane.as_ref().map_err(|error| Failed::from(error.clone()))?;
            test(plane).map_err(|error| Failed::from(format!("{error:#}")))
        })
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    // The threads of the tests are gone: the last owner ends the control plane.
    drop(plane);
    conclusion.exit_code()
}
