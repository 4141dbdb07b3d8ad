//! A client against a server that misbehaves.

use std::path::Path;
use std::time::Duration;

use ovsdb::{Client, Columns, Condition, Endpoint, ErrorKind, Monitored, Options, Replica, TransactError};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use crate::harness::soon;

const ROW: &str = "550e8400-e29b-41d4-a716-446655440000";

/// One connection to a client that believes this to be a database.
struct Connection {
    stream: UnixStream,
    received: Vec<u8>,
}

impl Connection {
    async fn accept(listener: &UnixListener) -> Connection {
        Connection { stream: soon(listener.accept()).await.unwrap().0, received: Vec::new() }
    }

    async fn next(&mut self) -> Value {
        self.next_or_end().await.expect("the client hung up")
    }

    async fn next_or_end(&mut self) -> Option<Value> {
        loop {
            let mut messages = serde_json::Deserializer::from_slice(&self.received).into_iter::<Value>();
            if let Some(Ok(message)) = messages.next() {
                let end = messages.byte_offset();
                self.received.drain(..end);
                return Some(message);
            }
            if soon(self.stream.read_buf(&mut self.received)).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    async fn send(&mut self, message: &Value) {
        self.stream.write_all(message.to_string().as_bytes()).await.unwrap();
    }

    /// Answers what every client asks at first, then returns the first request that is something else.
    async fn serve(&mut self) -> Value {
        loop {
            let request = self.next().await;
            let result = match request["method"].as_str().unwrap() {
                "get_schema" => json!({"name": "D", "version": "1.0.0", "tables": {"T": {
                    "columns": {"name": {"type": "string"}}, "isRoot": true}}}),
                "monitor_cond_since" => json!([false, ROW, {"T": {ROW: {"initial": {"name": "a"}}}}]),
                "set_db_change_aware" => json!({}),
                "monitor_cond" => {
                    self.send(&json!({"id": request["id"], "result": null, "error": "unknown database"}))
                        .await;
                    continue;
                }
                _ => return request,
            };
            self.send(&json!({"id": request["id"], "result": result, "error": null})).await;
        }
    }
}

async fn client(socket: &Path) -> Client {
    let endpoint = Endpoint::Unix(socket.to_owned());
    soon(Client::connect(&endpoint, "D", Monitored::new().all_columns("T"))).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_costs_the_connection_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("db.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let nonsense: Vec<Vec<u8>> = vec![
        b"{\"id\":null,".to_vec(),
        b"{\"id\":\"\xff\"}".to_vec(),
        [b"{\"a\":".to_vec(), vec![b'['; 10_000]].concat(),
        [b"{\"a\":\"".to_vec(), vec![b'x'; 100 << 20]].concat(),
        json!({"id": 4711, "result": [], "error": null}).to_string().into_bytes(),
        json!({"id": null, "method": "update3", "params": ["D-1", ROW, {"T": {ROW.replace('5', "6"): {"delete": null}}}]})
            .to_string()
            .into_bytes(),
    ];
    let count = u64::try_from(nonsense.len()).unwrap();
    let server = tokio::spawn(async move {
        for bytes in nonsense {
            let mut connection = Connection::accept(&listener).await;
            let request = connection.serve().await;
            assert_eq!(request["method"], "transact");
            // The client may hang up before it has taken all of it.
            let _ = connection.stream.write_all(&bytes).await;
            let _ = connection.stream.shutdown().await;
        }
        let mut connection = Connection::accept(&listener).await;
        let request = connection.serve().await;
        let error = json!({"error": "made up", "details": ""});
        connection.send(&json!({"id": request["id"], "result": [error], "error": null})).await;
        connection
    });
    let client = client(&socket).await;
    for _ in 0..count {
        soon(client.wait_connected()).await;
        let mut tx = client.transaction();
        tx.delete("T", []);
        let outcome = soon(client.transact(tx)).await;
        assert!(matches!(outcome, Err(TransactError::OutcomeUnknown(_))), "{outcome:?}");
        assert_eq!(client.replica().named("T", "a").unwrap().uuid().to_string(), ROW);
    }
    soon(client.wait_connected()).await;
    let mut tx = client.transaction();
    tx.delete("T", []);
    let refused = soon(client.transact(tx)).await.unwrap_err();
    assert_eq!(refused.refused().unwrap().kind, ErrorKind::Other("made up".to_owned()));
    assert_eq!(client.status().connections, count + 1);
    drop(soon(server).await.unwrap());
}

/// In a cluster a commit may be under way while its connection is gone: the next one begins on a database without it.
#[tokio::test]
async fn what_is_committed_after_the_next_connection_has_begun_is_done_once() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("db.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let server = tokio::spawn(async move {
        let mut connection = Connection::accept(&listener).await;
        let first = connection.serve().await;
        drop(connection);
        let mut connection = Connection::accept(&listener).await;
        let second = connection.serve().await;
        assert_eq!(first["params"], second["params"]);
        let late = json!({"T": {ROW.replace('5', "6"): {"insert": {"name": "b"}}}});
        connection.send(&json!({"id": null, "method": "update3", "params": ["D-1", ROW, late]})).await;
        let guard = json!({"error": "timed out", "details": ""});
        connection.send(&json!({"id": second["id"], "result": [guard, null], "error": null})).await;
        connection
    });
    let client = client(&socket).await;
    let plan = |replica: &Replica| {
        let mut tx = client.transaction();
        if replica.named("T", "b").is_none() {
            tx.guard_none("T", [Condition::eq("name", "b")]);
            tx.insert("T", Columns::new().with("name", "b"));
        }
        Ok::<_, TransactError>(((), tx))
    };
    let ((), reply) = soon(client.transact_planned(plan)).await.unwrap();
    assert!(reply.is_none(), "{reply:?}");
    assert!(client.replica().named("T", "b").is_some());
    drop(soon(server).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_asks_and_does_not_read_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("db.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let server = tokio::spawn(async move {
        let mut connection = Connection::accept(&listener).await;
        assert_eq!(connection.serve().await["method"], "transact");
        let echo = json!({"id": "e", "method": "echo", "params": ["x".repeat(64 << 10)]}).to_string();
        let mut asked = 0;
        while connection.stream.write_all(echo.as_bytes()).await.is_ok() {
            asked += echo.len();
            assert!(asked < 64 << 20, "the client takes it all");
        }
    });
    let client = client(&socket).await;
    let mut tx = client.transaction();
    tx.delete("T", []);
    let outcome = soon(client.transact(tx)).await.unwrap_err();
    assert!(outcome.is_outcome_unknown(), "{outcome}");
    assert!(outcome.to_string().contains("the server does not read"), "{outcome}");
    soon(server).await.unwrap();
}

