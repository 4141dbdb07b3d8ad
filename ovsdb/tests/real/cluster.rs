//! A database on three servers (ovsdb(7), "Clustered Database Service Model"): the leader is killed, the client moves
//! on, nothing is lost or done twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use ovsdb::{Client, Columns, Datum, Mutation, Options, Replica, TransactError, Uuid};

use crate::harness::{LONG, Ovs, eventually, soon};
use crate::replica::{as_dump, dump, everything};

/// The root row, how often it was written to, and by which writes.
fn root(replica: &Replica) -> Option<(Uuid, i64, Vec<String>)> {
    let row = replica.rows("Open_vSwitch").next()?;
    let mut marks: Vec<String> = row.get("external_ids")?.to_string_map().into_keys().collect();
    marks.sort_by_key(|mark| mark.len());
    Some((row.uuid(), row.i64("next_cfg")?, marks))
}

/// Makes one mark and counts it, in one transaction that fails if anything has been counted since the look.
async fn mark(client: &Client, mark: &str) {
    let plan = |replica: &Replica| {
        let Some((uuid, count, marks)) = root(replica) else {
            return Err(TransactError::NotConnected("no row yet".to_owned()));
        };
        let mut tx = client.transaction();
        if marks.iter().all(|known| known != mark) {
            tx.guard("Open_vSwitch", uuid, Columns::new().with("next_cfg", count));
            let marked = Mutation::insert("external_ids", Datum::map([(mark, "1")]));
            tx.mutate("Open_vSwitch", [], [marked, Mutation::add("next_cfg", 1)]);
        }
        Ok(((), tx))
    };
    loop {
        match client.transact_planned(plan).await {
            Ok(_) => return,
            // A cluster without a leader for longer than a refusal is waited out.
            Err(TransactError::NotConnected(_) | TransactError::Refused(_)) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

async fn survive(leader_only: bool) {
    let first = Ovs::cluster();
    let mut servers = vec![Ovs::join(&first), Ovs::join(&first)];
    servers.insert(0, first);
    servers[0].vsctl(["--no-wait", "init"]);
    let endpoints: Vec<_> = servers.iter().map(Ovs::endpoint).collect();
    let mut options = Options::new(endpoints, "Open_vSwitch", everything());
    options.session.leader_only = leader_only;
    let client = soon(Client::connect_with(options)).await.unwrap();
    eventually(&client, |replica| root(replica).map(|_| ())).await;
    let made = Arc::new(AtomicU64::new(0));
    let writer = tokio::spawn({
        let (client, made) = (client.clone(), made.clone());
        async move {
            loop {
                mark(&client, &format!("m{}", made.load(Ordering::SeqCst))).await;
                made.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    let more = async |than: u64| {
        let deadline = Instant::now() + LONG;
        while made.load(Ordering::SeqCst) < than {
            assert!(Instant::now() < deadline, "stuck at {than}: {:?}", client.status());
            let _ = tokio::time::timeout(LONG, client.changes().changed()).await;
        }
    };
    for round in 1..=3 {
        more(round * 20).await;
        let leader = servers.iter().position(Ovs::is_leader).expect("there is a leader");
        servers[leader].kill_server();
        more(round * 20 + made.load(Ordering::SeqCst) / 2 + 10).await;
        servers[leader].start_server();
        servers[leader].until_connected();
    }
    writer.abort();
    let _ = writer.await;
    // A last one, which no other is behind.
    soon(mark(&client, "last")).await;
    let (_, count, marks) = root(&client.replica()).unwrap();
    assert_eq!(i64::try_from(marks.len()).unwrap(), count, "each mark once");
    for n in 0..made.load(Ordering::SeqCst) {
        assert!(marks.contains(&format!("m{n}")), "m{n} is lost");
    }
    assert!(client.status().connections > 1, "{:?}", client.status());
    for server in &servers {
        let socket = format!("unix:{}", server.socket().display());
        let theirs = dump(server, &socket, "Open_vSwitch");
        eventually(&client, |replica| (as_dump(replica) == theirs).then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_leader_costs_no_write() {
    survive(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_costs_no_write() {
    survive(false).await;
}
