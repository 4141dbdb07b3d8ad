//! Locks, conditions, events, several endpoints: what the server offers beyond transactions and monitors.

use std::sync::Arc;

use ovsdb::replica::Kind;
use ovsdb::{
    CallError, Client, ClientEvent, Columns, Condition, Datum, Endpoint, ErrorKind, Function, Monitored,
    Mutation, Mutator, Options, TransactError, Until,
};

use crate::harness::{Ovs, eventually, show, soon};

/// Bridges that the root refers to, so that they stay.
async fn add_bridges(client: &Client, names: &[&str]) {
    let mut tx = client.transaction();
    let bridges: Vec<_> =
        names.iter().map(|&name| tx.insert("Bridge", Columns::new().with("name", name))).collect();
    tx.mutate("Open_vSwitch", [], [Mutation::insert("bridges", bridges)]);
    client.transact(tx).await.unwrap();
}

async fn with_root() -> Ovs {
    let ovs = Ovs::server();
    ovs.vsctl(["--no-wait", "init"]);
    ovs
}

#[tokio::test]
async fn a_lock_has_one_owner_and_guards_transactions() {
    let ovs = with_root().await;
    let (one, two) = (ovs.ovs_client().await, ovs.ovs_client().await);
    let mine = one.lock("l", false).await.unwrap();
    soon(mine.acquired()).await;
    let theirs = two.lock("l", false).await.unwrap();
    let attempt = |client: Client| async move {
        let mut tx = client.transaction();
        tx.assert_lock("l");
        tx.mutate("Open_vSwitch", [], [Mutation::add("next_cfg", 1)]);
        client.transact(tx).await
    };
    attempt(one.clone()).await.unwrap();
    let refused = attempt(two.clone()).await.unwrap_err();
    assert_eq!(refused.refused().unwrap().kind, ErrorKind::NotOwner);
    assert_eq!(refused.refused().unwrap().operation, "assert");
    assert!(!theirs.is_held());

    let stolen = two.lock("l", true).await.unwrap();
    soon(stolen.acquired()).await;
    soon(mine.lost()).await;
    attempt(two.clone()).await.unwrap();
    drop((stolen, theirs));
    soon(mine.acquired()).await;
    attempt(one.clone()).await.unwrap();
}

#[tokio::test]
async fn a_lock_is_asked_for_again_after_a_restart() {
    let mut ovs = with_root().await;
    let client = ovs.ovs_client().await;
    let lock = client.lock("l", false).await.unwrap();
    soon(lock.acquired()).await;
    ovs.kill_server();
    soon(lock.lost()).await;
    let another = client.lock("m", false).await.unwrap();
    ovs.start_server();
    soon(lock.acquired()).await;
    soon(another.acquired()).await;
}

#[tokio::test]
async fn a_lock_nobody_waits_for_any_more_is_not_kept() {
    let ovs = with_root().await;
    let (one, two) = (ovs.ovs_client().await, ovs.ovs_client().await);
    tokio::select! {
        biased;
        _ = one.lock("l", false) => panic!("the server can't have been asked yet"),
        () = std::future::ready(()) => {}
    }
    // Whatever was asked for has been answered before this.
    one.transact(one.transaction()).await.unwrap();
    let lock = two.lock("l", false).await.unwrap();
    soon(lock.acquired()).await;
}

