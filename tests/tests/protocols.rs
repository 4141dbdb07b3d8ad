//! `sdnctl openflow` and `sdnctl ovsdb` beside the tools of Open vSwitch, on the same switch and database.

#![allow(clippy::indexing_slicing, reason = "a test may stop at the first surprise")]

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, ensure};
use tests::{Lab, Paused, binary, both, run};

#[path = "../../ovsdb/tests/real/authority.rs"]
#[allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod authority;
#[path = "../../ovsdb/tests/real/harness.rs"]
#[allow(dead_code, clippy::unwrap_used, reason = "a part of the harness of the crate ovsdb is enough here")]
mod harness;

const NODE: &str = "node1";

fn sdnctl(arguments: &[&str]) -> anyhow::Result<Command> {
    let mut command = Command::new(binary("sdnctl")?);
    command.args(arguments);
    Ok(command)
}

/// Runs with `input` on standard input.
fn with_input(command: &mut Command, input: &str) -> anyhow::Result<Output> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().context("no stdin")?.write_all(input.as_bytes())?;
    Ok(child.wait_with_output()?)
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.sort_unstable();
    lines
}

#[test]
fn a_switchs_flows_are_dumped_added_and_replaced() -> anyhow::Result<()> {
    let lab = Lab::up(&["--nodes", "1"])?;
    let dir = lab.ovs_dir(NODE)?;
    let bridge = format!("unix:{}", dir.join("br-phy.mgmt").display());
    let flows = tempfile::NamedTempFile::new()?;
    let file = flows.path().to_str().context("a path of text")?;
    let dumped = || run(&mut sdnctl(&["openflow", "dump-flows", &bridge])?);
    let theirs = || lab.ovs(NODE, &["ovs-ofctl", "-O", "OpenFlow13", "--no-stats", "dump-flows", "br-phy"]);

    std::fs::write(
        &flows,
        "table=1,priority=5,ip,actions=drop # a comment\n\ncookie=0x7,table=1,arp,actions=output:1\n",
    )?;
    run(&mut sdnctl(&["openflow", "add-flows", &bridge, file])?)?;
    let after = theirs()?;
    for flow in ["table=1, priority=5,ip actions=drop", "cookie=0x7, table=1, arp actions=output:1"] {
        ensure!(after.contains(flow), "{flow} is not in\n{after}");
    }
    let one = run(&mut sdnctl(&["openflow", "dump-flows", &bridge, "table=1,arp"])?)?;
    ensure!(one.lines().count() == 1 && one.contains("n_packets="), "{one}");

    std::fs::write(&flows, "table=2,priority=1,actions=drop\nactions=NORMAL\n")?;
    run(&mut sdnctl(&["openflow", "replace-flows", &bridge, file])?)?;
    ensure!(sorted(&theirs()?) == ["actions=NORMAL", "table=2, priority=1 actions=drop"], "{}", theirs()?);

    // All or none: the second of these is refused, so the first is not there either.
    std::fs::write(&flows, "table=3,actions=drop\ntable=3,priority=9,actions=group:77\n")?;
    let refused = sdnctl(&["openflow", "add-flows", &bridge, file])?.output()?;
    ensure!(refused.status.code() == Some(3) && both(&refused).contains("group:77"), "{}", both(&refused));
    ensure!(!dumped()?.contains("table=3"), "half of a bundle is there");
    Ok(())
}

