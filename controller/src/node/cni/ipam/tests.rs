#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::*;

fn ip(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

/// A directory and its addresses; 5 of them with the default subnet.
struct Fixture {
    dir: TempDir,
    ipam: Ipam,
}

impl Fixture {
    fn new(subnet: &str) -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let ipam = Ipam::open(dir.path(), subnet.parse().unwrap()).unwrap();
        Fixture { dir, ipam }
    }

    fn put(&self, name: &str, content: &str) {
        fs::write(self.dir.path().join(name), content).unwrap();
    }

    fn content(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join(name)).unwrap()
    }

    fn reopen(&mut self) {
        self.ipam = Ipam::open(self.dir.path(), self.ipam.subnet).unwrap();
    }

    fn holders(&self) -> Vec<String> {
        self.ipam.leases().unwrap().into_iter().map(|lease| lease.container_id).collect()
    }

    /// Of how many files it is known what they hold.
    fn known(&self) -> usize {
        self.ipam.state().leases.values().filter(|held| held.stamp.is_some()).count()
    }

    fn next(&self, container: &str) -> String {
        self.ipam.allocate(container, "eth0", None, &BTreeMap::new()).unwrap().to_string()
    }
}

fn small() -> Fixture {
    Fixture::new("10.128.2.0/29")
}

#[test]
fn files_have_the_form_of_host_local() {
    let f = small();
    assert_eq!(f.next("a"), "10.128.2.2");
    assert_eq!(f.ipam.allocate("a", "net1", None, &BTreeMap::new()).unwrap(), ip("10.128.2.3"));
    assert_eq!(f.content("10.128.2.2"), "a");
    assert_eq!(f.content("10.128.2.3"), "a\r\nnet1");
    assert_eq!(f.content("last_reserved_ip.0"), "10.128.2.3");
    assert_eq!(f.ipam.gateway(), ip("10.128.2.1"));
    assert_eq!(f.ipam.size(), 5);
}

#[test]
fn leases_of_host_local_are_read() {
    let mut f = small();
    f.put("10.128.2.2", "old");
    f.put("10.128.2.3", "old-newline\n");
    f.put("10.128.2.4", "new\r\neth0");
    f.put("10.128.2.5", "new\r\nnet1\r\n");
    f.put("last_reserved_ip.0", "10.128.2.5\n");
    f.reopen();
    for (container, ifname, address) in
        [("old", "eth0", 2), ("old-newline", "eth0", 3), ("new", "eth0", 4), ("new", "net1", 5)]
    {
        let again = f.ipam.allocate(container, ifname, None, &BTreeMap::new()).unwrap();
        assert_eq!(again, Ipv4Addr::new(10, 128, 2, address), "{container} {ifname}");
    }
    assert_eq!(f.next("next"), "10.128.2.6");
    assert_eq!(f.ipam.release("new", None).unwrap(), [ip("10.128.2.4"), ip("10.128.2.5")]);
    assert_eq!(f.ipam.release("old-newline", Some("eth0")).unwrap(), [ip("10.128.2.3")]);
    assert!(f.ipam.release("old", Some("net1")).unwrap().is_empty());
    assert_eq!(f.ipam.leases().unwrap().len(), 2);
}

#[test]
fn same_container_same_address() {
    let mut f = small();
    let first = f.next("a");
    assert_eq!(f.next("b"), "10.128.2.3");
    assert_eq!(f.next("a"), first);
    f.reopen();
    assert_eq!(f.next("a"), first);
    assert_eq!(f.ipam.leases().unwrap().len(), 2);
}

