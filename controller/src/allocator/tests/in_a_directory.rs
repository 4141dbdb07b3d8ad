//! The controller at work on a directory.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::*;
use crate::allocator::in_directory::InDirectory;
use crate::allocator::{Status, Vitals};
use crate::cluster::Snapshot;
use crate::cluster::dir::{self, DirSource};

const DEADLINE: Duration = Duration::from_secs(30);

const NETWORK: &str = include_str!("../../../tests/network.yaml");

fn yaml_node(name: &str, ip: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\nstatus:\n  addresses:\n  - {{type: InternalIP, address: {ip}}}\n"
    )
}

fn cluster() -> TempDir {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("network.yaml"), NETWORK).unwrap();
    fs::write(dir.path().join("nodes.yaml"), yaml_node("n1", "192.168.1.1")).unwrap();
    dir
}

fn controller(dir: &Path) -> InDirectory {
    InDirectory::open(dir, Vitals::new(Status::default()).0).unwrap()
}

#[tokio::test]
async fn the_demo_needs_nothing() {
    let dir = TempDir::new().unwrap();
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/demo");
    let mut texts = Vec::new();
    for entry in fs::read_dir(demo).unwrap() {
        let entry = entry.unwrap();
        let copy = dir.path().join(entry.file_name());
        fs::copy(entry.path(), &copy).unwrap();
        texts.push((copy, fs::read_to_string(entry.path()).unwrap()));
    }
    let network = dir.path().join("network.yaml");
    for plugin in ["subnet", "multitenant"] {
        let text = fs::read_to_string(&network)
            .unwrap()
            .replace("openshift-ovs-subnet", &format!("openshift-ovs-{plugin}"));
        fs::write(&network, &text).unwrap();
        assert_eq!(controller(dir.path()).once().await.unwrap(), []);
        for (path, before) in &texts {
            let expected = if *path == network { &text } else { before };
            assert_eq!(fs::read_to_string(path).unwrap(), *expected);
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), texts.len());
    }
}

#[tokio::test]
async fn once_settles_and_tells_what_is_left() {
    let cluster = cluster();
    fs::write(cluster.path().join("more.yaml"), yaml_node("n2", "10.128.0.7")).unwrap();
    let problems = controller(cluster.path()).once().await.unwrap();
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].object(), ObjectRef::cluster(Kind::Node, "n2"));
    let state = dir::load(cluster.path()).unwrap();
    assert_eq!(state.host_subnets["n1"].subnet, "10.128.0.0/23");
    assert_eq!(state.host_subnets.len(), 1);
}

/// Two controllers on one directory, Nodes and a bad document that come and go.
#[tokio::test]
async fn follows_the_directory_and_survives_bad_documents() {
    let cluster = cluster();
    let source = DirSource::open(cluster.path()).unwrap();
    let mut snapshots = source.watch();
    let mut until = async |what: &str, wanted: &dyn Fn(&Snapshot) -> bool| {
        let last = snapshots.clone();
        let seen = timeout(DEADLINE, snapshots.wait_for(|snapshot| wanted(snapshot)))
            .await
            .map(|result| result.map(drop));
        assert!(matches!(seen, Ok(Ok(()))), "{what}: {:#?}", last.borrow());
    };
    let subnet_of = |snapshot: &Snapshot, name: &str| {
        snapshot.state.host_subnets.get(name).map(|object| object.subnet.clone())
    };

    let mut running = Vec::new();
    for _ in 0..2 {
        let (stop, stopped) = oneshot::channel::<()>();
        let controller = controller(cluster.path());
        let task = tokio::spawn(async move { controller.run(async move { drop(stopped.await) }).await });
        running.push((stop, task));
    }
    until("a subnet for n1", &|snapshot| subnet_of(snapshot, "n1").as_deref() == Some("10.128.0.0/23")).await;

    let bad = cluster.path().join("bad.yaml");
    fs::write(&bad, "kind: [").unwrap();
    fs::write(cluster.path().join("n2.yaml"), yaml_node("n2", "192.168.1.2")).unwrap();
    until("the problem", &|snapshot| snapshot.problem.is_some()).await;
    fs::remove_file(&bad).unwrap();
    until("a subnet for n2", &|snapshot| subnet_of(snapshot, "n2").as_deref() == Some("10.129.0.0/23")).await;

    // n1 goes, n3 comes and gets its subnet or the next; a Namespace comes.
    fs::write(cluster.path().join("nodes.yaml"), yaml_node("n3", "192.168.1.3")).unwrap();
    fs::write(cluster.path().join("a.yaml"), "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n")
        .unwrap();
    until("n1 gone, n3 and a there", &|snapshot| {
        subnet_of(snapshot, "n1").is_none()
            && subnet_of(snapshot, "n3").is_some()
            && snapshot.state.net_namespaces.get("a").is_some_and(|object| object.netid == 10)
    })
    .await;

    for (stop, task) in running {
        stop.send(()).unwrap();
        timeout(DEADLINE, task).await.unwrap().unwrap().unwrap();
    }
    assert_eq!(allocate(&dir::load(cluster.path()).unwrap()), Allocation::default());
}