#[tokio::test]
async fn a_transaction_that_waits_can_be_taken_back() {
    let ovs = with_root().await;
    let client = ovs.ovs_client().await;
    let marked = |replica: &ovsdb::Replica| replica.rows("Open_vSwitch").next().unwrap().i64("next_cfg");
    let mark = |client: &Client, wait_for: i64| {
        let mut tx = client.transaction();
        let reached = [Columns::new().with("cur_cfg", wait_for)];
        tx.wait("Open_vSwitch", [], ["cur_cfg"], Until::Equal, reached, None);
        tx.mutate("Open_vSwitch", [], [Mutation::add("next_cfg", 1)]);
        tx
    };
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let waiting = client.transact_or_cancel(mark(&client, 5), async move { stopped.await.unwrap() });
    let stop = async {
        // The server works in order: once it has answered this, the other one waits.
        client.transact(client.transaction()).await.unwrap();
        stop.send(()).unwrap();
    };
    let (outcome, ()) = soon(async { tokio::join!(waiting, stop) }).await;
    assert_eq!(outcome.unwrap_err().refused().unwrap().kind, ErrorKind::Canceled);
    // What it waited for comes too late.
    ovs.vsctl(["--no-wait", "set", "Open_vSwitch", ".", "cur_cfg=5"]);
    eventually(&client, |replica| (replica.rows("Open_vSwitch").next()?.i64("cur_cfg")? == 5).then_some(()))
        .await;
    assert_eq!(marked(&client.replica()), Some(0));
    // One that need not wait is done before it can be taken back, and the connection is the same all the time.
    soon(client.transact_or_cancel(mark(&client, 5), std::future::pending())).await.unwrap();
    assert_eq!(marked(&client.replica()), Some(1));
    assert_eq!(client.status().connections, 1);
}

/// `ovsdb-server` hangs up on both, which would cost others the answer to what they have sent.
#[tokio::test]
async fn what_the_server_can_t_read_is_not_sent() {
    let ovs = with_root().await;
    let client = ovs.ovs_client().await;
    let ids = [("a", "fine \\u0000".to_owned()), ("b", "not\0fine".to_owned())];
    for (key, value) in &ids {
        let ids = Mutation::insert("external_ids", Datum::map([(*key, value.as_str())]));
        let mut mutate = client.transaction();
        mutate.mutate("Open_vSwitch", [], [ids]);
        let mut update = client.transaction();
        let row = Columns::new().with("external_ids", Datum::map([(*key, value.as_str())]));
        update.update("Open_vSwitch", [], row);
        for tx in [mutate, update] {
            let outcome = soon(client.transact(tx)).await;
            assert_eq!(outcome.is_ok(), *key == "a", "{outcome:?}");
            if let Err(error) = outcome {
                let (op, is_value) = (
                    error.refused().map(|error| error.operation.as_str()),
                    matches!(error, TransactError::Value(_)),
                );
                assert!(is_value || op == Some("mutate Open_vSwitch"), "{error}");
                assert!(error.to_string().contains("has a NUL character"), "{error}");
            }
        }
    }
    let mut tx = client.transaction();
    tx.insert("Bridge", Columns::new().with("name", "a\0"));
    let error = client.transact(tx).await.unwrap_err().to_string();
    assert!(error.contains("table Bridge, column name: "), "{error}");
    for params in [serde_json::json!(["\0"]), serde_json::json!({"a": 1}), serde_json::json!("a")] {
        let error = soon(client.call("echo", &params)).await.unwrap_err();
        assert!(matches!(error, CallError::Impossible(_)), "{error}");
    }
    let name = vec![Condition::eq("name", "\0")];
    let error = soon(client.set_conditions("Bridge", Some(name))).await.unwrap_err();
    assert!(matches!(error, CallError::Impossible(_)), "{error}");
    assert!(!soon(client.lock("\0", false)).await.unwrap().is_held());
    soon(client.call("echo", &["still there"])).await.unwrap();
    assert_eq!(client.status().connections, 1);
    let root = client.replica().rows("Open_vSwitch").next().unwrap().clone();
    assert_eq!(root.map_get("external_ids", "a"), Some(r"fine \u0000"));
}

