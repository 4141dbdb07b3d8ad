use std::fs;

use tempfile::TempDir;

use super::*;

/// A directory with these files.
fn dir(files: &[(&str, &str)]) -> TempDir {
    let dir = TempDir::new().unwrap();
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

#[test]
fn reports_every_problem_of_every_file() {
    let bad = dir(&[
        ("a.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: x, annotations: {a: 0}}\n---\na: [\n"),
        (
            "b.yaml",
            "apiVersion: network.openshift.io/v1\nkind: HostSubnet\nmetadata: {name: b}\nhost: a\nhostIP: 1.2.3\nsubnet: 10.128.0.0/23\n",
        ),
    ]);
    let problems: Vec<_> = load(bad.path()).unwrap_err().problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        problems,
        [
            "a.yaml, document 1, line 3: Pod default/x: metadata.annotations.a: invalid type: integer `0`, expected a string: put it in quotes",
            "a.yaml, document 2, line 5: this is no valid YAML: unclosed bracket '[' (column 4)",
            "b.yaml, document 1, line 4: HostSubnet b: host: \"a\" must equal metadata.name: write \"b\"",
            "b.yaml, document 1, line 5: HostSubnet b: hostIP: \"1.2.3\" is no IPv4 address: write one such as 192.168.1.10",
        ]
    );
}
