//! What the tests share: the tools of Open vSwitch, and a switch of our own to talk to.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::indexing_slicing)] // Each test uses a part.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Runs a tool of Open vSwitch to its end; a missing one fails with what to do.
pub fn run(command: &mut Command) -> Output {
    match command.output() {
        Ok(output) => output,
        Err(error) => {
            panic!("cannot run {:?}: {error}; `make deps` installs Open vSwitch", command.get_program())
        }
    }
}

/// `ovs-ofctl -O OpenFlow13` with `args` and `input` on its standard input: what it prints, both streams.
pub fn ofctl(args: &[&str], input: &str) -> String {
    let mut child = Command::new("ovs-ofctl")
        .args(["-O", "OpenFlow13"])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run ovs-ofctl: {error}; `make deps` installs Open vSwitch"));
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let writer = std::thread::spawn(move || {
        // A tool that stops early closes its end; what it said about it is in its output.
        let _ = stdin.write_all(input.as_bytes());
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// What `ovs-ofctl` prints of each message; their transaction ids are 1, 2, 3 ...
pub fn ofp_parse(messages: &[impl AsRef<[u8]>]) -> Vec<String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    let all: Vec<u8> = messages.iter().flat_map(|message| message.as_ref()).copied().collect();
    std::fs::write(file.path(), &all).unwrap();
    let output = ofctl(&["--no-names", "-m", "ofp-parse", file.path().to_str().unwrap()], "");
    // Each message starts with its name and transaction id.
    let mut texts: Vec<String> = vec![String::new(); messages.len()];
    let mut current = None;
    for line in output.lines() {
        let xid = line.split_once("(xid=0x").and_then(|(_, rest)| rest.split_once(')'));
        if let Some((xid, _)) = xid
            && !line.starts_with(' ')
        {
            current = usize::from_str_radix(xid, 16).unwrap().checked_sub(1).filter(|n| *n < texts.len());
        }
        if let Some(n) = current {
            texts[n] += line;
            texts[n] += "\n";
        }
    }
    texts
}

/// A real `ovs-vswitchd` with the dummy datapath, in a directory of its own, gone when dropped.
pub struct Ovs {
    dir: tempfile::TempDir,
    children: Vec<Child>,
}

impl Ovs {
    /// Starts a database, a switch and the bridge `br0` that speaks OpenFlow 1.3.
    pub fn start() -> Ovs {
        let dir = tempfile::Builder::new().prefix("openflow-ovs-").tempdir().unwrap();
        let mut ovs = Ovs { dir, children: Vec::new() };
        let database = ovs.path("conf.db");
        let output = run(Command::new("ovsdb-tool")
            .arg("create")
            .arg(&database)
            .arg("/usr/share/openvswitch/vswitch.ovsschema"));
        assert!(output.status.success(), "ovsdb-tool: {}", String::from_utf8_lossy(&output.stderr));
        let socket = format!("unix:{}", ovs.path("db.sock").display());
        let remote = format!("--remote=p{socket}");
        ovs.daemon("ovsdb-server", &[database.to_str().unwrap(), &remote]);
        ovs.wait_for(&ovs.path("db.sock"));
        ovs.vsctl(&["--no-wait", "init"]);
        ovs.daemon(
            "ovs-vswitchd",
            &[&socket, "--enable-dummy=override", "--disable-system", "--disable-system-route"],
        );
        ovs.vsctl(&[
            "add-br",
            "br0",
            "--",
            "set",
            "bridge",
            "br0",
            "datapath_type=dummy",
            "fail_mode=secure",
            "protocols=OpenFlow13",
        ]);
        ovs.wait_for(&ovs.path("br0.mgmt"));
        ovs
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn daemon(&mut self, program: &str, args: &[&str]) {
        let log = std::fs::File::create(self.path(&format!("{program}.out"))).unwrap();
        let child = Command::new(program)
            .args(args)
            .arg(format!("--unixctl={}", self.path(&format!("{program}.ctl")).display()))
            .env("OVS_RUNDIR", self.dir.path())
            .env("OVS_LOGDIR", self.dir.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| {
                panic!("cannot run {program}: {error}; `make deps` installs Open vSwitch")
            });
        self.children.push(child);
    }

    /// A socket's file is there a moment before anybody listens.
    fn wait_for(&self, socket: &Path) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while let Err(error) = UnixStream::connect(socket) {
            assert!(Instant::now() < deadline, "{}: {error}", socket.display());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Runs `ovs-vsctl` on this database.
    pub fn vsctl(&self, args: &[&str]) -> String {
        let output = run(Command::new("ovs-vsctl")
            .arg("--timeout=20")
            .arg(format!("--db=unix:{}", self.path("db.sock").display()))
            .args(args));
        assert!(output.status.success(), "ovs-vsctl: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Stops the switch where it is: it takes and answers nothing any more.
    pub fn freeze(&self) {
        let switch = self.children.last().unwrap().id().to_string();
        assert!(run(Command::new("kill").args(["-STOP", &switch])).status.success());
    }

    /// Path of the bridge's management socket.
    pub fn socket(&self) -> PathBuf {
        self.path("br0.mgmt")
    }

    /// `unix:PATH` of the bridge's management socket.
    pub fn target(&self) -> String {
        format!("unix:{}", self.socket().display())
    }

    /// `ovs-ofctl ARGS` with this bridge where an argument is `br0`.
    pub fn ofctl(&self, args: &[&str], input: &str) -> String {
        let target = self.target();
        let args: Vec<&str> = args.iter().map(|a| if *a == "br0" { target.as_str() } else { a }).collect();
        ofctl(&args, input)
    }

    /// Runs `ovs-appctl` on the switch.
    pub fn appctl(&self, args: &[&str]) -> String {
        let output = run(Command::new("ovs-appctl").arg("-t").arg(self.path("ovs-vswitchd.ctl")).args(args));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Ovs {
    fn drop(&mut self) {
        // The switch first, then its database.
        for child in self.children.iter_mut().rev() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Lines of a corpus file without comments.
pub fn corpus(name: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

/// All flows of the corpus, as `add-flow` takes them.
pub fn corpus_flows() -> Vec<String> {
    let matches = corpus("matches.txt").into_iter().map(|m| format!("{m} actions=drop"));
    let actions = corpus("actions.txt").into_iter().map(|line| {
        let (m, actions) = line.split_once('|').unwrap_or_else(|| panic!("no `|` in {line}"));
        format!("{} actions={}", m.trim(), actions.trim())
    });
    matches.chain(actions).collect()
}