#[tokio::test]
async fn conditions_change_at_run_time_and_survive_a_restart() {
    let mut ovs = with_root().await;
    let monitored = Monitored::new()
        .table("Bridge", ["name", "fail_mode"])
        .only_rows("Bridge", [Condition::eq("name", "a")]);
    let client = ovs.client(monitored).await;
    add_bridges(&client, &["a", "b", "c"]).await;
    let names = |replica: &ovsdb::Replica| {
        let mut names: Vec<String> =
            replica.rows("Bridge").map(|row| row.str("name").unwrap().to_owned()).collect();
        names.sort();
        names
    };
    eventually(&client, |replica| (names(replica) == ["a"]).then_some(())).await;
    let two = vec![Condition::eq("name", "b"), Condition::eq("name", "c")];
    client.set_conditions("Bridge", Some(two)).await.unwrap();
    assert_eq!(names(&client.replica()), ["b", "c"]);
    let before = client.status().connections;
    ovs.kill_server();
    ovs.start_server();
    let mut changes = client.changes();
    soon(changes.wait_for(|status| status.connected && status.connections > before)).await.unwrap();
    assert_eq!(names(&client.replica()), ["b", "c"]);
    client.set_conditions("Bridge", None).await.unwrap();
    assert_eq!(names(&client.replica()), ["a", "b", "c"]);
    client.set_conditions("Bridge", Some(vec![Condition::Always(false)])).await.unwrap();
    assert_eq!(names(&client.replica()), [""; 0]);
    assert!(client.set_conditions("Port", None).await.is_err());
    let bad = vec![Condition::new("no_such_column", Function::Equal, 1)];
    assert!(
        client.set_conditions("Bridge", Some(bad)).await.unwrap_err().to_string().contains("no_such_column")
    );
}

#[tokio::test]
async fn events_tell_every_change_with_old_and_new() {
    let ovs = with_root().await;
    let client = ovs.client(Monitored::new().table("Bridge", ["name", "flood_vlans"])).await;
    let mut events = client.events();
    add_bridges(&client, &["a"]).await;
    let mut tx = client.transaction();
    tx.mutate("Bridge", [], [Mutation::insert("flood_vlans", ovsdb::Datum::set([1, 2]))]);
    client.transact(tx).await.unwrap();
    let mut tx = client.transaction();
    tx.update("Open_vSwitch", [], Columns::new().with("bridges", ovsdb::Datum::empty_set()));
    client.transact(tx).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 3 {
        if let ClientEvent::Changed(changes, _) = soon(events.recv()).await.unwrap() {
            seen.extend(changes.iter().map(|change| {
                let vlans = |row: &Option<Arc<ovsdb::Row>>| {
                    row.as_ref().map(|row| row.get("flood_vlans").unwrap().len())
                };
                (change.kind(), vlans(&change.old), vlans(&change.new))
            }));
        }
    }
    let want =
        [(Kind::Insert, None, Some(0)), (Kind::Modify, Some(0), Some(2)), (Kind::Delete, Some(2), None)];
    assert_eq!(seen, want);
}

#[tokio::test]
async fn endpoints_are_tried_in_turn() {
    let (mut first, second) = (with_root().await, with_root().await);
    first.vsctl(["--no-wait", "set", "Open_vSwitch", ".", "external_ids:which=first"]);
    second.vsctl(["--no-wait", "set", "Open_vSwitch", ".", "external_ids:which=second"]);
    let nowhere = Endpoint::Unix(first.path("nowhere.sock"));
    let monitored = Monitored::new().table("Open_vSwitch", ["external_ids"]);
    let endpoints = [nowhere, first.endpoint(), second.endpoint()];
    let client = Client::connect_with(Options::new(endpoints, "Open_vSwitch", monitored)).await.unwrap();
    let which = |replica: &ovsdb::Replica| {
        Some(replica.rows("Open_vSwitch").next()?.map_get("external_ids", "which")?.to_owned())
    };
    assert_eq!(which(&client.replica()).as_deref(), Some("first"), "{}", show(&client.replica()));
    first.kill_server();
    eventually(&client, |replica| which(replica).filter(|which| which == "second")).await;
}

#[tokio::test]
async fn what_can_t_be_reached_is_said() {
    let ovs = Ovs::server();
    let nowhere = Endpoint::Unix(ovs.path("nowhere.sock"));
    let error = Client::connect(&nowhere, "Open_vSwitch", Monitored::new()).await.unwrap_err().to_string();
    assert!(error.contains("nowhere.sock") && error.contains("is ovsdb-server running?"), "{error}");
    let error = Client::connect(&ovs.endpoint(), "No_Such", Monitored::new()).await.unwrap_err().to_string();
    assert!(error.contains("get_schema") && error.contains("No_Such"), "{error}");
}