#[test]
fn no_quick_reuse() {
    let mut f = small();
    let release = |f: &Fixture, container| f.ipam.release(container, None).unwrap();
    for container in ["a", "b", "c"] {
        f.next(container);
    }
    release(&f, "b"); // .3
    release(&f, "a"); // .2
    assert_eq!(f.next("d"), "10.128.2.5");
    assert_eq!(f.next("e"), "10.128.2.6");
    assert_eq!(f.next("f"), "10.128.2.3");
    release(&f, "f");
    assert_eq!(f.next("g"), "10.128.2.2");
    assert_eq!(f.next("h"), "10.128.2.3");
    // After a restart only the last leased address is known.
    release(&f, "h");
    release(&f, "d");
    f.put("last_reserved_ip.0", "10.128.2.4");
    f.reopen();
    assert_eq!(f.next("i"), "10.128.2.5");
    assert_eq!(f.next("j"), "10.128.2.3");
}

#[test]
fn wanted_addresses() {
    let f = small();
    let want = |container, address| f.ipam.allocate(container, "eth0", Some(ip(address)), &BTreeMap::new());
    assert_eq!(want("a", "10.128.2.6").unwrap(), ip("10.128.2.6"));
    assert_eq!(want("a", "10.128.2.6").unwrap(), ip("10.128.2.6"));
    let error = want("b", "10.128.2.6").unwrap_err().to_string();
    assert_eq!(error, "address 10.128.2.6 is in use by interface eth0 of container a; ask for another one");
    let error = want("a", "10.128.2.5").unwrap_err().to_string();
    assert!(error.contains("has address 10.128.2.6 already and can't get 10.128.2.5"), "{error}");
    for (address, reason) in [
        ("10.128.2.0", "the subnet's own"),
        ("10.128.2.1", "the node's own"),
        ("10.128.2.7", "broadcast"),
        ("10.128.2.8", "not in the node's subnet 10.128.2.0/29"),
    ] {
        let error = want("c", address).unwrap_err().to_string();
        assert!(error.contains(reason) && error.contains("10.128.2.2 to 10.128.2.6"), "{error}");
    }
    assert_eq!(f.ipam.leases().unwrap().len(), 1);
}

#[test]
fn exhaustion_has_the_counts() {
    let f = small();
    for n in 0..5 {
        f.next(&format!("c{n}"));
    }
    let error = f.ipam.allocate("d", "eth0", None, &BTreeMap::new()).unwrap_err();
    assert!(error.to_string().contains("subnet 10.128.2.0/29: 5 of 5 are in use"), "{error}");
    f.ipam.release("c3", None).unwrap();
    assert_eq!(f.next("d"), "10.128.2.5");
    let tiny = Ipam::open(f.dir.path(), "10.0.0.0/31".parse().unwrap()).unwrap_err();
    assert!(matches!(tiny, IpamError::TooSmall(_)), "{tiny}");
}

/// Somebody has removed lease files, and the pods that had them run on.
#[test]
fn an_address_that_another_has_without_a_lease_is_not_free() {
    let f = Fixture::new("10.128.2.0/29");
    let lease = |address| Lease { address, container_id: "runs".into(), ifname: "eth0".into() };
    let others: BTreeMap<Ipv4Addr, Lease> =
        ["10.128.2.2", "10.128.2.4"].map(ip).map(|address| (address, lease(address))).into();
    let next = |container| f.ipam.allocate(container, "eth0", None, &others);
    assert_eq!(next("a").unwrap(), ip("10.128.2.3"));
    assert_eq!(next("b").unwrap(), ip("10.128.2.5"));
    let error = f.ipam.allocate("c", "eth0", Some(ip("10.128.2.4")), &others).unwrap_err().to_string();
    assert!(error.contains("10.128.2.4 is in use by interface eth0 of container runs"), "{error}");
    assert_eq!(next("c").unwrap(), ip("10.128.2.6"));
    let error = next("d").unwrap_err().to_string();
    assert!(error.contains("5 of 5 are in use"), "{error}");
}

#[test]
fn release_is_idempotent() {
    let f = small();
    f.next("a");
    assert_eq!(f.ipam.release("a", None).unwrap(), [ip("10.128.2.2")]);
    assert!(f.ipam.release("a", None).unwrap().is_empty());
    assert!(f.ipam.release("never seen", None).unwrap().is_empty());
    assert!(!f.dir.path().join("10.128.2.2").exists());
}

