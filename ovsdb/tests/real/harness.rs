//! Real daemons in a temporary directory each, ended with the value that stands for them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ovsdb::{Client, Endpoint, Monitored};

/// For what normally takes milliseconds, on a machine that may be very busy.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// A run directory with a database, its server, and maybe a switch.
pub(crate) struct Ovs {
    dir: tempfile::TempDir,
    server: Option<Daemon>,
    switch: Option<Daemon>,
    remotes: Vec<String>,
}

/// A child process that ends with its owner, and with the test's process whatever becomes of that.
struct Daemon(Child);

impl Daemon {
    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id().cast_signed()), signal).unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn program(name: &str) -> Command {
    let found = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin", "/sbin", "/bin"]
        .iter()
        .map(|dir| Path::new(dir).join(name))
        .find(|path| path.exists());
    match found {
        Some(path) => Command::new(path),
        None => panic!("{name} is not installed: run `make deps`"),
    }
}

/// The schema of Open_vSwitch that the packages install.
pub(crate) fn vswitch_schema() -> PathBuf {
    let path = PathBuf::from("/usr/share/openvswitch/vswitch.ovsschema");
    assert!(path.exists(), "{} is not installed: run `make deps`", path.display());
    path
}

impl Ovs {
    /// A server with an empty database Open_vSwitch.
    pub(crate) fn server() -> Ovs {
        Ovs::with_schema(&vswitch_schema(), &[])
    }

    /// A server with an empty database of some schema, that also listens on these remotes.
    pub(crate) fn with_schema(schema: &Path, remotes: &[&str]) -> Ovs {
        let dir = tempfile::tempdir().unwrap();
        let mut ovs = Ovs {
            dir,
            server: None,
            switch: None,
            remotes: remotes.iter().map(|&remote| remote.to_owned()).collect(),
        };
        let create =
            ovs.command("ovsdb-tool").arg("create").arg(ovs.database()).arg(schema).output().unwrap();
        assert!(create.status.success(), "{}", String::from_utf8_lossy(&create.stderr));
        ovs.start_server();
        ovs
    }

    /// The only server of a cluster: unlike a plain one it remembers the transactions that `monitor_cond_since`
    /// asks for.
    pub(crate) fn cluster() -> Ovs {
        Ovs::member(|ovs| {
            let schema = vswitch_schema().display().to_string();
            vec!["create-cluster".into(), ovs.database().display().to_string(), schema, ovs.raft()]
        })
    }

    /// One more server of a cluster, once it is a part of it.
    pub(crate) fn join(first: &Ovs) -> Ovs {
        let ovs = Ovs::member(|ovs| {
            let database = ovs.database().display().to_string();
            vec!["join-cluster".into(), database, "Open_vSwitch".into(), ovs.raft(), first.raft()]
        });
        ovs.until_connected();
        ovs
    }

    fn member(create: impl FnOnce(&Ovs) -> Vec<String>) -> Ovs {
        let dir = tempfile::tempdir().unwrap();
        let mut ovs = Ovs { dir, server: None, switch: None, remotes: Vec::new() };
        ovs.run("ovsdb-tool", create(&ovs));
        ovs.start_server();
        ovs
    }

    /// Where the cluster's servers speak with each other.
    fn raft(&self) -> String {
        format!("unix:{}", self.path("raft.sock").display())
    }

    /// Waits until the server is in touch with its cluster.
    pub(crate) fn until_connected(&self) {
        let socket = format!("unix:{}", self.socket().display());
        let seconds = LONG.as_secs().to_string();
        self.run("ovsdb-client", ["-t", &seconds, "wait", &socket, "Open_vSwitch", "connected"]);
    }

    pub(crate) fn is_leader(&self) -> bool {
        let status = self.run("ovs-appctl", ["-t", "ovsdb-server", "cluster/status", "Open_vSwitch"]);
        status.contains("Role: leader")
    }