#[test]
fn messages_are_read_as_ovs_ofctl_reads_them() -> anyhow::Result<()> {
    let text =
        "table=20,priority=100,ip,in_port=4,nw_src=10.130.0.6,actions=load:0x5->NXM_NX_REG0[],goto_table:21";
    let hex = run(&mut sdnctl(&["openflow", "parse-flow", "--hex", text])?)?;
    let ours = run(&mut sdnctl(&["openflow", "decode", hex.trim()])?)?;
    let theirs = run(Command::new("ovs-ofctl").args(["ofp-print", hex.trim()]))?;
    ensure!(ours.trim() == theirs.trim(), "{ours}{theirs}");
    let again = run(&mut sdnctl(&["openflow", "reencode", hex.trim()])?)?;
    ensure!(again == hex, "{again}");

    let flow = run(&mut sdnctl(&["openflow", "parse-flow", text])?)?;
    ensure!(
        flow.trim()
            == "table=20, priority=100,ip,in_port=4,nw_src=10.130.0.6 actions=load:0x5->NXM_NX_REG0[],goto_table:21",
        "{flow}"
    );
    let actions = run(&mut sdnctl(&["openflow", "parse-actions", "mod_nw_src:1.2.3.4,output:3"])?)?;
    ensure!(actions.contains("output:3"), "{actions}");
    Ok(())
}