#[tokio::test]
async fn values_are_checked_before_they_are_sent_and_by_the_server() {
    let ovs = with_root().await;
    let client = ovs.ovs_client().await;
    let schema = client.schema().unwrap();
    let mut tx = client.transaction();
    tx.insert("Bridge", Columns::new().with("name", "a").with("fail_mode", "open"));
    let error = tx.check(&schema).unwrap_err();
    assert_eq!(error.to_string(), "table Bridge, column fail_mode: open is not one of secure, standalone");
    let refused = client.transact(tx).await.unwrap_err();
    assert_eq!(refused.refused().unwrap().kind, ErrorKind::ConstraintViolation);

    let mut tx = client.transaction();
    tx.insert("Port", Columns::new().with("name", "a").with("interfaces", ovsdb::Uuid([7; 16])));
    tx.mutate("Open_vSwitch", [], [Mutation::add("next_cfg", 1)]);
    tx.insert("Bridge", Columns::new().with("name", "a").with("ports", ovsdb::Uuid([7; 16])));
    tx.check(&schema).unwrap();
    let before = client.replica().generation();
    let refused = client.transact(tx).await.unwrap_err();
    assert_eq!(refused.refused().unwrap().kind, ErrorKind::ReferentialIntegrityViolation);
    assert_eq!(refused.refused().unwrap().op, None);

    let mut tx = client.transaction();
    tx.mutate("Open_vSwitch", [], [Mutation::new("next_cfg", Mutator::Divide, 0)]);
    let refused = client.transact(tx).await.unwrap_err();
    assert_eq!(refused.refused().unwrap().kind, ErrorKind::DomainError);
    assert_eq!(refused.refused().unwrap().op.unwrap().0, 0);
    assert_eq!(client.replica().generation(), before, "nothing of all that was done");
}

#[tokio::test]
async fn a_schema_change_under_way_is_followed() {
    let ovs = with_root().await;
    let client = ovs.client(Monitored::new().table("Bridge", ["name", "fail_mode", "of_the_future"])).await;
    add_bridges(&client, &["a"]).await;
    let (before, generation) = (client.status().connections, client.replica().generation());
    let schema = std::fs::read_to_string(crate::harness::vswitch_schema()).unwrap();
    let mut schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
    schema["version"] = "8.99.0".into();
    schema["tables"]["Bridge"]["columns"]["of_the_future"] = serde_json::json!({"type": "string"});
    schema["tables"]["Bridge"]["columns"].as_object_mut().unwrap().remove("fail_mode");
    std::fs::write(ovs.path("next.ovsschema"), schema.to_string()).unwrap();
    let socket = format!("unix:{}", ovs.socket().display());
    ovs.run("ovsdb-client", ["convert", &socket, "next.ovsschema"]);
    eventually(&client, |replica| replica.named("Bridge", "a")?.str("of_the_future").map(|_| ())).await;
    assert!(client.replica().named("Bridge", "a").unwrap().get("fail_mode").is_none());
    assert!(client.replica().generation() > generation);
    assert_eq!(client.schema().unwrap().version, "8.99.0");
    assert_eq!(client.status().connections, before + 1, "one more snapshot");
    add_bridges(&client, &["b"]).await;
    assert!(client.replica().named("Bridge", "b").is_some());
}

#[tokio::test]
async fn a_client_needs_no_replica_to_transact() {
    let ovs = with_root().await;
    let client = ovs.client(Monitored::new()).await;
    let text = r#"["Open_vSwitch", {"op": "select", "table": "Open_vSwitch", "where": [], "columns": ["next_cfg"]}]"#;
    let transaction: serde_json::Value = serde_json::from_str(text).unwrap();
    let answer = client.call("transact", &transaction).await.unwrap();
    assert_eq!(answer.get(), r#"[{"rows":[{"next_cfg":0}]}]"#);
    let databases = client.call("list_dbs", &[(); 0]).await.unwrap();
    assert!(databases.get().contains("Open_vSwitch"));
}
