//! The `Containerfile`, as far as it can be checked without a container runtime: what it copies exists and is built, and what
//! the programs in the image load and run is installed there. This machine's Debian packages stand for the image's.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop at the first surprise")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::Value;
use tests::{binary, checkout, run};

/// Programs that run in the image beside our own, and where it says so: in a manifest or in the code of the agent.
const RUN_THERE: &[(&str, &str)] = &[
    ("sh", "manifests/base/sdn.yaml"),
    ("cp", "manifests/base/sdn.yaml"),
    ("mv", "manifests/base/sdn.yaml"),
    ("sh", "manifests/base/ovs.yaml"),
    ("sleep", "manifests/base/ovs.yaml"),
    ("ovsdb-tool", "manifests/base/ovs.yaml"),
    ("ovsdb-server", "manifests/base/ovs.yaml"),
    ("ovs-vsctl", "manifests/base/ovs.yaml"),
    ("ovs-vswitchd", "manifests/base/ovs.yaml"),
    ("modprobe", "manifests/base/ovs.yaml"),
    ("nft", "controller/src/node/host/firewall.rs"),
];

/// The instructions of the `Containerfile`: name and arguments, with lines joined and comments left out.
fn instructions() -> anyhow::Result<Vec<(String, Vec<String>)>> {
    let text = std::fs::read_to_string(checkout().join("Containerfile"))?;
    let lines: Vec<_> = text.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
    let text = lines.join("\n").replace("\\\n", " ");
    let parse = |line: &str| {
        let mut words = line.split_whitespace().map(str::to_owned);
        Some((words.next()?, words.collect()))
    };
    Ok(text.lines().filter_map(parse).collect())
}

/// The binaries of our packages.
fn binaries(packages: &BTreeSet<String>) -> anyhow::Result<BTreeSet<String>> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["metadata", "--no-deps", "--format-version=1", "--offline"]).current_dir(checkout());
    let metadata: Value = serde_json::from_str(&run(&mut cargo)?)?;
    let mut binaries = BTreeSet::new();
    for package in metadata["packages"].as_array().context("no packages")? {
        if package["name"].as_str().is_some_and(|name| packages.contains(name)) {
            for target in package["targets"].as_array().into_iter().flatten() {
                if target["kind"][0] == "bin" {
                    binaries.insert(target["name"].as_str().unwrap_or_default().to_owned());
                }
            }
        }
    }
    Ok(binaries)
}

#[test]
fn what_is_copied_exists_and_is_built() -> anyhow::Result<()> {
    let instructions = instructions()?;
    let mut built = BTreeSet::new();
    let mut copied = BTreeSet::new();
    for (name, words) in &instructions {
        if name == "RUN" && words.iter().any(|word| word == "cargo") {
            let packages =
                words.windows(2).filter(|pair| pair[0] == "-p").map(|pair| pair[1].clone()).collect();
            built.extend(binaries(&packages)?);
        }
        if name != "COPY" {
            continue;
        }
        let paths: Vec<_> = words.iter().filter(|word| !word.starts_with("--")).collect();
        let (_, sources) = paths.split_last().context("COPY of nothing")?;
        let from_a_stage = words.iter().any(|word| word.starts_with("--from="));
        for source in sources {
            if !from_a_stage {
                ensure!(checkout().join(source).exists(), "{source} is not in the checkout");
                continue;
            }
            let path = Path::new(source);
            let program = path.file_name().and_then(|name| name.to_str()).context("no file")?;
            ensure!(path.starts_with("/src/target"), "{source}");
            ensure!(built.contains(program), "no package that is built makes {program}: {built:?}");
            copied.insert(program.to_owned());
        }
    }
    ensure!(copied.iter().eq(["openshift-sdn", "sdn-controller", "sdn-node", "sdnctl"]), "{copied:?}");
    Ok(())
}

/// Packages that `apt-get install` of the `Containerfile` names.
fn installed_by_name() -> anyhow::Result<BTreeSet<String>> {
    let mut packages = BTreeSet::new();
    for (_, words) in instructions()?.iter().filter(|(name, _)| name == "RUN") {
        if let Some(at) = words.iter().position(|word| word == "install") {
            let after = words[at + 1..].iter().take_while(|word| *word != "&&");
            packages.extend(after.filter(|word| !word.starts_with('-')).cloned());
        }
    }
    ensure!(packages.len() > 3, "{packages:?}");
    Ok(packages)
}