#[test]
fn what_cannot_be_read_is_said_and_the_rest_is_read() -> anyhow::Result<()> {
    let hello = "0400000800000001";
    let output =
        with_input(&mut sdnctl(&["openflow", "decode", "-"])?, &format!("{hello}\nzz\n04\n{hello}\n"))?;
    ensure!(output.status.code() == Some(3), "{}", both(&output));
    let (out, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(out.matches("OFPT_HELLO").count() == 2, "{out}");
    ensure!(errors.contains("line 2:") && errors.contains("line 3:"), "{errors}");

    let wrong = sdnctl(&["openflow", "parse-flow", "tcp,nw_srk=1.2.3.4,actions=drop"])?.output()?;
    ensure!(wrong.status.code() == Some(3) && both(&wrong).contains("nw_srk"), "{}", both(&wrong));
    Ok(())
}

#[test]
fn a_database_is_dumped_and_changed() -> anyhow::Result<()> {
    let lab = Lab::up(&["--nodes", "1"])?;
    let server = format!("unix:{}", lab.ovs_dir(NODE)?.join("db.sock").display());
    let ask = |arguments: &[&str]| sdnctl(&[&["ovsdb", "--db", &server], arguments].concat());
    for table in ["Bridge", "Port"] {
        let ours = run(&mut ask(&["dump", "Open_vSwitch", table])?)?;
        let theirs = run(Command::new("ovsdb-client").args(["dump", &server, "Open_vSwitch", table]))?;
        ensure!(ours.trim() == theirs.trim(), "{ours}\n{theirs}");
    }

    let select = r#"[{"op":"select","table":"Bridge","where":[["name","==","br0"]],"columns":["fail_mode","protocols"]}]"#;
    let reply: serde_json::Value =
        serde_json::from_str(&run(&mut ask(&["transact", "Open_vSwitch", select])?)?)?;
    ensure!(reply[0]["rows"][0]["fail_mode"] == "secure", "{reply}");
    ensure!(reply[0]["rows"][0]["protocols"] == "OpenFlow13", "{reply}");

    let failing =
        ask(&["transact", "Open_vSwitch", r#"[{"op":"select","table":"Nonsense","where":[]}]"#])?.output()?;
    ensure!(failing.status.code() == Some(1), "{}", both(&failing));
    let wrong = ask(&["transact", "Open_vSwitch", "{"])?.output()?;
    ensure!(wrong.status.code() == Some(2), "{}", both(&wrong));
    for command in ["dump", "monitor"] {
        let unknown = ask(&[command, "Open_vSwitch", "Brigde"])?.output()?;
        let said = both(&unknown);
        ensure!(unknown.status.code() == Some(3), "{said}");
        ensure!(said.contains("has no table Brigde; it has") && said.contains("Bridge"), "{said}");
    }

    // The table, then each change.
    let mut monitor = ask(&["monitor", "Open_vSwitch", "Bridge"])?.stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(monitor.stdout.take().context("no stdout")?).lines();
    let heading = lines.next().context("nothing is printed")??;
    ensure!(heading == "Bridge table", "{heading}");
    let rows = run(&mut ask(&["dump", "Open_vSwitch", "Bridge"])?)?.trim().lines().count() - 1;
    for _ in 0..rows {
        lines.next().context("the table ends early")??;
    }
    let update = r#"[{"op":"mutate","table":"Bridge","where":[["name","==","br-phy"]],"mutations":[["external_ids","insert",["map",[["a","b"]]]]]}]"#;
    run(&mut ask(&["transact", "Open_vSwitch", update])?)?;
    let changed = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("external_ids")));
    monitor.kill()?;
    monitor.wait()?;
    let changed = changed.context("the change is not printed")??;
    ensure!(changed.starts_with("modify Bridge ") && changed.contains("->{a=b}"), "{changed}");

    // A switch that stands still is said, not waited for.
    let paused = Paused::new(tests::daemon(&lab.status()?, NODE, "ovs-vswitchd")?)?;
    let stuck = lab.sdnctl(&["trace", "--node", NODE, "--live", "in_port=2,ip"]).output()?;
    drop(paused);
    ensure!(stuck.status.code() == Some(3), "{}", both(&stuck));
    ensure!(both(&stuck).contains("no answer to ofproto/trace within"), "{}", both(&stuck));
    Ok(())
}

/// Database and switch over TLS, with the options of the tools of Open vSwitch.
#[test]
fn ssl_is_spoken_with_key_certificate_and_authority() -> anyhow::Result<()> {
    let mut ovs = harness::Ovs::with_schema(&harness::vswitch_schema(), &["pssl:0:127.0.0.1"]);
    let authority = authority::certificate(&ovs, "ca", None);
    for name in ["server", "client"] {
        authority::certificate(&ovs, name, Some(&authority));
    }
    authority::certificate(&ovs, "stranger", None);
    let files = |name: &str, authority: &str| {
        [
            ("private-key", format!("{name}-key")),
            ("certificate", format!("{name}-cert")),
            ("ca-cert", authority.into()),
        ]
        .map(|(option, file)| format!("--{option}={}", ovs.path(&format!("{file}.pem")).display()))
    };
    let (server, client, stranger) =
        (files("server", "ca-cert"), files("client", "ca-cert"), files("client", "stranger-cert"));
    let [key, certificate, ca] = ["server-key", "server-cert", "ca-cert"]
        .map(|file| ovs.path(&format!("{file}.pem")).display().to_string());
    ovs.kill_server();
    ovs.start_server_with(&server.each_ref().map(String::as_str));
    ovs.vsctl(["--no-wait", "init", "--", "set-ssl", &key, &certificate, &ca]);
    ovs.start_switch();
    ovs.vsctl(["add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=dummy"]);
    ovs.vsctl(["set-controller", "br0", "pssl:0:127.0.0.1"]);
    let database = format!("ssl:127.0.0.1:{}", authority::port(&ovs, "ovsdb-server"));
    let switch = format!("ssl:127.0.0.1:{}", authority::port(&ovs, "ovs-vswitchd"));
    let dump = ["ovsdb", "--db", &database, "dump", "Open_vSwitch", "Bridge"];
    let flows = ["openflow", "dump-flows", &switch];
    for (command, want) in [(&dump[..], "br0"), (&flows[..], "actions=NORMAL")] {
        let with = |tls: &[String]| -> anyhow::Result<Output> { Ok(sdnctl(command)?.args(tls).output()?) };
        let said = with(&client)?;
        ensure!(said.status.success() && both(&said).contains(want), "{}", both(&said));
        let refused = with(&stranger)?;
        ensure!(
            refused.status.code() == Some(3) && both(&refused).contains("certificate"),
            "{}",
            both(&refused)
        );
        let half = with(&client[..2])?;
        ensure!(half.status.code() == Some(2) && both(&half).contains("needs --ca-cert"), "{}", both(&half));
        let none = with(&[])?;
        ensure!(
            none.status.code() == Some(2) && both(&none).contains("needs --private-key"),
            "{}",
            both(&none)
        );
    }
    Ok(())
}
