//! What the ensure functions wait for, and what they say when it can't come any more.

use std::time::Instant;

use ovsdb::ovs::{
    BridgeSpec, DEADLINE, OvsError, PortSpec, confirm, delete_port, ensure_bridge, ensure_port,
};
use ovsdb::{Client, Endpoint};

use crate::harness::{Ovs, eventually, soon};
use crate::proxy::Proxy;

fn bridge(name: &str) -> BridgeSpec {
    BridgeSpec { datapath_type: "dummy".into(), ..BridgeSpec::new(name) }
}

fn is_up(ovs: &Ovs, name: &str) -> bool {
    std::os::unix::net::UnixStream::connect(ovs.path(&format!("{name}.mgmt"))).is_ok()
}

/// A database with br0 and no switch.
fn without_switch() -> Ovs {
    let ovs = Ovs::server();
    ovs.vsctl(["--no-wait", "add-br", "br0", "--", "set", "Bridge", "br0", "datapath_type=dummy"]);
    ovs
}

#[tokio::test]
async fn a_bridge_in_the_database_is_no_bridge_yet() {
    let mut ovs = without_switch();
    let client = ovs.ovs_client().await;
    let ensured = tokio::spawn({
        let client = client.clone();
        async move { ensure_bridge(&client, &bridge("br0")).await }
    });
    let waits = tokio::time::timeout(DEADLINE / 10, client.wait_for(|_| ensured.is_finished().then_some(())));
    assert!(waits.await.is_err(), "nobody has made it");
    ovs.start_switch();
    soon(ensured).await.unwrap().unwrap();
    assert!(is_up(&ovs, "br0"));
}

#[tokio::test]
async fn a_bridge_whose_outcome_was_unknown_is_waited_for_too() {
    let mut ovs = Ovs::server();
    ovs.vsctl(["--no-wait", "init"]);
    let proxy = Proxy::new(&ovs.path("proxy.sock"), ovs.socket());
    let endpoint = Endpoint::Unix(ovs.path("proxy.sock"));
    let client = Client::connect(&endpoint, "Open_vSwitch", ovsdb::ovs::monitored()).await.unwrap();
    let before = client.status().connections;
    proxy.hold();
    let ensured = tokio::spawn({
        let client = client.clone();
        async move { ensure_bridge(&client, &bridge("br0")).await }
    });
    soon(proxy.transaction_sent()).await;
    // Instead of the answer.
    proxy.cut_after(0);
    proxy.release();
    eventually(&client, |replica| replica.named("Bridge", "br0").map(|_| ())).await;
    assert!(client.status().connections > before);
    assert!(!ensured.is_finished());
    ovs.start_switch();
    soon(ensured).await.unwrap().unwrap();
    assert!(is_up(&ovs, "br0"));
}

#[tokio::test]
async fn two_writers_both_find_the_bridge_up() {
    let ovs = Ovs::switch();
    let (one, two) = (ovs.ovs_client().await, ovs.ovs_client().await);
    for round in 0..10 {
        let name = format!("br{round}");
        let ensured = async |client: &Client| {
            ensure_bridge(client, &bridge(&name)).await.unwrap();
            is_up(&ovs, &name)
        };
        assert_eq!(tokio::join!(ensured(&one), ensured(&two)), (true, true), "{name}");
    }
}

