//! Puts version and git hash into the environment of the compiler, for `--version`.

use std::env;
use std::process::Command;

fn main() {
    let version = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
        (output.status.success() && !text.is_empty()).then_some(text)
    };
    // A source archive has no git; its packager may name the commit.
    println!("cargo::rerun-if-env-changed=OSDN_COMMIT");
    let commit = env::var("OSDN_COMMIT").ok().or_else(|| git(&["rev-parse", "--short=12", "HEAD"]));
    println!("cargo::rustc-env=OSDN_VERSION={version} ({})", commit.as_deref().unwrap_or("unknown commit"));

    // Relative relocations in a few kilobytes instead of a megabyte, which the loader would have to read through, and
    // keep in memory, at each start. glibc has known them since 2.36.
    if env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|libc| libc == "gnu") {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }

    println!("cargo::rerun-if-changed=build.rs");
    // The hash of a build for release is always right; a developer's build need not be repeated for each commit.
    if env::var("PROFILE").is_ok_and(|profile| profile == "release")
        && let Some(log) = git(&["rev-parse", "--path-format=absolute", "--git-path", "logs/HEAD"])
    {
        println!("cargo::rerun-if-changed={log}");
    }
}
