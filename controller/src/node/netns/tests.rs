#![allow(clippy::unwrap_used)]

use super::testing::{Namespace, says};
use super::*;

#[test]
fn named_namespaces_are_those_of_ip_netns() {
    let Namespace { name, ns } = &Namespace::new("named");
    assert!(says("ip netns list").split_whitespace().any(|word| word == name));
    assert_eq!(ns.inode().unwrap(), fs::metadata(Path::new(NAMED).join(name)).unwrap().ino());
    assert_eq!(NetNs::open_named(name).unwrap().inode().unwrap(), ns.inode().unwrap());
    assert_ne!(NetNs::current().unwrap().inode().unwrap(), ns.inode().unwrap());
    let again = NetNs::create_named(name).unwrap_err();
    assert!(matches!(again, NetNsError::Exists { .. }), "{again}");

    assert!(NetNs::delete_named(name).unwrap());
    assert!(!NetNs::delete_named(name).unwrap());
    assert!(!says("ip netns list").contains(name));
    let gone = NetNs::open_named(name).unwrap_err();
    assert!(matches!(gone, NetNsError::NotFound { .. }), "{gone}");
}

#[test]
fn ip_netns_deletes_ours_and_we_its() {
    let Namespace { name, .. } = &Namespace::new("both");
    says(&format!("ip netns delete {name}"));
    says(&format!("ip netns add {name}"));
    NetNs::open_named(name).unwrap();
    assert!(NetNs::delete_named(name).unwrap());
}

#[test]
fn many_at_once() {
    let made: Vec<Namespace> = thread::scope(|scope| {
        let threads: Vec<_> =
            (0..8).map(|n| scope.spawn(move || Namespace::new(&format!("many{n}")))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    for Namespace { name, .. } in &made {
        let path = format!("{NAMED}/{name}");
        assert_eq!(mounts.lines().filter(|line| line.contains(&path)).count(), 1, "{mounts}");
    }
}

#[test]
fn children_inherit_the_namespace_and_the_caller_stays() {
    let Namespace { ns, .. } = &Namespace::new("child");
    let before = NetNs::current().unwrap().inode().unwrap();
    let links = run_in(ns, || says("ip -o link")).unwrap();
    assert_eq!(links.lines().count(), 1, "{links}");
    assert!(links.contains("lo: <LOOPBACK>"), "{links}");
    assert_eq!(NetNs::current().unwrap().inode().unwrap(), before);
}

#[tokio::test]
async fn async_forms() {
    use futures::TryStreamExt;
    let Namespace { ns, .. } = &Namespace::new("async");
    let inside = spawn_in(ns, || NetNs::current().unwrap().inode().unwrap()).await.unwrap();
    assert_eq!(inside, ns.inode().unwrap());
    let links: Vec<_> = netlink_in(ns).unwrap().link().get().execute().try_collect().await.unwrap();
    assert_eq!(links.len(), 1, "{links:?}");
    let lost = spawn_in(ns, || panic!("expected by the test")).await;
    assert!(matches!(lost, Err::<(), _>(NetNsError::Lost)));
}

#[test]
fn other_things_at_the_path() {
    let directory = tempfile::tempdir().unwrap();
    let error = |path: &Path| NetNs::open(path).unwrap_err();
    let missing = directory.path().join("missing");
    assert!(matches!(error(&missing), NetNsError::NotFound { .. }));
    assert!(matches!(error(&missing.join("below")), NetNsError::NotFound { .. }));
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(matches!(error(&file), NetNsError::NotANetNs { .. }));
    assert!(matches!(error(directory.path()), NetNsError::NotANetNs { .. }));
    let fifo = directory.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(matches!(error(&fifo), NetNsError::NotANetNs { .. }));
    let other = error(Path::new("/proc/self/ns/mnt"));
    assert!(other.to_string().ends_with("is a namespace of another type"), "{other}");
}

#[test]
fn names_that_are_no_file_names() {
    for bad in ["", ".", "..", "a/b", "../x", "a\0b", &"x".repeat(256)] {
        assert!(matches!(NetNs::create_named(bad), Err(NetNsError::BadName { .. })), "{bad:?}");
        assert!(matches!(NetNs::delete_named(bad), Err(NetNsError::BadName { .. })), "{bad:?}");
    }
}

#[test]
fn checksum_offload() {
    let Namespace { ns, .. } = &Namespace::new("csum");
    run_in(ns, || {
        says("ip link add name a type veth peer name b");
        assert!(tx_checksum_offload("a").unwrap());
        set_tx_checksum_offload("a", false).unwrap();
        assert!(!tx_checksum_offload("a").unwrap());
        assert!(tx_checksum_offload("b").unwrap());
        let shown = says("ethtool -k a");
        assert!(
            shown.contains("tx-checksumming: off") && shown.contains("tx-tcp-segmentation: off"),
            "{shown}"
        );
        set_tx_checksum_offload("a", true).unwrap();
        assert!(tx_checksum_offload("a").unwrap());
        let missing = set_tx_checksum_offload("missing", false).unwrap_err();
        assert_eq!(missing.raw_os_error(), Some(libc::ENODEV));
        let long = set_tx_checksum_offload("a-name-that-is-too-long", false).unwrap_err();
        assert_eq!(long.raw_os_error(), Some(libc::ENODEV));
    })
    .unwrap();
}
