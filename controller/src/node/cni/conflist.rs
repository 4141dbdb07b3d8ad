//! The network configuration that tells the container runtime of this plugin.
//!
//! It is written when pods are served for the first time, whole or not at all, and stays when the agent stops: pods can
//! not be made without the agent anyway, and the runtime then says why and tries again. `sdn-node --remove-cni-config`
//! takes it away, for an uninstallation.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cni_shim::cni::CniVersion;
use cni_shim::contract::DEFAULT_SOCKET;
use serde_json::{Value, json};
use tracing::{info, warn};

/// The file's name. Runtimes take the first in alphabetical order.
pub const FILE: &str = "10-openshift-sdn.conflist";

/// What the replaced system wrote: its plugin is not there any more.
const REPLACED: &str = "80-openshift-network.conf";

/// The version for runtimes that don't know the list of versions.
const COMMON: CniVersion = CniVersion::V1_0_0;

/// The file could not be written.
#[derive(Debug, thiserror::Error)]
#[error("could not {step} {}: {source}", path.display())]
pub struct ConflistError {
    step: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// Writes the configuration, if it is not there as it shall be.
///
/// `portmap` is chained for pods' `hostPort`s if the directory of plugins has it. Plugins of a chain are called with one
/// version, so the versions are those that both know.
///
/// # Errors
/// [`ConflistError`]; the old file, if there is one, is whole then.
pub fn write(directory: &Path, plugins: &Path, socket: &Path) -> Result<(), ConflistError> {
    let portmap = versions_of(&plugins.join("portmap"));
    if portmap.is_none() {
        warn!(
            "there is no portmap plugin in {}: hostPorts of pods will not work; it comes with containernetworking-plugins",
            plugins.display()
        );
    }
    let text = format!("{:#}\n", render(socket, portmap.as_ref()));
    let path = directory.join(FILE);
    if fs::read(&path).is_ok_and(|found| found == text.as_bytes()) {
        return Ok(());
    }
    let failed = |step, path: &Path| {
        let path = path.to_owned();
        move |source| ConflistError { step, path, source }
    };
    fs::create_dir_all(directory).map_err(failed("create", directory))?;
    // Not a name that a runtime would read.
    let temporary = directory.join(format!(".{FILE}.tmp"));
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    written.map_err(failed("write", &temporary))?;
    fs::rename(&temporary, &path).map_err(failed("rename to", &path))?;
    if fs::remove_file(directory.join(REPLACED)).is_ok() {
        info!("removed {REPLACED}, the configuration of the replaced system");
    }
    info!("wrote {}", path.display());
    Ok(())
}

/// Removes the configuration. No file is no error.
///
/// # Errors
/// [`ConflistError`].
pub fn remove(directory: &Path) -> Result<(), ConflistError> {
    let path = directory.join(FILE);
    match fs::remove_file(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(ConflistError { step: "remove", path, source })
        }
        _ => Ok(()),
    }
}

fn render(socket: &Path, portmap: Option<&BTreeSet<CniVersion>>) -> Value {
    let mut own = json!({ "type": "openshift-sdn" });
    if socket != Path::new(DEFAULT_SOCKET)
        && let Some(own) = own.as_object_mut()
    {
        own.insert("socket".to_owned(), json!(socket));
    }
    let mut plugins = vec![own];
    if portmap.is_some() {
        plugins.push(json!({ "type": "portmap", "capabilities": { "portMappings": true } }));
    }
    let common = |version: &CniVersion| portmap.is_none_or(|versions| versions.contains(version));
    let versions: Vec<&str> = CniVersion::ALL
        .into_iter()
        .filter(|version| *version >= CniVersion::V0_4_0)
        .filter(common)
        .map(CniVersion::as_str)
        .collect();
    json!({
        "cniVersion": COMMON.as_str(),
        "cniVersions": versions,
        "name": "openshift-sdn",
        "plugins": plugins,
    })
}

/// The versions of the specification that a plugin says it knows; none if it is not there or does not answer.
fn versions_of(plugin: &Path) -> Option<BTreeSet<CniVersion>> {
    let mut child = Command::new(plugin)
        .env_clear()
        .env("CNI_COMMAND", "VERSION")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    // One that ends without reading has its reasons, which its answer tells.
    let _ = child.stdin.take()?.write_all(format!("{{\"cniVersion\":\"{}\"}}", COMMON.as_str()).as_bytes());
    let output = child.wait_with_output().ok()?;
    let answer: Value = serde_json::from_slice(&output.stdout).ok()?;
    let versions = answer.get("supportedVersions")?.as_array()?;
    Some(versions.iter().filter_map(|version| CniVersion::parse(version.as_str()?)).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn portmap(directory: &Path, says: &str) {
        let path = directory.join("portmap");
        fs::write(&path, format!("#!/bin/sh\ncat >/dev/null\necho '{says}'\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn written(directory: &Path) -> Value {
        serde_json::from_slice(&fs::read(directory.join(FILE)).unwrap()).unwrap()
    }

    #[test]
    fn chained_with_the_versions_that_both_know() {
        let (conf, bin) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        portmap(bin.path(), r#"{"cniVersion":"1.0.0","supportedVersions":["0.2.0","0.4.0","1.0.0"]}"#);
        fs::write(conf.path().join(REPLACED), "{}").unwrap();
        write(conf.path(), bin.path(), Path::new(DEFAULT_SOCKET)).unwrap();
        let expected = json!({
            "cniVersion": "1.0.0",
            "cniVersions": ["0.4.0", "1.0.0"],
            "name": "openshift-sdn",
            "plugins": [
                {"type": "openshift-sdn"},
                {"type": "portmap", "capabilities": {"portMappings": true}},
            ],
        });
        assert_eq!(written(conf.path()), expected);
        let file = conf.path().join(FILE);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let names: Vec<_> =
            fs::read_dir(conf.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, [FILE], "the replaced configuration, or a temporary file, is left");
        // Nothing to change: the file is not touched.
        let before = fs::metadata(&file).unwrap().modified().unwrap();
        write(conf.path(), bin.path(), Path::new(DEFAULT_SOCKET)).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().modified().unwrap(), before);
        remove(conf.path()).unwrap();
        remove(conf.path()).unwrap();
        assert!(!file.exists());
    }

    #[test]
    fn alone_where_there_is_no_portmap_that_answers() {
        let (conf, bin) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for broken in [None, Some("no"), Some("{}")] {
            if let Some(says) = broken {
                portmap(bin.path(), says);
            }
            write(conf.path(), bin.path(), Path::new("/run/other")).unwrap();
            let found = written(conf.path());
            assert_eq!(found["plugins"], json!([{"type": "openshift-sdn", "socket": "/run/other"}]));
            assert_eq!(found["cniVersions"], json!(["0.4.0", "1.0.0", "1.1.0"]));
        }
    }
}
