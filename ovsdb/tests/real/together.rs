//! Ports of many callers in one transaction, and what is wrong with one of them no other's business; names that come again.

use std::collections::BTreeSet;
use std::time::Instant;

use nix::sys::signal::Signal;
use ovsdb::ovs::{DEADLINE, OvsError, PortSpec, PortWriter};
use ovsdb::{Client, Endpoint};
use tokio::task::JoinHandle;

use crate::harness::{LONG, Ovs, eventually, soon};
use crate::proxy::Proxy;

type Ensured = JoinHandle<Result<u16, OvsError>>;

/// A switch with a bridge, and a writer whose first transaction is under way until [`Proxy::release`].
struct Busy {
    ovs: Ovs,
    proxy: Proxy,
    client: Client,
    writer: PortWriter,
    first: Ensured,
}

impl Busy {
    async fn new() -> Busy {
        let ovs = Ovs::switch();
        for bridge in ["br0", "br1"] {
            ovs.vsctl(["add-br", bridge, "--", "set", "Bridge", bridge, "datapath_type=dummy"]);
        }
        ovs.vsctl(["add-port", "br1", "elsewhere", "--", "set", "Interface", "elsewhere", "type=dummy"]);
        let proxy = Proxy::new(&ovs.path("proxy.sock"), ovs.socket());
        let endpoint = Endpoint::Unix(ovs.path("proxy.sock"));
        let client = Client::connect(&endpoint, "Open_vSwitch", ovsdb::ovs::monitored()).await.unwrap();
        let writer = PortWriter::new(client.clone(), "br0");
        // Asks the switch whether it has carried out what was deleted before there was this writer.
        soon(ensure(&writer, PortSpec::new("zeroth"))).await.unwrap().unwrap();
        ovs.vsctl(["del-port", "br0", "zeroth"]);
        eventually(&client, |replica| replica.named("Port", "zeroth").is_none().then_some(())).await;
        proxy.hold();
        let first = ensure(&writer, PortSpec::new("first"));
        soon(proxy.transaction_sent()).await;
        Busy { ovs, proxy, client, writer, first }
    }

    fn ensure(&self, name: &str) -> Ensured {
        ensure(&self.writer, PortSpec::new(name))
    }
}

fn ensure(writer: &PortWriter, spec: PortSpec) -> Ensured {
    let writer = writer.clone();
    tokio::spawn(async move { writer.ensure(&spec).await })
}

/// How many ports each transaction made on br0, in their order, after the first one's.
fn made(ovs: &Ovs) -> Vec<usize> {
    let log = ovs.run("ovsdb-tool", ["-m", "show-log", "conf.db"]);
    let records = log.split("record ").filter(|record| !record.contains("ovs-vsctl"));
    records
        .map(|record| record.matches("table Port insert row").count())
        .filter(|ports| *ports > 0)
        .skip(1)
        .collect()
}

#[tokio::test]
async fn what_is_asked_for_meanwhile_shares_a_transaction() {
    let Busy { ovs, proxy, writer, first, .. } = Busy::new().await;
    let wishes: Vec<Ensured> = (0..40).map(|n| ensure(&writer, PortSpec::new(format!("port{n}")))).collect();
    // Each gets its turn, and puts its wish to the others, before this goes on.
    tokio::task::yield_now().await;
    proxy.release();
    let mut numbers = BTreeSet::from([soon(first).await.unwrap().unwrap()]);
    for wish in wishes {
        numbers.insert(soon(wish).await.unwrap().unwrap());
    }
    assert_eq!(numbers.len(), 41, "each port has a number of its own");
    assert_eq!(made(&ovs), [1, 40]);
    for name in ["first", "port0", "port39"] {
        assert_eq!(ovs.vsctl(["port-to-br", name]), "br0");
    }
}

#[tokio::test]
async fn a_wish_that_cannot_be_planned_is_left_out() {
    let busy = Busy::new().await;
    let wishes = ["good", "elsewhere", "fine"].map(|name| busy.ensure(name));
    tokio::task::yield_now().await;
    busy.proxy.release();
    let [good, elsewhere, fine] = wishes;
    soon(good).await.unwrap().unwrap();
    let error = soon(elsewhere).await.unwrap().unwrap_err();
    assert!(matches!(&error, OvsError::PortElsewhere { owner, .. } if owner == "bridge br1"), "{error}");
    soon(fine).await.unwrap().unwrap();
    assert_eq!(made(&busy.ovs), [1, 2]);
}

#[tokio::test]
async fn a_wish_that_is_refused_fails_no_other() {
    let busy = Busy::new().await;
    let good = busy.ensure("good");
    // The schema ends at 65279.
    let refused = ensure(&busy.writer, PortSpec { ofport_request: Some(65535), ..PortSpec::new("refused") });
    let fine = busy.ensure("fine");
    // The server refuses a second port of a name; nobody but it knows of this one yet.
    busy.ovs.vsctl(["--no-wait", "add-port", "br0", "overtaken"]);
    let overtaken = busy.ensure("overtaken");
    tokio::task::yield_now().await;
    busy.proxy.release();
    for wish in [busy.first, good, fine, overtaken] {
        soon(wish).await.unwrap().unwrap();
    }
    let error = soon(refused).await.unwrap().unwrap_err().to_string();
    assert!(error.contains("65535 is not in the valid range"), "{error}");
    assert_eq!(busy.ovs.vsctl(["list-ports", "br0"]), "fine\nfirst\ngood\novertaken");
}

