//! Random transactions while servers die and connections are cut: the replica never goes wrong, no write is lost or
//! done twice.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ovsdb::{Client, Columns, Condition, Datum, Mutation, Replica, TransactError, Transaction};

use crate::harness::{LONG, Ovs, soon};
use crate::proxy::Proxy;
use crate::replica::{as_dump, dump, everything};

/// xorshift64*: the same faults each time, others for another seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % limit
    }

    fn word(&mut self) -> String {
        let length = self.below(12);
        (0..length)
            .map(|_| ['a', '"', '\\', 'ä', '\u{1F600}', '{', ']', ' '][self.below(8) as usize])
            .collect()
    }

    fn map(&mut self) -> Datum {
        let size = self.below(4);
        Datum::map((0..size).map(|_| (format!("k{}", self.below(6)), self.word())).collect::<Vec<_>>())
    }

    fn vlans(&mut self) -> Datum {
        let size = self.below(5);
        Datum::set((0..size).map(|_| i64::try_from(self.below(20)).unwrap()).collect::<Vec<_>>())
    }
}

/// One transaction of a second client. Some of them can't succeed, which is fine.
fn random_transaction(random: &mut Random, replica: &Replica) -> Transaction {
    let mut tx = Transaction::new("Open_vSwitch");
    for _ in 0..=random.below(3) {
        let bridge = format!("b{}", random.below(6));
        let port = format!("p{}", random.below(40));
        let of_bridge = [Condition::eq("name", bridge.as_str())];
        match random.below(10) {
            0 => {
                let row = Columns::new().with("name", bridge).with("external_ids", random.map());
                let row = tx.insert("Bridge", row.with("flood_vlans", random.vlans()));
                tx.mutate("Open_vSwitch", [], [Mutation::insert("bridges", &row)]);
            }
            1 if random.below(3) == 0 => {
                if let Some(row) = replica.named("Bridge", &bridge) {
                    tx.mutate("Open_vSwitch", [], [Mutation::delete("bridges", row.uuid())]);
                }
            }
            1..=4 => {
                let interface = Columns::new().with("name", port.as_str()).with("external_ids", random.map());
                let interface =
                    tx.insert("Interface", interface.with("ofport", i64::try_from(random.below(9)).unwrap()));
                let port = Columns::new().with("name", port).with("interfaces", &interface);
                let port = tx.insert("Port", port.with("trunks", random.vlans()));
                tx.mutate("Bridge", of_bridge, [Mutation::insert("ports", &port)]);
            }
            5 => {
                if let Some(row) = replica.named("Port", &port) {
                    tx.mutate("Bridge", [], [Mutation::delete("ports", row.uuid())]);
                }
            }
            6 => {
                let keys = Datum::set([format!("k{}", random.below(6))]);
                let of_port = [Condition::eq("name", port)];
                let mutations =
                    [Mutation::delete("external_ids", keys), Mutation::insert("external_ids", random.map())];
                tx.mutate("Interface", of_port, mutations);
            }
            7 => {
                let mutations = [
                    Mutation::insert("flood_vlans", random.vlans()),
                    Mutation::delete("flood_vlans", random.vlans()),
                ];
                tx.mutate("Bridge", of_bridge, mutations);
            }
            8 => {
                let mode = [Datum::empty_set(), "secure".into(), "standalone".into()]
                    [random.below(3) as usize]
                    .clone();
                tx.update(
                    "Bridge",
                    of_bridge,
                    Columns::new().with("fail_mode", mode).with("other_config", random.map()),
                );
            }
            _ => {
                tx.update(
                    "Port",
                    [Condition::eq("name", port)],
                    Columns::new().with("trunks", random.vlans()),
                );
            }
        }
    }
    tx
}

/// What became of the numbered writes.
#[derive(Default)]
struct Ledger {
    done: BTreeSet<String>,
    /// Found done on a look after a cut: the reply was lost.
    looked: u32,
    /// Planned once more.
    again: u32,
}

fn marks(replica: &Replica) -> BTreeSet<String> {
    let root = replica.rows("Open_vSwitch").next();
    let ids = root.and_then(|root| root.get("external_ids")).map(Datum::to_string_map).unwrap_or_default();
    ids.into_keys().filter(|key| key.starts_with("mark")).collect()
}