/// These packages, those that are in every Debian, and all that they depend on.
fn with_what_they_need(packages: BTreeSet<String>) -> anyhow::Result<BTreeSet<String>> {
    const FORMAT: &str = "${Package}\t${Essential}\t${Depends}, ${Pre-Depends}\t${Provides}\n";
    let database = run(Command::new("dpkg-query").args(["--show", "--showformat", FORMAT]))?;
    let rows: Vec<Vec<&str>> = database.lines().map(|line| line.split('\t').collect()).collect();
    let essential = rows.iter().filter(|row| row[1] == "yes").map(|row| row[0].to_owned());
    let mut missing: Vec<String> = packages.into_iter().chain(essential).collect();
    let mut all = BTreeSet::new();
    while let Some(package) = missing.pop() {
        for row in rows.iter().filter(|row| row[0] == package && !all.contains(row[0])) {
            let names = row[2].split([',', '|']).filter_map(|name| name.split_whitespace().next());
            missing.extend(names.map(|name| name.split(':').next().unwrap_or(name).to_owned()));
        }
        all.insert(package);
    }
    Ok(all)
}

/// The package that a file of this machine belongs to.
fn package_of(file: &Path) -> anyhow::Result<String> {
    let real = file.canonicalize()?;
    // Where /bin is a link to /usr/bin the database may know a file by either name.
    let names: Vec<PathBuf> = [file.to_owned(), real]
        .into_iter()
        .flat_map(|path| {
            let short = path.strip_prefix("/usr").ok().map(|rest| Path::new("/").join(rest));
            [Some(path), short].into_iter().flatten()
        })
        .collect();
    for name in &names {
        if let Ok(answer) = run(Command::new("dpkg-query").arg("--search").arg(name)) {
            // A line for each package that has it: `PACKAGE[:ARCHITECTURE], ...: PATH`. Some files are diverted from a package.
            let mut owners = answer.lines().filter(|line| !line.starts_with("diversion by "));
            let owner = owners.find_map(|line| line.split([':', ',']).next());
            return Ok(owner.with_context(|| answer.clone())?.to_owned());
        }
    }
    anyhow::bail!("no package has {names:?}")
}

/// A program of this machine.
fn find(program: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    let mut found = places.map(|dir| dir.join(program)).filter(|path| path.is_file());
    found.next().with_context(|| format!("{program} is missing: `make test-deps` installs it"))
}

#[test]
fn what_runs_there_is_installed_there() -> anyhow::Result<()> {
    let packages = with_what_they_need(installed_by_name()?)?;
    for (program, place) in RUN_THERE {
        let text = std::fs::read_to_string(checkout().join(place))?;
        let words = |c: char| !(c.is_ascii_alphanumeric() || c == '-');
        ensure!(text.split(words).any(|word| word == *program), "{place} does not run {program}");
        let package = package_of(&find(program)?)?;
        ensure!(
            packages.contains(&package),
            "{program} is in {package}, which the Containerfile does not install"
        );
    }
    Ok(())
}

#[test]
fn what_our_programs_load_is_installed_there() -> anyhow::Result<()> {
    let packages = with_what_they_need(installed_by_name()?)?;
    for program in ["sdn-node", "sdn-controller", "sdnctl"] {
        let loaded = run(Command::new("ldd").arg(binary(program)?))?;
        let libraries: Vec<_> = loaded.lines().filter_map(|line| line.split("=> ").nth(1)).collect();
        ensure!(!libraries.is_empty(), "{program}: {loaded}");
        for library in libraries {
            let path = library.split_whitespace().next().context("no path")?;
            let package = package_of(Path::new(path))?;
            ensure!(
                packages.contains(&package),
                "{program} loads {path} of {package}, which is not installed"
            );
        }
    }
    Ok(())
}

/// The plugin runs on the node, whose C library may be older than the image's.
#[test]
fn the_plugin_needs_nothing_of_the_node() -> anyhow::Result<()> {
    let instructions = instructions()?;
    let mut copied = instructions.iter().filter(|(name, _)| name == "COPY").flat_map(|(_, words)| words);
    let source = copied.find(|word| word.ends_with("/openshift-sdn")).context("not copied")?;
    let build = instructions.iter().find(|(name, words)| {
        name == "RUN" && words.windows(2).any(|pair| pair[0] == "-p" && pair[1] == "cni-shim")
    });
    let (_, words) = build.context("not built")?;
    let flags = words.join(" ");
    ensure!(flags.contains("target-feature=+crt-static"), "{flags}");
    // With --target, or build scripts and macros would be made with the flag too, which can't be.
    let target =
        words.iter().find_map(|word| word.strip_prefix("--target-dir=")).context("no --target-dir")?;
    ensure!(flags.contains("--target ") && source.starts_with(&format!("/src/{target}")), "{source} {flags}");
    Ok(())
}
