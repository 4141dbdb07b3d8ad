//! firewalld itself, in a network namespace with a bus and a configuration of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use super::*;

/// Ends with the test.
struct Firewalld {
    directory: tempfile::TempDir,
    children: Vec<Child>,
}

const BUS: &str = r#"<busconfig>
  <type>system</type>
  <listen>unix:path=SOCKET</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/>
  </policy>
</busconfig>"#;

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

impl Firewalld {
    fn start(node: &Namespace) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut firewalld = Self { directory, children: Vec::new() };
        let configuration = firewalld.path("etc");
        std::fs::create_dir(&configuration).unwrap();
        let bus = firewalld.path("bus.conf");
        std::fs::write(&bus, BUS.replace("SOCKET", &firewalld.path("bus").to_string_lossy())).unwrap();
        let mut daemon = Command::new("dbus-daemon");
        daemon.arg("--nofork").arg(format!("--config-file={}", bus.display()));
        firewalld.run(node, daemon);
        until("the bus does not come up", || firewalld.path("bus").exists());
        let mut daemon = Command::new("unshare");
        let script = r#"mount --bind "$0" /etc/firewalld && exec firewalld --nofork --nopid --log-target=file --log-file="$1""#;
        daemon.args(["--mount", "sh", "-c", script]).args([&configuration, &firewalld.path("log")]);
        daemon.env("DBUS_SYSTEM_BUS_ADDRESS", firewalld.address());
        firewalld.run(node, daemon);
        until("firewalld does not come up", || firewalld.client(&["--state"]).status().unwrap().success());
        firewalld
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::new(self.directory.path()).join(name)
    }

    fn address(&self) -> String {
        format!("unix:path={}", self.path("bus").display())
    }

    fn run(&mut self, node: &Namespace, mut daemon: Command) {
        let child = node.run(|| daemon.spawn());
        self.children.push(child.unwrap_or_else(|error| panic!("{daemon:?}: {error}: run `make deps`")));
    }

    fn client<S: AsRef<std::ffi::OsStr>>(&self, arguments: &[S]) -> Command {
        let mut client = Command::new("firewall-cmd");
        client.arg("--quiet").args(arguments).env("DBUS_SYSTEM_BUS_ADDRESS", self.address());
        client
    }

    fn says(&self, arguments: &str) {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        let output = self.client(&arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Firewalld {
    fn drop(&mut self) {
        for child in self.children.iter_mut().rev() {
            // It may have ended by itself; the test says so elsewhere.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The lines of the report that start so, without that.
fn lines<'a>(report: &'a str, start: &str) -> Vec<&'a str> {
    report.lines().filter_map(|line| line.strip_prefix(start)).collect()
}

/// What it stops as it comes, seen with packets; and that the printed commands, and no others, let everything pass, also after
/// a start from what they have left on disk.
#[test]
fn its_own_commands_let_everything_pass() {
    let around = Surroundings::new("fwd");
    let firewalld = Firewalld::start(&around.node);
    around.own_tables();
    let report = around.agrees("as it comes").to_string();
    let rejects = "stopped by `reject with icmpx admin-prohibited` in chain";
    for line in [
        format!("VXLAN from other nodes (udp port 4789): {rejects} filter_IN_public of table inet firewalld"),
        format!(
            "pods to the node (in by tun0), tcp and udp only: {rejects} filter_IN_public of table inet firewalld"
        ),
        "the node to pods (out by tun0): passes".to_owned(),
        format!(
            "pods to the outside (forwarded from tun0): {rejects} filter_FWD_public of table inet firewalld"
        ),
        "the outside to pods by node ports (forwarded to tun0): passes".to_owned(),
    ] {
        assert!(report.lines().any(|said| said == line), "{line}\n{report}");
    }
    let commands = lines(&report, "  firewall-cmd ");
    assert_eq!(
        commands,
        [
            "--zone=public --add-port=4789/udp",
            "--permanent --zone=public --add-port=4789/udp",
            "--zone=trusted --change-interface=tun0",
            "--permanent --zone=trusted --change-interface=tun0",
        ],
        "{report}"
    );
    for command in &commands {
        firewalld.says(command);
    }
    assert!(around.agrees("mended").is_clear());
    firewalld.says("--reload");
    assert!(around.agrees("from disk").is_clear());

    // What its commands can't say is said in words: a source goes before a link, a rich rule before a port.
    firewalld.says("--zone=internal --add-source=10.0.0.0/8");
    let report = around.agrees("a source").to_string();
    let source = "  firewalld's zone internal has a source with addresses of pods (`ip saddr 10.0.0.0/8 goto filter_IN_internal`)";
    assert_eq!(lines(&report, source).len(), 1, "{report}");
    assert!(lines(&report, "  firewall-cmd ").is_empty(), "{report}");
    firewalld.says("--zone=internal --remove-source=10.0.0.0/8");
    let rich = "--add-rich-rule=rule family=ipv4 source address=192.0.2.0/24 drop";
    assert!(firewalld.client(&["--zone=public", rich]).status().unwrap().success());
    let report = around.agrees("a rich rule").to_string();
    assert_eq!(lines(&report, "  a rule of firewalld's zone public stops it").len(), 1, "{report}");
    assert!(lines(&report, "  firewall-cmd ").is_empty(), "{report}");
}
