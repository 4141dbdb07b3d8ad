//! Changes to a directory.

use serde_json::json;

use super::*;
use crate::api::{HostSubnet, NODE_UID_ANNOTATION, ObjectRef};
use crate::cluster::Object;

fn host_subnet(name: &str, host_ip: &str) -> Object {
    let mut object =
        HostSubnet { host: name.to_owned(), host_ip: host_ip.to_owned(), ..HostSubnet::default() };
    object.metadata.name = Some(name.to_owned());
    object.subnet = "10.128.0.0/23".to_owned();
    object.into()
}

fn files(dir: &TempDir) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn read(dir: &TempDir, name: &str) -> String {
    fs::read_to_string(dir.path().join(name)).unwrap()
}

#[test]
fn a_new_object_has_a_file_of_its_own() {
    let dir = dir(&[("a.yaml", NAMESPACE_A)]);
    let writer = DirWriter::new(dir.path());
    writer.apply(&host_subnet("n1", "192.168.1.1")).unwrap();
    assert_eq!(files(&dir), ["a.yaml", "hostsubnet-n1.yaml"]);
    assert_eq!(
        read(&dir, "hostsubnet-n1.yaml"),
        "apiVersion: network.openshift.io/v1\nkind: HostSubnet\nmetadata:\n  name: n1\nhost: n1\nhostIP: \"192.168.1.1\"\n\
         subnet: 10.128.0.0/23\n"
    );

    let state = load(dir.path()).unwrap();
    assert_eq!(state.host_subnets["n1"].host_ip, "192.168.1.1");
    let exists = writer.create(&host_subnet("n1", "192.168.1.2")).unwrap_err();
    assert_eq!(exists.to_string(), "HostSubnet n1 is in hostsubnet-n1.yaml already");
    writer.apply(&host_subnet("n1", "192.168.1.2")).unwrap();
    assert_eq!(load(dir.path()).unwrap().host_subnets["n1"].host_ip, "192.168.1.2");
}

#[test]
fn what_was_read_writes_back_the_same() {
    let dir = TempDir::new().unwrap();
    let export = load(&{
        let source = repository("controller/testdata");
        assert!(source.join("export.yaml").is_file());
        source
    })
    .unwrap();
    let writer = DirWriter::new(dir.path());
    let mut lock = writer.lock().unwrap();
    for object in export.objects() {
        lock.create(&object).unwrap();
    }
    drop(lock);
    assert_eq!(load(dir.path()).unwrap(), export);
}

#[test]
fn a_patch_changes_one_document() {
    let text = format!(
        "# Ours.\n{NAMESPACE_A}---\n# Theirs.\n{}",
        NAMESPACE_A.replace("name: a", "name: b # inside")
    );
    let dir = dir(&[("a.yaml", &text)]);
    let writer = DirWriter::new(dir.path());
    let patch = json!({"metadata": {"annotations": {"x": "1"}}});
    let patched = writer.merge_patch(Kind::Namespace, None, "a", &patch).unwrap();
    assert_eq!(patched.metadata().annotations.as_ref().unwrap()["x"], "1");
    assert_eq!(
        read(&dir, "a.yaml"),
        text.replacen("name: a\n", "name: a\n  annotations:\n    x: \"1\"\n", 1)
    );
    assert_eq!(files(&dir), ["a.yaml"]);
}

#[test]
fn a_bad_change_is_refused_and_nothing_written() {
    let dir = dir(&[]);
    let writer = DirWriter::new(dir.path());
    writer.apply(&host_subnet("n1", "192.168.1.1")).unwrap();
    let before = read(&dir, "hostsubnet-n1.yaml");
    for (patch, expected) in [
        (
            json!({"hostIP": "1.2.3"}),
            "HostSubnet n1 would not be valid, so nothing is changed: hostIP: \"1.2.3\" is no IPv4 address: write one such as \
             192.168.1.10",
        ),
        (
            json!({"egressIPs": "192.168.1.9"}),
            "HostSubnet n1 would not be valid, so nothing is changed: egressIPs: invalid type: string \"192.168.1.9\", \
             expected a sequence",
        ),
        (
            json!({"metadata": {"name": "n2"}, "host": "n2"}),
            "a change can't rename HostSubnet n1: delete it and create another",
        ),
        (json!({"kind": "Gadget"}), "a change can't rename HostSubnet n1: delete it and create another"),
    ] {
        let err = writer.merge_patch(Kind::HostSubnet, None, "n1", &patch).unwrap_err();
        assert_eq!(err.to_string(), expected);
        assert_eq!(read(&dir, "hostsubnet-n1.yaml"), before);
    }
    let missing = writer.delete(Kind::HostSubnet, None, "n2").unwrap_err();
    assert_eq!(missing.to_string(), format!("HostSubnet n2 is not in {}", dir.path().display()));
}