#[tokio::test]
async fn a_wish_that_is_given_up_is_not_carried_out() {
    let busy = Busy::new().await;
    let (given_up, kept) = (busy.ensure("given-up"), busy.ensure("kept"));
    tokio::task::yield_now().await;
    given_up.abort();
    assert!(soon(given_up).await.unwrap_err().is_cancelled());
    busy.proxy.release();
    soon(kept).await.unwrap().unwrap();
    assert_eq!(busy.ovs.vsctl(["list-ports", "br0"]), "first\nkept");
}

#[tokio::test]
async fn a_deletion_that_is_given_up_is_made_all_the_same() {
    let Busy { ovs, proxy, client, writer, first } = Busy::new().await;
    let deleted = tokio::spawn({
        let writer = writer.clone();
        async move { writer.delete("first").await }
    });
    // The server refuses this one, and all that is asked for with it.
    let refused = ensure(&writer, PortSpec { ofport_request: Some(65535), ..PortSpec::new("refused") });
    tokio::task::yield_now().await;
    deleted.abort();
    assert!(soon(deleted).await.unwrap_err().is_cancelled());
    proxy.release();
    // It may have gone before the switch gave it a number.
    if let Err(error) = soon(first).await.unwrap() {
        assert!(matches!(error, OvsError::Deleted { .. }), "{error}");
    }
    soon(refused).await.unwrap().unwrap_err();
    eventually(&client, |replica| replica.named("Port", "first").is_none().then_some(())).await;
    assert_eq!(made(&ovs), [1]);
}

#[tokio::test]
async fn changes_of_one_port_are_made_in_their_order() {
    let Busy { ovs, proxy, client, writer, first } = Busy::new().await;
    let made_first = ensure(&writer, PortSpec::new("p"));
    let delete = |name: &'static str| {
        let writer = writer.clone();
        tokio::spawn(async move { writer.delete(name).await })
    };
    let (deleted, absent) = (delete("p"), delete("absent"));
    tokio::task::yield_now().await;
    proxy.release();
    soon(first).await.unwrap().unwrap();
    // It may have gone before the switch gave it a number.
    if let Err(error) = soon(made_first).await.unwrap() {
        assert!(matches!(error, OvsError::Deleted { .. }), "{error}");
    }
    for done in [deleted, absent] {
        soon(done).await.unwrap().unwrap();
    }
    eventually(&client, |replica| replica.named("Port", "p").is_none().then_some(())).await;
    assert_eq!(ovs.vsctl(["list-ports", "br0"]), "first");
}

#[tokio::test]
async fn a_server_that_comes_back_carries_out_what_waited() {
    let mut busy = Busy::new().await;
    let wishes = ["a", "b", "c"].map(|name| busy.ensure(name));
    tokio::task::yield_now().await;
    busy.ovs.kill_server();
    busy.proxy.release();
    busy.ovs.start_server();
    for wish in wishes.into_iter().chain([busy.first]) {
        soon(wish).await.unwrap().unwrap();
    }
    assert_eq!(busy.ovs.vsctl(["list-ports", "br0"]), "a\nb\nc\nfirst");
}

/// The switch knows ports by name. Of one that is deleted and made again between two of its looks it would keep the device
/// that it had opened.
#[tokio::test]
async fn a_name_comes_again_only_when_the_switch_has_seen_it_go() {
    let ovs = Ovs::switch();
    ovs.vsctl(["add-br", "br0", "--", "set", "Bridge", "br0", "datapath_type=dummy"]);
    let client = ovs.ovs_client().await;
    let is_there = |name: &str| client.replica().named("Port", name).is_some();
    // The switch writes its log a little later.
    let seen_to_go = async |times: usize| {
        let end = Instant::now() + LONG;
        loop {
            let seen = ovs.switch_says().matches("deleted interface p on port").count();
            if seen >= times || Instant::now() > end {
                return seen;
            }
            tokio::time::sleep(DEADLINE / 1000).await;
        }
    };
    let mut writer = PortWriter::new(client.clone(), "br0");
    soon(ensure(&writer, PortSpec::new("p"))).await.unwrap().unwrap();
    for (round, deleted_by) in ["this writer", "one that was killed", "somebody else"].into_iter().enumerate()
    {
        assert_eq!(seen_to_go(round).await, round, "{deleted_by}");
        ovs.signal_switch(Signal::SIGSTOP);
        if deleted_by == "somebody else" {
            ovs.vsctl(["--no-wait", "del-port", "br0", "p"]);
            eventually(&client, |replica| replica.named("Port", "p").is_none().then_some(())).await;
            writer.may_linger("p");
        } else {
            soon(writer.delete("p")).await.unwrap();
        }
        let mut wishes = Vec::new();
        if deleted_by == "one that was killed" {
            writer = PortWriter::new(client.clone(), "br0");
        } else {
            // Of other names it is known that they are free.
            let name = format!("other{round}");
            wishes.push(ensure(&writer, PortSpec::new(&name)));
            eventually(&client, |replica| replica.named("Port", &name).map(|_| ())).await;
        }
        wishes.push(ensure(&writer, PortSpec::new("p")));
        tokio::time::sleep(DEADLINE / 20).await;
        assert!(!is_there("p"), "{deleted_by}: made before the switch knew that the one before had gone");
        ovs.signal_switch(Signal::SIGCONT);
        for wish in wishes {
            soon(wish).await.unwrap().unwrap();
        }
        assert_eq!(seen_to_go(round + 1).await, round + 1, "{deleted_by}");
    }
}
