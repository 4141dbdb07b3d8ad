use super::*;
use crate::value::Uuid;

const SCHEMA: &str = r#"{"name": "D", "version": "1.0.0", "tables": {"T": {"columns": {"name": {"type": "string"},
    "n": {"type": {"key": "integer", "min": 0, "max": "unlimited"}}}, "isRoot": true, "indexes": [["name"]]}}}"#;
const ROW: &str = "550e8400-e29b-41d4-a716-446655440000";

fn config() -> Arc<Config> {
    Arc::new(Config::new("D", Monitored::new().all_columns("T").all_columns("Absent")))
}

/// The messages that a session has sent since the last look.
fn sent(session: &mut Session) -> Vec<serde_json::Value> {
    let bytes = session.outgoing().to_vec();
    session.sent(bytes.len());
    serde_json::Deserializer::from_slice(&bytes).into_iter().map(Result::unwrap).collect()
}

fn answer(session: &mut Session, id: u64, result: &str) -> Result<(), SessionError> {
    let now = session.core.last_received;
    session.receive(format!(r#"{{"id":{id},"result":{result},"error":null}}"#).as_bytes(), now)
}

fn notify(session: &mut Session, method: &str, params: &str) -> Result<(), SessionError> {
    let now = session.core.last_received;
    session.receive(format!(r#"{{"id":null,"method":"{method}","params":{params}}}"#).as_bytes(), now)
}

/// A session that has its schema and waits for the monitor.
fn asked() -> Session {
    let mut session = Session::new(config(), None, Instant::now());
    assert_eq!(sent(&mut session)[0]["method"], "get_schema");
    answer(&mut session, 0, SCHEMA).unwrap();
    session
}

fn synced() -> Session {
    let mut session = asked();
    let request = &sent(&mut session)[0];
    assert_eq!(request["method"], "monitor_cond_since");
    let want = format!(r#"["D","D-1",{{"T":[{{"columns":["n","name"]}}]}},"{}"]"#, Uuid::ZERO);
    assert_eq!(request["params"], serde_json::from_str::<serde_json::Value>(&want).unwrap());
    let first = format!(r#"[false,"{ROW}",{{"T":{{"{ROW}":{{"initial":{{"name":"a"}}}}}}}}]"#);
    answer(&mut session, 3, &first).unwrap();
    assert!(
        matches!(session.poll_event(), Some(Event::Synced { changes, resumed: false }) if changes.len() == 1)
    );
    session
}

#[test]
fn a_session_syncs_and_follows() {
    let mut session = synced();
    let before = session.replica().clone();
    let update = format!(r#"["D-1","{ROW}",{{"T":{{"{ROW}":{{"modify":{{"n":["set",[1,2]]}}}}}}}}]"#);
    notify(&mut session, "update3", &update).unwrap();
    assert!(matches!(session.poll_event(), Some(Event::Changed(changes)) if changes.len() == 1));
    assert_eq!(session.replica().named("T", "a").unwrap().get("n").unwrap().len(), 2);
    assert!(session.replica().generation() > before.generation());
    assert_eq!(session.replica().last_transaction(), Some(ROW.parse().unwrap()));
}

#[test]
fn the_next_session_resumes_after_the_last_transaction() {
    let replica = synced().replica().clone();
    let mut session = Session::new(config(), Some(replica), Instant::now());
    answer(&mut session, 0, SCHEMA).unwrap();
    assert_eq!(sent(&mut session)[3]["params"][3], ROW);
    let row2 = ROW.replace('5', "6");
    answer(&mut session, 3, &format!(r#"[true,"{row2}",{{"T":{{"{row2}":{{"insert":{{"name":"b"}}}}}}}}]"#))
        .unwrap();
    assert!(
        matches!(session.poll_event(), Some(Event::Synced { changes, resumed: true }) if changes.len() == 1)
    );
    assert!(session.replica().named("T", "a").is_some() && session.replica().named("T", "b").is_some());
}

#[test]
fn older_servers_get_older_monitors() {
    let mut session = asked();
    let error = r#"{"error":"unknown method","details":"x"}"#;
    for (id, method) in [(3, "monitor_cond"), (4, "monitor")] {
        sent(&mut session);
        let reply = format!(r#"{{"id":{id},"result":null,"error":{error}}}"#);
        session.receive(reply.as_bytes(), Instant::now()).unwrap();
        assert_eq!(sent(&mut session)[0]["method"], method);
    }
    answer(&mut session, 5, &format!(r#"{{"T":{{"{ROW}":{{"new":{{"name":"a","n":1}}}}}}}}"#)).unwrap();
    notify(&mut session, "update", &format!(r#"["D-3",{{"T":{{"{ROW}":{{"old":{{"name":"a","n":1}}}}}}}}]"#))
        .unwrap();
    assert!(session.replica().table("T").unwrap().is_empty());
}

#[test]
fn echoes_are_answered_and_silence_is_probed_then_given_up() {
    let mut session = synced();
    let start = session.core.last_received;
    session.receive(br#"{"id":"e","method":"echo","params":[1,{"x":null}]}"#, start).unwrap();
    assert_eq!(sent(&mut session)[0].to_string(), r#"{"error":null,"id":"e","result":[1,{"x":null}]}"#);
    let interval = session.core.config.probe_interval.unwrap();
    let (second, due) = (Duration::from_secs(1), start + interval);
    assert_eq!(session.timeout(), Some(due));
    session.handle_timeout(due - second).unwrap();
    assert!(session.outgoing().is_empty());
    session.handle_timeout(due).unwrap();
    assert_eq!(sent(&mut session)[0]["method"], "echo");
    let heard = due + interval - second;
    session.handle_timeout(heard).unwrap();
    session.receive(b" ", heard).unwrap();
    assert_eq!(session.timeout(), Some(heard + interval), "any byte is a sign of life");
    session.handle_timeout(heard + interval).unwrap();
    assert_eq!(session.handle_timeout(heard + 2 * interval), Err(SessionError::Silent(2 * interval)));
}

#[test]
fn a_cancelled_monitor_starts_again_with_the_schema() {
    let mut session = synced();
    notify(&mut session, "monitor_canceled", r#"["other"]"#).unwrap();
    assert!(session.outgoing().is_empty());
    notify(&mut session, "monitor_canceled", r#"["D-1"]"#).unwrap();
    assert_eq!(sent(&mut session)[0]["method"], "get_schema");
    assert!(session.replica().named("T", "a").is_some(), "the old replica stays visible");
    answer(&mut session, 4, &SCHEMA.replace("\"name\": {", "\"title\": {").replace("[[\"name\"]]", "[]"))
        .unwrap();
    assert_eq!(
        sent(&mut session)[0]["params"][3],
        Uuid::ZERO.to_string(),
        "another layout is no basis to resume"
    );
    answer(&mut session, 5, &format!(r#"[false,"{ROW}",{{"T":{{"{ROW}":{{"initial":{{"title":"a"}}}}}}}}]"#))
        .unwrap();
    assert_eq!(session.replica().rows("T").next().unwrap().str("title"), Some("a"));
}

#[test]
fn outcomes_are_tied_to_their_transaction_or_unknown() {
    let mut session = synced();
    let mut tx = Transaction::new("D");
    tx.delete("T", []);
    let (one, two, three) = (session.transact(&tx), session.transact(&tx), session.transact(&tx));
    answer(&mut session, two.0, r#"[{"count":2}]"#).unwrap();
    let error =
        format!(r#"{{"id":{},"result":null,"error":{{"error":"unknown database","details":"D"}}}}"#, one.0);
    session.receive(error.as_bytes(), Instant::now()).unwrap();
    session.close("gone");
    let mut outcomes = Vec::new();
    while let Some(event) = session.poll_event() {
        match event {
            Event::Transacted(id, outcome) => outcomes.push((id, outcome.map_err(|error| error.to_string()))),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(outcomes.len(), 3);
    assert!(matches!(&outcomes[0], (id, Ok(_)) if *id == two));
    assert!(matches!(&outcomes[1], (id, Err(text)) if *id == one && text.contains("unknown database: D")));
    assert!(matches!(&outcomes[2], (id, Err(text)) if *id == three && text.contains("gone")));
}

#[test]
fn what_makes_no_sense_ends_the_session_and_leaves_the_replica() {
    let unseen = ROW.replace('5', "7");
    let cases: &[&[u8]] = &[
        b"\xff",
        b"{\"id\":\"\xff\xfe\"}",
        br#"{"id":77,"result":[],"error":null}"#,
        br#"{"id":"x","result":[],"error":null}"#,
        br#"{}"#,
        br#"{"id":null,"error":"no"}"#,
        br#"{"id":null,"method":"update3","params":[]}"#,
        br#"{"id":null,"method":"update3","params":["D-1"]}"#,
        br#"{"id":null,"method":"update2","params":["D-1","x",{}]}"#,
        br#"{"id":null,"method":"update","params":["D-1",{}]}"#,
        &[b"{\"a\":".as_slice(), &[b'['; 10_000]].concat(),
        &format!(r#"{{"id":null,"method":"update3","params":["D-1","{ROW}",{{"T":{{"{unseen}":{{"delete":null}}}}}}]}}"#)
            .into_bytes(),
    ];
    for bytes in cases {
        let mut session = synced();
        assert!(session.receive(bytes, Instant::now()).is_err(), "{}", String::from_utf8_lossy(bytes));
        assert_eq!(session.replica().table("T").unwrap().len(), 1);
    }
}

#[test]
fn updates_of_other_monitors_change_nothing() {
    let mut session = synced();
    notify(&mut session, "update3", &format!(r#"["D-0","{ROW}",{{"T":{{"{ROW}":{{"delete":null}}}}}}]"#))
        .unwrap();
    notify(&mut session, "of_the_future", "[]").unwrap();
    assert!(session.poll_event().is_none());
    assert_eq!(session.replica().table("T").unwrap().len(), 1);
}

#[test]
fn a_server_out_of_touch_with_its_cluster_is_left() {
    let database = |connected: bool, leader: bool| {
        format!(
            r#"{{"Database":{{"{ROW}":{{"initial":{{"name":"D","model":"clustered","connected":{connected},"leader":{leader}}}}}}}}}"#
        )
    };
    let mut session = synced();
    answer(&mut session, 2, &database(true, false)).unwrap();
    let lost = format!(r#"["_server",{{"Database":{{"{ROW}":{{"modify":{{"connected":false}}}}}}}}]"#);
    let error = notify(&mut session, "update2", &lost).unwrap_err();
    assert_eq!(error.to_string(), "the server of D has lost touch with its cluster");
    let leader_only = Arc::new(Config { leader_only: true, ..(*config()).clone() });
    for (leader, stays) in [(true, true), (false, false)] {
        let mut session = Session::new(leader_only.clone(), None, Instant::now());
        assert_eq!(answer(&mut session, 2, &database(true, leader)).is_ok(), stays);
    }
}

#[test]
fn a_server_that_asks_and_does_not_read_is_given_up() {
    let mut session = synced();
    sent(&mut session);
    let now = session.core.last_received;
    let echo = format!(r#"{{"id":"e","method":"echo","params":["{}"]}}"#, "x".repeat(100_000));
    let limit = session.config().limits.answers;
    // While it reads, it may ask as much as it likes.
    for _ in 0..100 {
        session.receive(echo.as_bytes(), now).unwrap();
        let half = session.outgoing().len() / 2;
        session.sent(half);
        let rest = session.outgoing().len();
        session.sent(rest);
    }
    let mut asked = 0;
    let error = loop {
        match session.receive(echo.as_bytes(), now) {
            Ok(()) => asked += echo.len(),
            Err(error) => break error,
        }
    };
    assert_eq!(error, SessionError::NotReading { limit });
    assert!(asked < 2 * limit && session.outgoing().len() <= 2 * limit, "{asked}");
}

#[test]
fn what_is_sent_leaves_in_order_however_it_is_cut() {
    let mut session = synced();
    sent(&mut session);
    let now = session.core.last_received;
    let (mut out, mut want) = (Vec::new(), Vec::new());
    for n in 0..50 {
        session.receive(format!(r#"{{"id":{n},"method":"echo","params":[]}}"#).as_bytes(), now).unwrap();
        want.extend_from_slice(format!(r#"{{"id":{n},"result":[],"error":null}}"#).as_bytes());
        let count = (n * 7) % 40;
        out.extend(session.outgoing().iter().take(count));
        session.sent(count);
    }
    out.extend_from_slice(session.outgoing());
    session.sent(usize::MAX);
    assert!(session.outgoing().is_empty());
    assert_eq!(String::from_utf8(out).unwrap(), String::from_utf8(want).unwrap());
}

#[test]
fn between_a_cancelled_monitor_and_the_next_nothing_is_followed() {
    assert!(!asked().is_following());
    let mut session = synced();
    assert!(session.is_following());
    for _ in 0..3 {
        notify(&mut session, "monitor_canceled", r#"["D-1"]"#).unwrap();
    }
    assert!(!session.is_following());
    assert_eq!(sent(&mut session).len(), 1, "the schema is asked for once");
}

/// RFC 7047 §4.1.4.
#[test]
fn a_transaction_is_taken_back_by_its_id_while_it_has_no_answer() {
    let mut session = synced();
    let mut tx = Transaction::new("D");
    tx.delete("T", []);
    let (id, call) = (session.transact(&tx), session.call("list_dbs", &[(); 0]));
    sent(&mut session);
    session.cancel(call);
    assert!(session.outgoing().is_empty(), "only transactions can be");
    session.cancel(id);
    let want = serde_json::json!({"id": null, "method": "cancel", "params": [id.0]});
    assert_eq!(sent(&mut session), [want]);
    let reply = format!(r#"{{"id":{},"result":null,"error":"canceled"}}"#, id.0);
    session.receive(reply.as_bytes(), Instant::now()).unwrap();
    match session.poll_event() {
        Some(Event::Transacted(of, Err(TransactError::Refused(error)))) => {
            assert_eq!((of, error.kind), (id, crate::ErrorKind::Canceled));
        }
        other => panic!("{other:?}"),
    }
    session.cancel(id);
    assert!(session.outgoing().is_empty(), "it has its answer");
}

#[test]
fn a_lock_that_can_t_be_asked_for_is_not_given_back_either() {
    let mut session = synced();
    session.lock("\0", false);
    assert!(matches!(session.poll_event(), Some(Event::Lock { held: false, .. })));
    session.unlock("\0");
    assert!(session.outgoing().is_empty(), "the server would hang up");
}
