//! A real `ovs-vswitchd` with the dummy datapath, in a directory of its own.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use controller::cli::trace::ofproto::{SwitchTrace, parse};
use flowtables::flowset::FlowSet;
use flowtables::walk::{Assumptions, ct_state_text};
use openflow::message::{ConfigFlags, SwitchConfig};
use openflow::{Endpoint, Modification, Switch};

/// How long a daemon may take to start, or a trace to come.
const PATIENCE: Duration = Duration::from_secs(20);

/// The switch, gone when dropped.
pub struct DummySwitch {
    dir: tempfile::TempDir,
    children: Vec<Child>,
}

impl DummySwitch {
    /// A switch with the bridge `br0` and the ports 1 (`vxlan0`), 2 (`tun0`) and 3 to `last`.
    ///
    /// # Errors
    /// When Open vSwitch is not installed or does not come up.
    pub fn start(last: u32) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("walker-ovs-").tempdir()?;
        let mut switch = Self { dir, children: Vec::new() };
        let database = switch.path("conf.db");
        run(Command::new("ovsdb-tool")
            .arg("create")
            .arg(&database)
            .arg("/usr/share/openvswitch/vswitch.ovsschema"))?;
        let socket = switch.path("db.sock");
        let remote = format!("unix:{}", socket.display());
        switch.daemon("ovsdb-server", &[&database.to_string_lossy(), &format!("--remote=p{remote}")])?;
        wait_for(&socket)?;
        switch.vsctl(&["--no-wait", "init"])?;
        let options = ["--enable-dummy=override", "--disable-system", "--disable-system-route"];
        switch.daemon("ovs-vswitchd", &[&[remote.as_str()], options.as_slice()].concat())?;
        let mut commands = "add-br br0 -- set bridge br0 datapath_type=dummy fail_mode=secure protocols=OpenFlow13 \
             -- add-port br0 vxlan0 -- set interface vxlan0 type=vxlan ofport_request=1 options:remote_ip=flow \
             options:key=flow -- add-port br0 tun0 -- set interface tun0 type=internal ofport_request=2"
            .to_owned();
        for port in 3..=last {
            commands += &format!(
                " -- add-port br0 p{port} -- set interface p{port} type=dummy ofport_request={port}"
            );
        }
        switch.vsctl(&commands.split_whitespace().collect::<Vec<_>>())?;
        wait_for(&switch.path("br0.mgmt"))?;
        Ok(switch)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn daemon(&mut self, program: &str, args: &[&str]) -> anyhow::Result<()> {
        let log = std::fs::File::create(self.path(&format!("{program}.out")))?;
        let child = Command::new(program)
            .args(args)
            .arg(format!("--pidfile={}", self.path(&format!("{program}.pid")).display()))
            .env("OVS_RUNDIR", self.dir.path())
            .env("OVS_LOGDIR", self.dir.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot run {program}; `make deps` installs Open vSwitch"))?;
        self.children.push(child);
        Ok(())
    }

    fn vsctl(&self, args: &[&str]) -> anyhow::Result<()> {
        let database = format!("--db=unix:{}", self.path("db.sock").display());
        run(Command::new("ovs-vsctl").arg("--timeout=20").arg(database).args(args))
    }

    /// Makes the bridge hold exactly these flows and groups, and reads them back.
    ///
    /// # Errors
    /// When it refuses them, or returns others than it was sent.
    pub async fn load(&self, flows: &FlowSet) -> anyhow::Result<()> {
        let switch = Switch::connect(&Endpoint::Unix(self.path("br0.mgmt"))).await?;
        let config = SwitchConfig { flags: ConfigFlags::FRAG_NX_MATCH, ..SwitchConfig::default() };
        switch.set_config(config).await?;
        let actual = controller::node::ovs::syncer::read(&switch).await?;
        let diff = flowtables::flowset::diff::diff(&actual.flows, flows);
        let groups = flowtables::flowset::groups::diff(&actual.groups, flows);
        let before = groups.before_flows().into_iter().map(Modification::Group);
        let after = groups.after_flows().into_iter().map(Modification::Group);
        let changes = diff.modifications().into_iter().map(Modification::Flow);
        switch.bundle(before.chain(changes).chain(after).collect()).await?;
        let actual = controller::node::ovs::syncer::read(&switch).await?;
        let left = flowtables::flowset::groups::diff(&actual.groups, flows);
        ensure!(left.is_empty(), "the switch holds other groups than it was sent: {left:#?}");
        let left = flowtables::flowset::diff::diff(&actual.flows, flows);
        ensure!(left.is_empty(), "the switch holds other flows than it was sent: {left:#?}");
        Ok(())
    }

    /// What `ovs-ofctl COMMAND br0` prints of it: another's reading of what it holds.
    ///
    /// # Errors
    /// When the command fails.
    pub fn ofctl(&self, command: &[&str]) -> anyhow::Result<String> {
        let bridge = format!("unix:{}", self.path("br0.mgmt").display());
        let (verb, rest) = command.split_first().context("no command")?;
        let mut all = Command::new("ovs-ofctl");
        crate::run(all.args(["-O", "OpenFlow13", "--no-names", "--no-stats", verb, &bridge]).args(rest))
    }

    /// The switch's own trace of a packet, read and as text. Of the assumptions, `ct_next` counts; behind it the switch
    /// assumes a new connection.
    ///
    /// # Errors
    /// When it does not answer or does not take the packet.
    pub async fn trace(
        &self,
        packet: &str,
        assumptions: &Assumptions,
    ) -> anyhow::Result<(SwitchTrace, String)> {
        let states: Vec<String> = assumptions.ct_next.iter().map(|state| ct_state_text(*state)).collect();
        let mut arguments: Vec<&str> = states.iter().flat_map(|state| ["--ct-next", state]).collect();
        arguments.extend(["br0", packet]);
        let control = ovsdb::unixctl::control_socket(self.dir.path(), "ovs-vswitchd")?;
        let text =
            tokio::time::timeout(PATIENCE, ovsdb::unixctl::call(&control, "ofproto/trace", &arguments))
                .await
                .context("no answer to ofproto/trace")??;
        if !text.contains("bridge(") {
            bail!("the switch did not trace {packet}: {text}");
        }
        Ok((parse(&text), text))
    }
}

impl Drop for DummySwitch {
    fn drop(&mut self) {
        // The switch first, then its database.
        for child in self.children.iter_mut().rev() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().with_context(|| {
        format!("cannot run {:?}; `make deps` installs Open vSwitch", command.get_program())
    })?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// A socket's file is there a moment before anybody listens.
fn wait_for(socket: &Path) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = UnixStream::connect(socket) {
        ensure!(Instant::now() < deadline, "{}: {error}", socket.display());
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
