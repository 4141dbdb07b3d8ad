use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufStream, DuplexStream};
use tokio::sync::broadcast;

use super::*;
use crate::client::waiters::Waiters;
use crate::monitor::Monitored;
use crate::replica::Replica;

/// The next whole message that the client has sent.
async fn next(stream: &mut DuplexStream, received: &mut Vec<u8>) -> serde_json::Value {
    loop {
        let mut messages = serde_json::Deserializer::from_slice(received).into_iter::<serde_json::Value>();
        if let Some(Ok(message)) = messages.next() {
            let end = messages.byte_offset();
            received.drain(..end);
            return message;
        }
        assert!(stream.read_buf(received).await.unwrap() > 0, "the client hung up");
    }
}

/// A buffering stream keeps what it took until it is told to send it, as TLS may.
#[tokio::test]
async fn what_the_layer_below_keeps_is_flushed() {
    let endpoint = Endpoint::Unix("nowhere".into());
    let monitored = Monitored::new();
    let options = Options::new([endpoint.clone()], "D", monitored);
    let (commands, receiver) = mpsc::channel(1);
    let (_unlock, unlocks) = mpsc::unbounded_channel();
    let (events, _) = broadcast::channel(1);
    let shared = Arc::new(Shared {
        replica: Arc::new(Replica::unconnected()).into(),
        schema: Default::default(),
        events,
        waiters: Waiters::default(),
        tickets: Default::default(),
    });
    let (first, connected) = oneshot::channel();
    let status = watch::Sender::new(Status::default());
    let mut task = Task::new(options, (receiver, unlocks), status, shared, first);
    let (ours, mut theirs) = tokio::io::duplex(4096);
    let driven = tokio::spawn(async move {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        let end = task.drive(&endpoint, BufStream::with_capacity(1 << 20, 1 << 20, ours), deadline).await;
        assert!(matches!(end, End::Unwanted));
    });
    let served = async {
        let mut received = Vec::new();
        loop {
            let request = next(&mut theirs, &mut received).await;
            let result = match request["method"].as_str().unwrap() {
                "get_schema" => serde_json::json!({"name": "D", "version": "1.0.0", "tables": {}}),
                "monitor_cond_since" => {
                    serde_json::json!([false, "00000000-0000-0000-0000-000000000000", {}])
                }
                "echo" => break request,
                _ => serde_json::json!({}),
            };
            let answer = serde_json::json!({"id": request["id"], "result": result, "error": null});
            theirs.write_all(answer.to_string().as_bytes()).await.unwrap();
        }
    };
    let call = async {
        connected.await.unwrap().unwrap();
        let params = RawValue::from_string(format!("[\"{}\"]", "x".repeat(100_000))).unwrap();
        let (reply, _outcome) = oneshot::channel();
        commands.send(Command::Call { method: "echo".into(), params, reply }).await.unwrap();
        commands
    };
    let both = async { tokio::join!(served, call) };
    let (request, commands) =
        tokio::time::timeout(Duration::from_secs(30), both).await.expect("it was never sent");
    assert_eq!(request["params"][0].as_str().unwrap().len(), 100_000);
    drop(commands);
    driven.await.unwrap();
}