/// Writes numbered marks through a connection that is cut again and again, each with one more in a counter.
async fn write_marks(client: &Client, stop: &AtomicBool) -> Ledger {
    let mut ledger = Ledger::default();
    for n in 0.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let mark = format!("mark{n}");
        let mine = Datum::map([(mark.as_str(), "1")]);
        let mut plans = 0;
        let plan = |replica: &Replica| {
            let mut tx = client.transaction();
            if !marks(replica).contains(&mark) {
                plans += 1;
                tx.guard_none("Open_vSwitch", [Condition::includes("external_ids", mine.clone())]);
                let mark = Mutation::insert("external_ids", mine.clone());
                tx.mutate("Open_vSwitch", [], [mark, Mutation::add("next_cfg", 1)]);
            }
            Ok::<_, TransactError>(((), tx))
        };
        let ((), reply) = client.transact_planned(plan).await.unwrap();
        assert!(marks(&client.replica()).contains(&mark), "the replica is at least as new as the reply");
        ledger.looked += u32::from(reply.is_none());
        ledger.again += u32::from(plans > 1);
        ledger.done.insert(mark);
    }
    ledger
}

async fn survive(ovs: &mut Ovs, seed: u64, transactions: u32, kills: bool) -> (Client, Ledger, Proxy) {
    ovs.vsctl(["--no-wait", "init"]);
    let proxy = Proxy::new(&ovs.path("proxy.sock"), ovs.socket());
    let endpoint = ovsdb::Endpoint::Unix(ovs.path("proxy.sock"));
    let client = Client::connect(&endpoint, "Open_vSwitch", everything()).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let marker = tokio::spawn({
        let (client, stop) = (client.clone(), stop.clone());
        async move { write_marks(&client, &stop).await }
    });
    let writer = ovs.client(everything()).await;
    let mut random = Random(seed);
    for n in 1..=transactions {
        soon(writer.wait_connected()).await;
        let tx = random_transaction(&mut random, &writer.replica());
        match soon(writer.transact(tx)).await {
            Ok(_)
            | Err(
                TransactError::Refused(_) | TransactError::NotConnected(_) | TransactError::OutcomeUnknown(_),
            ) => {}
            Err(error) => panic!("seed {seed}, transaction {n}: {error}"),
        }
        // A connection that was cut gets the time to come back, or none would ever get further than its snapshot.
        if n % 25 == 0 {
            let mut changes = client.changes();
            soon(changes.wait_for(|status| status.connected)).await.unwrap();
            proxy.cut_after(u32::try_from(random.below(20_000)).unwrap());
        }
        if kills && n % 150 == 0 {
            ovs.kill_server();
            ovs.start_server();
        }
    }
    stop.store(true, Ordering::SeqCst);
    let ledger = soon(marker).await.unwrap();
    // Nobody writes any more: the replica has to come to the dump.
    let socket = format!("unix:{}", ovs.socket().display());
    let theirs = dump(ovs, &socket, "Open_vSwitch");
    let equal = client.wait_for(|replica| (as_dump(replica) == theirs).then_some(()));
    if tokio::time::timeout(LONG, equal).await.is_err() {
        panic!("seed {seed}: ours:\n{:#?}\ntheirs:\n{theirs:#?}", as_dump(&client.replica()));
    }
    let present = marks(&client.replica());
    assert_eq!(present, ledger.done, "seed {seed}: each is there");
    let counted = client.replica().rows("Open_vSwitch").next().unwrap().i64("next_cfg").unwrap();
    assert_eq!(usize::try_from(counted).unwrap(), present.len(), "seed {seed}: nothing was done twice");
    (client, ledger, proxy)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_replica_survives_kills_and_cuts() {
    let mut ovs = Ovs::server();
    let (client, ledger, _proxy) = survive(&mut ovs, 1, 2000, true).await;
    let status = client.status();
    assert!(status.connections > 20, "{status:?}");
    let (looked, again) = (ledger.looked, ledger.again);
    assert!(looked + again > 0, "no write was under way at any of {} cuts", status.connections);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clusters_replica_resumes_after_cuts() {
    let mut ovs = Ovs::cluster();
    let (client, _, proxy) = survive(&mut ovs, 2, 600, false).await;
    // The server remembers at most a hundred transactions, and together no more values than the database holds: a
    // disconnect in the turmoil may well outlast that. Now that it is quiet, one more cut, in the midst of an update,
    // between two small transactions.
    let queues = |count: usize| {
        ovs.vsctl(["--no-wait", "create", "Queue", "dscp=1"]);
        soon(client.wait_for(move |replica| (replica.table("Queue")?.len() == count).then_some(())))
    };
    queues(1).await;
    let before = client.status();
    proxy.cut_after(20);
    queues(2).await;
    let after = client.status();
    assert!(after.connections > before.connections && after.resumed > before.resumed, "{before:?} {after:?}");
}