#[test]
fn foreign_and_broken_files() {
    let mut f = small();
    f.put("README", "not a lease");
    f.put("10.128.2.300", "not an address");
    f.put("10.9.9.9", "of-an-earlier-subnet");
    f.put("10.128.2.2", "");
    fs::write(f.dir.path().join("10.128.2.3"), b"\xff\xfe\0").unwrap();
    fs::create_dir(f.dir.path().join("10.128.2.4")).unwrap();
    f.put("last_reserved_ip.0", "what?");
    f.reopen();
    // The empty file is what an interrupted ADD left; it was not answered.
    assert_eq!(f.next("a"), "10.128.2.5");
    assert_eq!(f.next("b"), "10.128.2.6");
    assert_eq!(f.next("c"), "10.128.2.2");
    let error = f.ipam.allocate("d", "eth0", None, &BTreeMap::new()).unwrap_err();
    assert!(error.to_string().contains("5 of 5"), "{error}");
    // A container's address of an earlier subnet is not given again, but released with it.
    f.ipam.release("a", None).unwrap();
    assert_eq!(f.next("of-an-earlier-subnet"), "10.128.2.5");
    assert_eq!(f.ipam.release("of-an-earlier-subnet", None).unwrap().len(), 2);
    assert_eq!(f.content("README"), "not a lease");
}

#[test]
fn changes_made_behind_our_back() {
    let f = small();
    f.next("a");
    f.next("b");
    // Removed: the address is not ours any more, but nobody else's either.
    fs::remove_file(f.dir.path().join("10.128.2.2")).unwrap();
    assert_eq!(f.next("a"), "10.128.2.4");
    // Taken by someone else, who also holds the next address.
    f.put("10.128.2.5", "other");
    assert_eq!(f.next("c"), "10.128.2.6");
    assert_eq!(f.content("10.128.2.5"), "other");
    // Full in memory, but not on disk.
    f.next("d");
    fs::remove_file(f.dir.path().join("10.128.2.5")).unwrap();
    assert_eq!(f.next("e"), "10.128.2.5");
    // Known on disk only.
    f.ipam.release("d", None).unwrap();
    f.put("10.128.2.2", "f\r\neth0");
    assert_eq!(f.ipam.release("f", Some("eth0")).unwrap(), [ip("10.128.2.2")]);
}

#[test]
fn files_that_have_not_changed_are_not_read_again_and_others_are() {
    let f = small();
    f.next("aa");
    f.next("bb");
    assert_eq!(f.holders(), ["aa", "bb"]);
    assert_eq!(f.known(), 0, "changed just now");
    thread::sleep(Duration::from_secs(3));
    assert_eq!(f.holders(), ["aa", "bb"]);
    assert_eq!(f.known(), 2);
    // As long as before.
    f.put("10.128.2.2", "cc\r\neth0");
    assert_eq!(f.holders(), ["cc", "bb"]);
    assert_eq!(f.known(), 1);
    fs::remove_file(f.dir.path().join("10.128.2.3")).unwrap();
    assert_eq!(f.holders(), ["cc"]);
}

/// What is known of a file is what that file said, not what was written to another of its name.
#[test]
fn a_directory_that_comes_back_is_read_as_it_is() {
    let f = small();
    let address = f.ipam.allocate("aa", "eth0", None, &BTreeMap::new()).unwrap();
    thread::sleep(Duration::from_secs(3));
    assert_eq!(f.holders(), ["aa"]);
    let aside = f.dir.path().with_extension("aside");
    fs::rename(f.dir.path(), &aside).unwrap();
    assert_eq!(f.ipam.release("aa", Some("eth0")).unwrap(), [address]);
    f.ipam.allocate("bb", "eth0", Some(address), &BTreeMap::new()).unwrap();
    fs::remove_dir_all(f.dir.path()).unwrap();
    fs::rename(&aside, f.dir.path()).unwrap();
    assert_eq!(f.holders(), ["aa"]);
}