    /// A server and a switch whose devices are all dummies.
    pub(crate) fn switch() -> Ovs {
        let mut ovs = Ovs::server();
        ovs.run("ovs-vsctl", ["--no-wait", "init"]);
        ovs.start_switch();
        ovs
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn database(&self) -> PathBuf {
        self.path("conf.db")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("db.sock")
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint::Unix(self.socket())
    }

    /// A program that sees this run directory as its own.
    pub(crate) fn command(&self, name: &str) -> Command {
        let mut command = program(name);
        self.environment(&mut command);
        command
    }

    /// A program at a fixed place.
    pub(crate) fn command_at(&self, path: &str, package: &str) -> Command {
        assert!(Path::new(path).exists(), "{package} is not installed: run `make deps`");
        let mut command = Command::new(path);
        self.environment(&mut command);
        command
    }

    fn environment(&self, command: &mut Command) {
        for variable in ["OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR", "OVS_SYSCONFDIR"] {
            command.env(variable, self.dir.path());
        }
        command.current_dir(self.dir.path()).stdin(Stdio::null());
    }

    /// Runs a program to its end and returns its output; panics if it fails.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, name: &str, args: impl IntoIterator<Item = S>) -> String {
        let output = self.command(name).args(args).output().unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// `ovs-vsctl` on this database.
    pub(crate) fn vsctl<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> String {
        self.run("ovs-vsctl", args).trim_end().to_owned()
    }

    fn start(&self, name: &str, args: &[&str]) -> Daemon {
        let log = std::fs::File::create(self.path(&format!("{name}.out"))).unwrap();
        // The kernel ends the daemon if this process is killed before it can do so.
        let mut command = program("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(program(name).get_program()).args(args);
        self.environment(&mut command);
        let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        Daemon(child)
    }

    pub(crate) fn start_server(&mut self) {
        self.start_server_with(&[]);
    }

    pub(crate) fn start_server_with(&mut self, options: &[&str]) {
        let _ = std::fs::remove_file(self.socket());
        let _ = std::fs::remove_file(self.path("ovsdb-server.log"));
        let mut args = vec!["--remote=punix:db.sock".to_owned(), "--pidfile".into(), "--log-file".into()];
        args.extend(self.remotes.iter().map(|remote| format!("--remote={remote}")));
        args.extend(options.iter().map(|&option| option.to_owned()));
        args.push(self.database().display().to_string());
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        self.server = Some(self.start("ovsdb-server", &args));
        self.until_accepting(&self.socket(), "ovsdb-server");
    }

    pub(crate) fn start_switch(&mut self) {
        let socket = format!("unix:{}", self.socket().display());
        let args = ["--enable-dummy=override", "--disable-system", "--pidfile", "--log-file", &socket];
        self.switch = Some(self.start("ovs-vswitchd", &args));
    }

    /// As by SIGKILL.
    pub(crate) fn kill_server(&mut self) {
        self.server = None;
    }

    pub(crate) fn signal_server(&self, signal: Signal) {
        self.server.as_ref().unwrap().signal(signal);
    }

    pub(crate) fn signal_switch(&self, signal: Signal) {
        self.switch.as_ref().unwrap().signal(signal);
    }

    /// The log of the switch.
    pub(crate) fn switch_says(&self) -> String {
        std::fs::read_to_string(self.path("ovs-vswitchd.log")).unwrap()
    }

    /// As by SIGKILL.
    pub(crate) fn kill_switch(&mut self) {
        self.switch = None;
    }

    fn until_accepting(&self, socket: &Path, daemon: &str) {
        let deadline = Instant::now() + LONG;
        while std::os::unix::net::UnixStream::connect(socket).is_err() {
            let log = std::fs::read_to_string(self.path(&format!("{daemon}.out"))).unwrap_or_default();
            assert!(Instant::now() < deadline, "{daemon} does not listen: {log}");
            std::thread::yield_now();
        }
    }

    pub(crate) async fn client(&self, monitored: Monitored) -> Client {
        Client::connect(&self.endpoint(), "Open_vSwitch", monitored).await.unwrap()
    }

    /// A client with what the bridge and port functions need.
    pub(crate) async fn ovs_client(&self) -> Client {
        self.client(ovsdb::ovs::monitored()).await
    }
}

/// Puts a deadline around what should not take long.
pub(crate) async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, work).await.expect("it takes much too long")
}

/// Waits for something the replica will show.
pub(crate) async fn eventually<T>(client: &Client, f: impl FnMut(&ovsdb::Replica) -> Option<T>) -> T {
    match tokio::time::timeout(LONG, client.wait_for(f)).await {
        Ok(found) => found,
        Err(_) => panic!("it did not happen; the replica is {}", show(&client.replica())),
    }
}

/// All rows, readably.
pub(crate) fn show(replica: &ovsdb::Replica) -> String {
    let mut rows: Vec<String> =
        replica.tables().flat_map(|table| table.rows()).map(|row| format!("{row:?}")).collect();
    rows.sort();
    rows.join("\n")
}
