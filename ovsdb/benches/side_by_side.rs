//! This crate beside the tools that it replaces, on the same servers in the same run. Prints one line a figure and
//! fails where a figure misses its aim.
//!
//! `cargo bench -p ovsdb`

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark stops at the first surprise")]

#[path = "../tests/real/harness.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod harness;

use std::time::{Duration, Instant};

use harness::Ovs;
use ovsdb::ovs::{BridgeSpec, PortSpec, ensure_bridge, ensure_port};
use ovsdb::{Client, Columns, Condition, Datum, Monitored, Mutation, Transaction};

/// What is looked at more than once, to show the spread.
const ROUNDS: usize = 20;

const INTERFACES: usize = 10_000;

struct Report {
    missed: bool,
}

impl Report {
    fn figure(&mut self, what: &str, figure: f64, unit: &str, aim: Option<(f64, bool)>) {
        let verdict = match aim {
            None => String::new(),
            Some((aim, at_least)) => {
                let met = if at_least { figure >= aim } else { figure <= aim };
                self.missed |= !met;
                let (sign, verdict) =
                    (if at_least { ">=" } else { "<=" }, if met { "met" } else { "MISSED" });
                format!("  (aim {sign} {aim}: {verdict})")
            }
        };
        println!("{what:<58} {figure:>10.2} {unit}{verdict}");
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let Some(at) = args.iter().position(|arg| arg == MEMORY) {
        return memory(&args[at + 1]).await;
    }
    let mut report = Report { missed: false };
    ports(&mut report).await;
    replica(&mut report).await;
    if report.missed {
        std::process::exit(1);
    }
}

async fn bridge() -> (Ovs, Client) {
    let ovs = Ovs::switch();
    let client = ovs.ovs_client().await;
    ensure_bridge(&client, &BridgeSpec { datapath_type: "netdev".into(), ..BridgeSpec::new("br0") })
        .await
        .unwrap();
    (ovs, client)
}

/// Adding ports and reading their numbers, against `ovs-vsctl add-port` and `get`.
async fn ports(report: &mut Report) {
    let (ovs, client) = bridge().await;
    let mut theirs = Vec::new();
    for n in 0..ROUNDS {
        let name = format!("vsctl{n}");
        let start = Instant::now();
        ovs.vsctl(["add-port", "br0", &name]);
        ovs.vsctl(["get", "Interface", &name, "ofport"]);
        theirs.push(start.elapsed());
    }
    let mut ours = Vec::new();
    for n in 0..ROUNDS {
        let spec = PortSpec::new(format!("ours{n}"));
        let start = Instant::now();
        ensure_port(&client, "br0", &spec).await.unwrap();
        ours.push(start.elapsed());
    }
    let (theirs, ours) = (median(theirs), median(ours));
    report.figure("ovs-vsctl add-port + get, median", ms(theirs), "ms", None);
    report.figure("ensure_port, median", ms(ours), "ms", None);
    report.figure("ratio", theirs.as_secs_f64() / ours.as_secs_f64(), "x", Some((5.0, true)));
    drop((client, ovs));

    const MANY: usize = 1000;
    let (ovs, client) = bridge().await;
    let before = processor_time();
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..MANY {
        let client = client.clone();
        tasks.spawn(
            async move { ensure_port(&client, "br0", &PortSpec::new(format!("ours{n}"))).await.unwrap() },
        );
    }
    let mut numbers = tasks.join_all().await;
    let ours = start.elapsed();
    report.figure("of which processor time of this process", ms(processor_time() - before), "ms", None);
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), MANY);
    // A thousand runs of ovs-vsctl take long enough to be judged by a part of them, the first and fastest ones.
    let (ovs_b, _client_b) = bridge().await;
    let part = MANY / 5;
    let start = Instant::now();
    for n in 0..part {
        let name = format!("vsctl{n}");
        ovs_b.vsctl(["add-port", "br0", &name]);
        ovs_b.vsctl(["get", "Interface", &name, "ofport"]);
    }
    let theirs = start.elapsed() * u32::try_from(MANY / part).unwrap();
    report.figure("1,000 ports by ovs-vsctl (5 x 200)", ms(theirs), "ms", None);
    report.figure("1,000 ports pipelined", ms(ours), "ms", None);
    report.figure("ratio", theirs.as_secs_f64() / ours.as_secs_f64(), "x", Some((20.0, true)));
    drop(ovs);
}