#[test]
fn files_that_were_read_and_are_others_now_are_read_again() {
    let f = small();
    for container in ["aa", "bb", "cc", "dd"] {
        f.next(container);
    }
    thread::sleep(Duration::from_secs(3));
    assert_eq!(f.holders(), ["aa", "bb", "cc", "dd"]);
    assert_eq!(f.known(), 4);
    // Ours, of the same length.
    f.ipam.release("aa", None).unwrap();
    f.ipam.allocate("ee", "eth0", Some(ip("10.128.2.2")), &BTreeMap::new()).unwrap();
    // By others.
    let path = |name: &str| f.dir.path().join(name);
    fs::remove_file(path("10.128.2.3")).unwrap();
    fs::create_dir(path("10.128.2.3")).unwrap();
    fs::remove_file(path("10.128.2.4")).unwrap();
    std::os::unix::fs::symlink("10.128.2.5", path("10.128.2.4")).unwrap();
    f.put("new", "ff");
    fs::rename(path("new"), path("10.128.2.5")).unwrap();
    let now = ["ee", "(no file, not a lease)", "(a symbolic link, not a lease)", "ff"];
    assert_eq!(f.holders(), now);
    thread::sleep(Duration::from_secs(3));
    assert_eq!(f.holders(), now);
    assert_eq!(f.known(), 4);
    assert_eq!(f.holders(), now);
}

#[test]
fn parameters_that_would_break_a_lease() {
    let f = small();
    for (container, ifname) in [("", "eth0"), ("a\nb", "eth0"), ("../x", "eth0"), ("a", ""), ("a", "a b")] {
        let error = f.ipam.allocate(container, ifname, None, &BTreeMap::new()).unwrap_err();
        assert!(matches!(error, IpamError::Parameter(_)), "{error}");
    }
    assert_eq!(f.ipam.leases().unwrap(), []);
}

