//! A second opinion on the vectors from os-ken, another implementation of OpenFlow 1.3: see `second_opinion.py`.
#![allow(clippy::unwrap_used)] // A test may stop at the first surprise.

use std::path::Path;
use std::process::Command;

#[test]
fn os_ken_reads_the_vectors_as_we_do() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let venv = here.join("../target/os-ken");
    assert!(venv.join("installed").exists(), "os-ken is missing: run `make target/os-ken/installed`");
    let output = Command::new(venv.join("bin/python"))
        .arg(here.join("tests/second_opinion.py"))
        .arg(here.join("tests/vectors"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    println!("{said}");
}