#[test]
fn deleting_the_last_object_removes_the_file() {
    let both = format!("{NAMESPACE_A}---\n{}", NAMESPACE_A.replace("name: a", "name: b"));
    let dir = dir(&[("a.yaml", &both)]);
    let writer = DirWriter::new(dir.path());
    writer.delete(Kind::Namespace, None, "a").unwrap();
    assert_eq!(names(&load(dir.path()).unwrap().namespaces), ["b"]);
    writer.delete(Kind::Namespace, None, "b").unwrap();
    assert_eq!(files(&dir), [""; 0]);
}

#[test]
fn a_problem_elsewhere_is_no_obstacle() {
    let dir = dir(&[("a.yaml", NAMESPACE_A), ("b.yaml", "a: [")]);
    let writer = DirWriter::new(dir.path());
    writer.merge_patch(Kind::Namespace, None, "a", &json!({"metadata": {"labels": {"x": "y"}}})).unwrap();
    let mut lock = writer.lock().unwrap();
    assert_eq!(lock.state().unwrap_err().problems.len(), 1);
    lock.delete(&ObjectRef::cluster(Kind::Namespace, "a")).unwrap();
    assert_eq!(files(&dir), ["b.yaml"]);
}

#[test]
fn what_a_killed_writer_leaves_does_no_harm() {
    let dir = dir(&[("a.yaml", NAMESPACE_A), (".a.yaml.tmp", "apiVersion: v1\nkind: Names")]);
    let writer = DirWriter::new(dir.path());
    assert_eq!(names(&load(dir.path()).unwrap().namespaces), ["a"]);
    writer.merge_patch(Kind::Namespace, None, "a", &json!({"metadata": {"labels": {"x": "y"}}})).unwrap();
    assert_eq!(files(&dir), ["a.yaml"]);
}

#[test]
fn links_and_permissions_stay() {
    use std::os::unix::fs::{PermissionsExt, symlink};

    let elsewhere = dir(&[("real.yaml", NAMESPACE_A)]);
    let real = elsewhere.path().join("real.yaml");
    fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
    let dir = dir(&[]);
    symlink(&real, dir.path().join("a.yaml")).unwrap();
    let patch = json!({"metadata": {"labels": {"x": "y"}}});
    DirWriter::new(dir.path()).merge_patch(Kind::Namespace, None, "a", &patch).unwrap();
    assert!(fs::symlink_metadata(dir.path().join("a.yaml")).unwrap().is_symlink());
    assert!(read(&elsewhere, "real.yaml").contains("x: \"y\""));
    assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn writers_lose_no_update() {
    let dir = dir(&[]);
    DirWriter::new(dir.path()).apply(&host_subnet("n1", "192.168.1.1")).unwrap();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let dir = dir.path();
            scope.spawn(move || {
                for round in 0..10 {
                    let patch = json!({"metadata": {"annotations": {format!("w{writer}-{round}"): "x"}}});
                    DirWriter::new(dir).merge_patch(Kind::HostSubnet, None, "n1", &patch).unwrap();
                }
            });
        }
    });
    let state = load(dir.path()).unwrap();
    assert_eq!(state.host_subnets["n1"].metadata.annotations.as_ref().unwrap().len(), 40);
}

#[test]
fn null_removes_an_annotation() {
    let dir = dir(&[]);
    let writer = DirWriter::new(dir.path());
    writer.apply(&host_subnet("n1", "192.168.1.1")).unwrap();
    for (value, expected) in [(json!("u1"), Some("u1")), (json!(null), None)] {
        let patch = json!({"metadata": {"annotations": {NODE_UID_ANNOTATION: value}}});
        let patched = writer.merge_patch(Kind::HostSubnet, None, "n1", &patch).unwrap();
        let annotations = patched.metadata().annotations.clone().unwrap_or_default();
        assert_eq!(annotations.get(NODE_UID_ANNOTATION).map(String::as_str), expected);
    }
}
