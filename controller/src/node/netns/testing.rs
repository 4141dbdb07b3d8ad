//! What tests of the node's network need: a namespace for a while, and what other programs say.
#![allow(clippy::unwrap_used)]

use std::process::Command;

use super::{NetNs, run_in};

/// A named namespace that goes away with the test.
#[derive(Debug)]
pub(crate) struct Namespace {
    /// The name that `ip netns` has for it.
    pub(crate) name: String,
    /// The namespace.
    pub(crate) ns: NetNs,
}

impl Namespace {
    /// A new namespace; the name needs to be unique in the test program.
    pub(crate) fn new(test: &str) -> Namespace {
        let name = format!("t-{test}-{}", std::process::id());
        let ns = NetNs::create_named(&name).unwrap();
        Namespace { name, ns }
    }

    /// Runs a function in it.
    pub(crate) fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        run_in(&self.ns, f).unwrap()
    }

    /// Runs a future in it. The runtime's blocking threads inherit the namespace of the thread that starts them.
    pub(crate) fn block_on<F: Future<Output: Send>>(&self, f: impl FnOnce() -> F + Send) -> F::Output {
        self.run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(f())
        })
    }

    /// What a program prints that runs in it; see [`says`].
    pub(crate) fn says(&self, command: &str) -> String {
        self.run(|| says(command))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = NetNs::delete_named(&self.name);
    }
}

/// What a program prints, without white space at the ends of lines. A test that misses the program fails with the way
/// to get it, a test whose program fails with what it said.
pub(crate) fn says(command: &str) -> String {
    let mut words = command.split(' ');
    let output = Command::new(words.next().unwrap()).args(words).output();
    let output = output.unwrap_or_else(|error| panic!("{command}: {error}: run `make deps`"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {error}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}
