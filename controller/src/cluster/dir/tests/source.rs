//! A directory that changes while it is watched.

use std::time::Duration;

use tokio::sync::watch::Receiver;
use tokio::time::timeout;

use super::*;
use crate::cluster::Snapshot;

const DEADLINE: Duration = Duration::from_secs(20);

/// Waits until a snapshot is as wanted.
async fn until(snapshots: &mut Receiver<Arc<Snapshot>>, wanted: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
    let last = snapshots.clone();
    match timeout(DEADLINE, snapshots.wait_for(|snapshot| wanted(snapshot))).await {
        Ok(snapshot) => Arc::clone(&snapshot.unwrap()),
        Err(_) => panic!("not within {DEADLINE:?}; the last snapshot is {:#?}", last.borrow()),
    }
}

fn namespaces(snapshot: &Snapshot) -> Vec<&str> {
    snapshot.state.namespaces.keys().map(String::as_str).collect()
}

fn namespace(name: &str) -> String {
    NAMESPACE_A.replace("name: a", &format!("name: {name}"))
}

#[tokio::test]
async fn the_first_snapshot_must_be_good() {
    let dir = dir(&[("a.yaml", "a: [")]);
    let err = DirSource::open(dir.path()).unwrap_err();
    assert_eq!(err.problems.len(), 1);
}

#[tokio::test]
async fn follows_files_as_they_come_change_and_go() {
    let dir = dir(&[("a.yaml", NAMESPACE_A)]);
    let source = DirSource::open(dir.path()).unwrap();
    let mut snapshots = source.watch();
    assert_eq!(namespaces(&snapshots.borrow_and_update()), ["a"]);

    fs::write(dir.path().join("b.yaml"), namespace("b")).unwrap();
    let first = until(&mut snapshots, |snapshot| namespaces(snapshot) == ["a", "b"]).await;

    // As editors save: another file, renamed into place.
    fs::write(dir.path().join(".b.swp"), namespace("c")).unwrap();
    fs::rename(dir.path().join(".b.swp"), dir.path().join("b.yaml")).unwrap();
    let second = until(&mut snapshots, |snapshot| namespaces(snapshot) == ["a", "c"]).await;
    assert!(Arc::ptr_eq(&first.state.namespaces["a"], &second.state.namespaces["a"]));

    fs::remove_file(dir.path().join("a.yaml")).unwrap();
    until(&mut snapshots, |snapshot| namespaces(snapshot) == ["c"]).await;

    drop(source);
    assert!(
        timeout(DEADLINE, snapshots.changed()).await.unwrap().is_err(),
        "the channel closes with the source"
    );
}

#[tokio::test]
async fn a_bad_document_leaves_the_last_good_state_in_force() {
    let dir = dir(&[("a.yaml", NAMESPACE_A)]);
    let source = DirSource::open(dir.path()).unwrap();
    let mut snapshots = source.watch();

    fs::write(dir.path().join("b.yaml"), namespace("B!")).unwrap();
    let bad = until(&mut snapshots, |snapshot| snapshot.problem.is_some()).await;
    assert_eq!(namespaces(&bad), ["a"]);
    assert!(bad.problem.as_ref().unwrap().to_string().contains("b.yaml, document 1, line 4"));

    fs::write(dir.path().join("b.yaml"), namespace("b")).unwrap();
    until(&mut snapshots, |snapshot| snapshot.problem.is_none() && namespaces(snapshot) == ["a", "b"]).await;
}

#[tokio::test]
async fn the_directory_may_vanish_and_come_back() {
    let parent = TempDir::new().unwrap();
    let path = parent.path().join("cluster");
    let fill = |name: &str| {
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("a.yaml"), namespace(name)).unwrap();
    };
    fill("a");
    let source = DirSource::open(&path).unwrap();
    let mut snapshots = source.watch();

    fs::remove_dir_all(&path).unwrap();
    let is_gone = |snapshot: &Snapshot| {
        snapshot.problem.as_ref().is_some_and(|problem| problem.to_string().contains("does not exist"))
    };
    let gone = until(&mut snapshots, is_gone).await;
    assert_eq!(namespaces(&gone), ["a"]);

    fill("b");
    until(&mut snapshots, |snapshot| snapshot.problem.is_none() && namespaces(snapshot) == ["b"]).await;

    // Replaced by another of the same name.
    fs::rename(&path, parent.path().join("old")).unwrap();
    fill("c");
    until(&mut snapshots, |snapshot| snapshot.problem.is_none() && namespaces(snapshot) == ["c"]).await;
    fs::write(path.join("b.yaml"), namespace("d")).unwrap();
    until(&mut snapshots, |snapshot| namespaces(snapshot) == ["c", "d"]).await;

    // With its parent.
    fs::remove_dir_all(parent.path()).unwrap();
    until(&mut snapshots, |snapshot| snapshot.problem.is_some()).await;
    fill("e");
    until(&mut snapshots, |snapshot| snapshot.problem.is_none() && namespaces(snapshot) == ["e"]).await;
}

#[tokio::test]
async fn follows_the_links_of_a_mounted_config_map() {
    let dir = TempDir::new().unwrap();
    let version = |name: &str, namespace_name: &str| {
        fs::create_dir(dir.path().join(name)).unwrap();
        fs::write(dir.path().join(name).join("a.yaml"), namespace(namespace_name)).unwrap();
        std::os::unix::fs::symlink(name, dir.path().join("..data_tmp")).unwrap();
        fs::rename(dir.path().join("..data_tmp"), dir.path().join("..data")).unwrap();
    };
    version("..1", "a");
    std::os::unix::fs::symlink("..data/a.yaml", dir.path().join("a.yaml")).unwrap();
    let source = DirSource::open(dir.path()).unwrap();
    let mut snapshots = source.watch();
    assert_eq!(namespaces(&snapshots.borrow_and_update()), ["a"]);
    version("..2", "b");
    until(&mut snapshots, |snapshot| namespaces(snapshot) == ["b"]).await;
}
