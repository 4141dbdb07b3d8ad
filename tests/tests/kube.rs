//! Against a real API server, as the accounts that the manifests give to the components.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop at the first surprise")]

#[path = "kube/allocation.rs"]
mod allocation;
#[path = "kube/crds.rs"]
mod crds;

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
    let tests: Vec<Test> = [crds::TESTS, allocation::TESTS].concat();
    // Made by the first test that runs, so that listing them starts nothing.
    let plane: Arc<OnceLock<Result<ControlPlane, String>>> = Arc::default();
    let trials = tests.into_iter().map(|(name, test)| {
        let plane = plane.clone();
        Trial::test(name, move || {
            let plane = plane.get_or_init(|| crds::installed().map_err(|error| format!("{error:#}")));
            let plane = plane.as_ref().map_err(|error| Failed::from(error.clone()))?;
            test(plane).map_err(|error| Failed::from(format!("{error:#}")))
        })
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    // The threads of the tests are gone: the last owner ends the control plane.
    drop(plane);
    conclusion.exit_code()
}