/// Two instances stand for two processes: they share the directory and its lock, but not their memory.
#[test]
fn no_address_twice() {
    let f = Fixture::new("10.128.2.0/25");
    let other = Ipam::open(f.dir.path(), f.ipam.subnet()).unwrap();
    let given: Vec<Ipv4Addr> = thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let ipam = if thread % 2 == 0 { &f.ipam } else { &other };
                scope.spawn(move || {
                    let one =
                        |n| ipam.allocate(&format!("c{thread}-{n}"), "eth0", None, &BTreeMap::new()).unwrap();
                    (0..25).map(one).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(given.iter().collect::<BTreeSet<_>>().len(), 100);
    assert_eq!(f.ipam.leases().unwrap().len(), 100);
}

/// Prints what a lease costs: `cargo test -p controller ipam::tests::times -- --ignored --nocapture`.
#[test]
#[ignore = "measures"]
fn times() {
    // Not in a file system in memory, as the usual temporary directory may be.
    let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let ipam = Ipam::open(dir.path(), "10.128.2.0/23".parse().unwrap()).unwrap();
    let median = |one: &dyn Fn(String)| {
        let time = |n: usize| {
            let start = Instant::now();
            one(format!("c{n}"));
            start.elapsed()
        };
        let mut times: Vec<Duration> = (0..250).map(time).collect();
        times.sort();
        times[times.len() / 2]
    };
    let allocate = median(&|container| {
        ipam.allocate(&container, "eth0", None, &BTreeMap::new()).unwrap();
    });
    let open = median(&|_| {
        Ipam::open(dir.path(), ipam.subnet()).unwrap();
    });
    let release = median(&|container| {
        ipam.release(&container, None).unwrap();
    });
    println!("median of 250: allocate {allocate:?}, open with 250 leases {open:?}, release {release:?}");
}

#[test]
fn a_lost_or_damaged_lease_is_written_again_but_nobodys_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let ipam = Ipam::open(dir.path(), "10.128.2.0/28".parse().unwrap()).unwrap();
    let address = ipam.allocate("pod-a", "eth0", None, &BTreeMap::new()).unwrap();
    assert!(!ipam.adopt("pod-a", "eth0", address).unwrap());
    let file = dir.path().join(address.to_string());
    for damage in ["", "\u{0}\u{1}", "two words"] {
        std::fs::write(&file, damage).unwrap();
        assert!(ipam.adopt("pod-a", "eth0", address).unwrap(), "{damage:?}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "pod-a");
    }
    std::fs::remove_file(&file).unwrap();
    assert!(ipam.adopt("pod-a", "eth0", address).unwrap());
    assert!(
        matches!(ipam.adopt("pod-b", "eth0", address), Err(IpamError::Taken(lease)) if lease.container_id == "pod-a")
    );
    assert!(matches!(ipam.adopt("pod-a", "eth0", ipam.gateway()), Err(IpamError::NotUsable { .. })));
    ipam.forget(address).unwrap();
    assert!(!file.exists() && ipam.in_use() == Some(0));
    ipam.forget(address).unwrap();
}

/// Whatever somebody has put in place of the files, nobody waits for it, and its address is nobody's.
#[test]
fn what_is_no_file_holds_its_address_and_holds_up_nobody() {
    let mut fixture = Fixture::new("10.128.0.0/28");
    let at = |name: &str| fixture.dir.path().join(name);
    fs::create_dir(at("10.128.0.2")).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", at("10.128.0.3")).unwrap();
    std::os::unix::fs::symlink("/nonexistent", at("10.128.0.4")).unwrap();
    nix::unistd::mkfifo(&at("10.128.0.5"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("10.128.0.6")).unwrap();
    fs::write(at("10.128.0.7"), vec![b'x'; 1 << 20]).unwrap();
    nix::unistd::mkfifo(&at(LAST_RESERVED), nix::sys::stat::Mode::S_IRWXU).unwrap();
    fixture.reopen();
    assert_eq!(fixture.next("a"), "10.128.0.8");
    let leases = fixture.ipam.leases().unwrap();
    let odd: Vec<String> = leases.iter().take(5).map(|lease| lease.container_id.clone()).collect();
    let (no_file, link) = ("(no file, not a lease)", "(a symbolic link, not a lease)");
    assert_eq!(odd, [no_file, link, link, no_file, "(a socket, not a lease)"]);
    assert!(odd.iter().all(|id| validate::container_id(id).is_err()), "none is a container's");
    // The agent forgets what names no container.
    for address in ["10.128.0.3", "10.128.0.4", "10.128.0.5", "10.128.0.6", "10.128.0.7"] {
        fixture.ipam.forget(ip(address)).unwrap();
    }
    assert!(fs::exists("/etc/hostname").unwrap(), "a link was followed");
    assert!(fixture.ipam.forget(ip("10.128.0.2")).is_err(), "a directory is not ours to remove");
    fs::remove_file(fixture.dir.path().join(LOCK)).unwrap();
    nix::unistd::mkfifo(&fixture.dir.path().join(LOCK), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let error = fixture.ipam.allocate("b", "eth0", None, &BTreeMap::new()).unwrap_err().to_string();
    assert!(error.contains("could not open") && error.contains("lock"), "{error}");
}

/// As the replaced system's users did against leaks, with pods running.
#[test]
fn a_directory_that_is_removed_is_made_again_and_no_address_given_twice() {
    let fixture = Fixture::new("10.128.0.0/28");
    assert_eq!(fixture.next("a"), "10.128.0.2");
    fs::remove_dir_all(fixture.dir.path()).unwrap();
    assert_eq!(fixture.next("b"), "10.128.0.3");
    assert!(fixture.ipam.adopt("a", "eth0", ip("10.128.0.2")).unwrap(), "its pod still has it");
    assert_eq!(fixture.ipam.leases().unwrap().len(), 2);
}