#[tokio::test]
async fn a_server_that_never_comes_back_from_a_schema_change_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("db.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let server = tokio::spawn(async move {
        let mut connection = Connection::accept(&listener).await;
        assert_eq!(connection.serve().await["method"], "transact");
        connection.send(&json!({"id": null, "method": "monitor_canceled", "params": ["D-1"]})).await;
        // From now on it answers echo requests and nothing else.
        while connection.stream.readable().await.is_ok() {
            let request = connection.next_or_end().await;
            match request {
                Some(request) if request["method"] == "echo" => {
                    connection.send(&json!({"id": request["id"], "result": [], "error": null})).await;
                }
                Some(_) => {}
                None => break,
            }
        }
        Connection::accept(&listener).await.serve().await
    });
    let mut options = Options::new([Endpoint::Unix(socket)], "D", Monitored::new().all_columns("T"));
    // Echoes unanswered would end it earlier, after twice the interval.
    options.connect_timeout = Duration::from_secs(8);
    options.session.probe_interval = Some(Duration::from_secs(3));
    let client = soon(Client::connect_with(options)).await.unwrap();
    let mut tx = client.transaction();
    tx.delete("T", []);
    let outcome = soon(client.transact(tx)).await.unwrap_err();
    assert!(outcome.to_string().contains("did not answer within 8000 ms"), "{outcome}");
    soon(client.wait_connected()).await;
    assert!(client.status().connections > 1);
    drop(client);
    server.abort();
}