#[tokio::test]
async fn a_bridge_that_the_switch_can_t_make_is_said_at_once() {
    let ovs = Ovs::switch();
    let client = ovs.ovs_client().await;
    let begun = Instant::now();
    let spec = BridgeSpec { datapath_type: "of_the_future".into(), ..BridgeSpec::new("br0") };
    let error = ensure_bridge(&client, &spec).await.unwrap_err();
    assert!(matches!(error, OvsError::Bridge { .. } | OvsError::Interface { .. }), "{error}");
    assert!(error.to_string().contains("br0"), "{error}");
    assert!(begun.elapsed() < DEADLINE, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn what_is_deleted_meanwhile_is_said_at_once() {
    for (second, deleted) in [
        (&["del-port", "br0", "p"][..], "port p"),
        (&["del-br", "br0"], "bridge br0"),
        (&["del-port", "br0", "p", "--", "add-port", "br0", "p"], "its interface"),
    ] {
        let ovs = without_switch();
        let client = ovs.ovs_client().await;
        let begun = Instant::now();
        let ensured = tokio::spawn({
            let client = client.clone();
            async move { ensure_port(&client, "br0", &PortSpec::new("p")).await }
        });
        eventually(&client, |replica| replica.named("Port", "p").map(|_| ())).await;
        ovs.vsctl(["--no-wait"].iter().chain(second));
        let error = soon(ensured).await.unwrap().unwrap_err();
        assert!(matches!(&error, OvsError::Deleted { .. }), "{error}");
        assert!(error.to_string().starts_with(&format!("port p on br0: {deleted}")), "{error}");
        assert!(begun.elapsed() < DEADLINE, "{deleted}: {:?}", begun.elapsed());
    }
    // The same of a port that was there and changes, and of a bridge.
    let ovs = without_switch();
    ovs.vsctl(["--no-wait", "add-port", "br0", "p"]);
    let client = ovs.ovs_client().await;
    let port = PortSpec { mtu_request: Some(1400), ..PortSpec::new("p") };
    let begun = Instant::now();
    let delete = async {
        eventually(&client, |replica| replica.named("Interface", "p")?.i64("mtu_request")).await;
        delete_port(&client, "br0", "p").await.unwrap();
    };
    let (ensured, ()) = tokio::join!(ensure_port(&client, "br0", &port), delete);
    assert!(matches!(&ensured, Err(OvsError::Deleted { .. })), "{ensured:?}");
    let delete = async { ovs.vsctl(["--no-wait", "del-br", "br0"]) };
    let spec = bridge("br0");
    let (ensured, _) = tokio::join!(ensure_bridge(&client, &spec), delete);
    assert!(matches!(&ensured, Err(OvsError::Deleted { .. })), "{ensured:?}");
    assert!(begun.elapsed() < DEADLINE, "{:?}", begun.elapsed());
}

/// The outcome of some work that must not be done before there is a switch.
async fn only_with_switch<T: Send + 'static>(
    ovs: &mut Ovs,
    client: &Client,
    work: impl Future<Output = T> + Send + 'static,
) -> T {
    let work = tokio::spawn(work);
    let early = tokio::time::timeout(DEADLINE / 10, client.wait_for(|_| work.is_finished().then_some(())));
    assert!(early.await.is_err(), "nobody has done it");
    ovs.start_switch();
    soon(work).await.unwrap()
}

#[tokio::test]
async fn a_number_from_before_a_change_is_not_returned() {
    let mut ovs = Ovs::switch();
    let client = ovs.ovs_client().await;
    ensure_bridge(&client, &bridge("br0")).await.unwrap();
    let a = ensure_port(&client, "br0", &PortSpec::new("a")).await.unwrap();
    let ensure = |spec: PortSpec| {
        let client = client.clone();
        async move { ensure_port(&client, "br0", &spec).await.unwrap() }
    };
    let number = |name: &str| ovs.vsctl(["get", "Interface", name, "ofport"]);
    assert_eq!(number("a"), a.to_string());

    // Another writer has asked for a number already, and does not wait.
    let request = a + 7;
    ovs.kill_switch();
    ovs.vsctl(["--no-wait", "set", "Interface", "a", &format!("ofport_request={request}")]);
    let spec = PortSpec { ofport_request: Some(request), ..PortSpec::new("a") };
    eventually(&client, |replica| replica.named("Interface", "a")?.i64("ofport_request")).await;
    assert_eq!(only_with_switch(&mut ovs, &client, ensure(spec.clone())).await, request);

    // Another writer has asked the switch for a port with the number that ours has without having asked for it.
    let spec = PortSpec::new("a");
    assert_eq!(ensure_port(&client, "br0", &spec).await.unwrap(), request);
    ovs.kill_switch();
    let wish = format!("ofport_request={request}");
    let add = ["--no-wait", "add-port", "br0", "b", "--", "set", "Interface", "b", &wish];
    ovs.vsctl(add.iter().chain(&["--", "set", "Open_vSwitch", ".", "next_cfg=1000"]));
    eventually(&client, |replica| replica.named("Interface", "b").map(|_| ())).await;
    let now = only_with_switch(&mut ovs, &client, ensure(spec)).await;
    assert_eq!(ovs.vsctl(["get", "Interface", "a", "ofport"]), now.to_string());
    assert_eq!(ovs.vsctl(["get", "Interface", "b", "ofport"]), request.to_string());
    assert_ne!(now, request);
}

#[tokio::test]
async fn a_switch_that_has_ended_confirms_nothing() {
    let mut ovs = Ovs::switch();
    let client = ovs.ovs_client().await;
    ensure_bridge(&client, &bridge("br0")).await.unwrap();
    soon(confirm(&client)).await.unwrap();
    ovs.kill_switch();
    let confirmed = {
        let client = client.clone();
        async move { confirm(&client).await }
    };
    only_with_switch(&mut ovs, &client, confirmed).await.unwrap();
    assert!(is_up(&ovs, "br0"));
}