/// The columns that a switch and a network plugin fill, with values as they look in life.
fn interface(n: usize) -> Columns {
    let mac = format!("0a:58:0a:80:{:02x}:{:02x}", n / 256, n % 256);
    let counters = [
        "collisions",
        "rx_bytes",
        "rx_crc_err",
        "rx_dropped",
        "rx_errors",
        "rx_frame_err",
        "rx_over_err",
        "rx_packets",
        "tx_bytes",
        "tx_dropped",
        "tx_errors",
        "tx_packets",
    ];
    let counters = counters.iter().enumerate().map(|(at, name)| (*name, i64::try_from(n * at).unwrap()));
    let ids = [
        ("sandbox", format!("{n:064x}")),
        ("ip", format!("10.128.{}.{}", n / 256, n % 256)),
        ("pod", format!("namespace-{}/deployment-{n}-abcde", n % 50)),
        ("attached-mac", mac.clone()),
    ];
    Columns::new()
        .with("name", format!("veth{n:08x}"))
        .with("external_ids", Datum::map(ids))
        .with("ofport", Datum::from(i64::try_from(n + 3).unwrap()))
        .with("ofport_request", Datum::from(i64::try_from(n + 3).unwrap()))
        .with("mac_in_use", mac)
        .with("mtu", 1450)
        .with("admin_state", "up")
        .with("link_state", "up")
        .with("link_resets", 1)
        .with("link_speed", 10_000_000_000i64)
        .with("duplex", "full")
        .with("ifindex", i64::try_from(n).unwrap())
        .with("statistics", Datum::map(counters))
        .with(
            "status",
            Datum::map([("driver_name", "veth"), ("driver_version", "1.0"), ("firmware_version", "")]),
        )
}

/// User and system time of this process, from /proc/self/stat in ticks of 10 ms.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<u64>().unwrap();
    Duration::from_millis(10 * (ticks(11) + ticks(12)))
}

fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1024.0
}

/// Asks this program to print the memory of a replica, by row of the table Interface.
const MEMORY: &str = "--memory-of";

async fn memory(socket: &str) {
    let before = resident();
    let client =
        Client::connect(&socket.parse().unwrap(), "Open_vSwitch", Monitored::everything()).await.unwrap();
    let after = resident();
    let rows: usize = client.replica().tables().map(|table| table.len()).sum();
    println!("{} {rows}", after - before);
}

/// The whole database into the replica, against `ovsdb-client dump` and the Python IDL.
async fn replica(report: &mut Report) {
    let ovs = Ovs::server();
    let writer = ovs.ovs_client().await;
    let mut tx = writer.transaction();
    let bridge = tx.insert("Bridge", Columns::new().with("name", "br0"));
    tx.insert("Open_vSwitch", Columns::new().with("bridges", &bridge));
    writer.transact(tx).await.unwrap();
    for chunk in (0..INTERFACES).collect::<Vec<_>>().chunks(1000) {
        let mut tx: Transaction = writer.transaction();
        let ports: Vec<_> = chunk
            .iter()
            .map(|&n| {
                let row = tx.insert("Interface", interface(n));
                tx.insert(
                    "Port",
                    Columns::new().with("name", format!("veth{n:08x}")).with("interfaces", &row),
                )
            })
            .collect();
        tx.mutate("Bridge", [Condition::eq("name", "br0")], [Mutation::insert("ports", Datum::set(ports))]);
        writer.transact(tx).await.unwrap();
    }
    drop(writer);

    let all = Monitored::everything();
    let socket = format!("unix:{}", ovs.socket().display());
    // In a process of its own: what this one has freed would hide the growth.
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args([MEMORY, &socket])
        .output()
        .unwrap();
    let said = String::from_utf8(child.stdout).unwrap();
    let figures: Vec<f64> = said.split_whitespace().map(|figure| figure.parse().unwrap()).collect();
    report.figure(
        "memory of the replica by interface (with its port)",
        figures[0] / INTERFACES as f64,
        "bytes",
        None,
    );
    report.figure("memory of the replica by row", figures[0] / figures[1], "bytes", Some((2048.0, false)));

    let (mut ours, mut dump, mut python) = (Vec::new(), Vec::new(), Vec::new());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/idl.py");
    for _ in 0..5 {
        let start = Instant::now();
        let client = ovs.client(all.clone()).await;
        ours.push(start.elapsed());
        assert_eq!(client.replica().table("Interface").unwrap().len(), INTERFACES);
        drop(client);
        let start = Instant::now();
        ovs.run("ovsdb-client", ["dump", &socket, "Open_vSwitch"]);
        dump.push(start.elapsed());
        let output = ovs
            .command_at("/usr/bin/python3", "python3-openvswitch")
            .args([script, &socket, &harness::vswitch_schema().display().to_string()])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success() && said.trim_end().ends_with(&INTERFACES.to_string()),
            "python3-openvswitch is missing? run `make deps`: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        python.push(Duration::from_secs_f64(said.split_whitespace().next().unwrap().parse().unwrap()));
    }
    let (ours, dump, python) = (median(ours), median(dump), median(python));
    report.figure("ovsdb-client dump of 10,000 interfaces, median", ms(dump), "ms", None);
    report.figure("Python IDL, median", ms(python), "ms", None);
    report.figure("replica, median", ms(ours), "ms", None);
    report.figure(
        "replica / ovsdb-client dump",
        ours.as_secs_f64() / dump.as_secs_f64(),
        "x",
        Some((1.5, false)),
    );
    report.figure("Python IDL / replica", python.as_secs_f64() / ours.as_secs_f64(), "x", Some((5.0, true)));
}
