//! The client against peers that behave badly, played here.
#![cfg(feature = "tokio")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // A test may stop at the first surprise.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use openflow::message::{AggregateStats, ErrorMsg};
use openflow::session::{CloseReason, SessionConfig};
use openflow::{
    Backoff, BundleError, ClientError, Connector, Endpoint, Envelope, ErrorCode, FlowStatsRequest, Listener,
    Message, MultipartReply, MultipartRequest, Switch, SwitchEvent, SwitchOptions,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

const LONG: Duration = Duration::from_secs(20);

/// Short times, so that nothing here takes long.
fn options() -> SwitchOptions {
    SwitchOptions {
        session: SessionConfig {
            hello_timeout: Duration::from_millis(300),
            echo_interval: Duration::from_millis(100),
            echo_timeout: Duration::from_millis(300),
        },
        request_timeout: LONG,
        ..SwitchOptions::default()
    }
}

/// Times that play no part in a test.
fn patient() -> SwitchOptions {
    SwitchOptions { request_timeout: LONG, ..SwitchOptions::default() }
}

struct Peer(DuplexStream);

impl Peer {
    async fn send(&mut self, xid: u32, message: Message) {
        let mut bytes = BytesMut::new();
        Envelope::new(xid, message).encode(&mut bytes).unwrap();
        self.0.write_all(&bytes).await.unwrap();
    }

    async fn receive(&mut self) -> Envelope {
        let mut bytes = vec![0; 8];
        self.0.read_exact(&mut bytes).await.unwrap();
        bytes.resize(usize::from(u16::from_be_bytes([bytes[2], bytes[3]])), 0);
        self.0.read_exact(&mut bytes[8..]).await.unwrap();
        Envelope::decode(&bytes).unwrap()
    }

    /// What comes next and is no echo request.
    async fn receive_request(&mut self) -> Envelope {
        loop {
            let envelope = self.receive().await;
            if !matches!(envelope.message, Message::EchoRequest(_)) {
                return envelope;
            }
        }
    }
}

/// A connection whose pipe holds `room` bytes each way.
async fn connect(room: usize, options: SwitchOptions) -> (Switch, Peer) {
    let (ours, theirs) = tokio::io::duplex(room);
    let mut peer = Peer(theirs);
    let greet = async {
        peer.0.write_all(&[4, 0, 0, 8, 0, 0, 0, 1]).await.unwrap();
        assert!(matches!(peer.receive().await.message, Message::Hello(_)));
        peer
    };
    let (switch, peer) = tokio::join!(Switch::over(ours, options), greet);
    (switch.unwrap(), peer)
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, what).await.expect("takes too long")
}

fn aggregate(flows: u32) -> Message {
    let reply = MultipartReply::Aggregate(AggregateStats { packets: 0, bytes: 0, flows });
    Message::MultipartReply { more: false, reply }
}

#[tokio::test]
async fn requests_are_in_flight_together_and_answers_find_them_by_xid() {
    let (switch, mut peer) = connect(1 << 16, patient()).await;
    let ask = |switch: Switch| async move {
        let request = MultipartRequest::Aggregate(FlowStatsRequest::default());
        match switch.multipart_request(request).await.unwrap() {
            MultipartReply::Aggregate(sums) => sums.flows,
            other => panic!("{other:?}"),
        }
    };
    let answer = async {
        // All five are there before one is answered; then the last comes first.
        let mut xids = Vec::new();
        for _ in 0..5 {
            xids.push(peer.receive_request().await.xid);
        }
        for xid in xids.iter().rev() {
            peer.send(*xid, aggregate(*xid)).await;
        }
        xids
    };
    let s = || switch.clone();
    let (a, b, c, d, e, xids) =
        within(async { tokio::join!(ask(s()), ask(s()), ask(s()), ask(s()), ask(s()), answer) }).await;
    assert_eq!([a, b, c, d, e], xids[..]);
}

#[tokio::test]
async fn silent_peer_is_asked_and_then_given_up() {
    let (switch, mut peer) = connect(1 << 16, options()).await;
    // As long as it answers, all is well.
    for _ in 0..4 {
        match within(peer.receive()).await {
            Envelope { xid, message: Message::EchoRequest(data), .. } => {
                peer.send(xid, Message::EchoReply(data)).await;
            }
            other => panic!("{other:?}"),
        }
    }
    let start = Instant::now();
    let reason = within(switch.closed()).await;
    assert!(reason.to_string().contains("does not answer echo requests"), "{reason}");
    assert!(start.elapsed() >= Duration::from_millis(300), "{:?}", start.elapsed());
}

#[tokio::test]
async fn peer_that_stops_reading_is_given_up_though_it_talks() {
    let (switch, peer) = connect(1 << 12, options()).await;
    // It says something all the time, so it is not silent.
    let (mut reader, mut writer) = tokio::io::split(peer.0);
    let talk = async {
        loop {
            if writer.write_all(&[4, 21, 0, 8, 0, 0, 0, 0]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let flood = async {
        // Requests that never come off; one of them waits while the queue is full, and all learn of the end.
        let one = || async { switch.request(&Message::EchoRequest(vec![0; 60_000])).await };
        tokio::join!(one(), one(), one(), one(), one(), one(), one(), one(), one(), one(), one(), one())
    };
    let (_, results) = within(async { tokio::join!(talk, flood) }).await;
    let error = results.11.unwrap_err();
    assert!(error.is_closed());
    assert!(error.to_string().contains("does not read what is sent"), "{error}");
    let _ = reader.read(&mut [0; 1]).await;
}

#[tokio::test]
async fn peer_that_goes_in_the_middle_of_a_message_ends_all_that_wait() {
    let (switch, mut peer) = connect(1 << 16, patient()).await;
    let echo = Message::EchoRequest(vec![7; 100]);
    let request = switch.request(&echo);
    let bundle = switch.bundle(vec![openflow::FlowMod::add(openflow::Flow::default()).into()]);
    let cut = async {
        let envelope = peer.receive_request().await;
        let mut bytes = BytesMut::new();
        Envelope::new(envelope.xid, Message::EchoReply(vec![7; 100])).encode(&mut bytes).unwrap();
        peer.0.write_all(&bytes[..50]).await.unwrap();
        drop(peer);
    };
    let (answer, bundle, ()) = within(async { tokio::join!(request, bundle, cut) }).await;
    assert!(answer.unwrap_err().is_closed());
    assert!(matches!(&bundle, Err(BundleError::Client(error)) if error.is_closed()), "{bundle:?}");
    let reason = within(switch.closed()).await;
    assert!(reason.is_closed(), "{reason}");
}

/// The peer asks for echoes and never takes the answers: we stop listening before they fill the memory.
#[tokio::test]
async fn echo_requests_of_a_peer_that_does_not_read_are_bounded() {
    let (switch, mut peer) = connect(1 << 12, options()).await;
    let mut request = BytesMut::new();
    Envelope::new(1, Message::EchoRequest(vec![7; 60_000])).encode(&mut request).unwrap();
    let mut taken = 0usize;
    // Far more than is ever held; the connection ends in between.
    while taken < 64 << 20 {
        let rest = &request[taken % request.len()..];
        match tokio::time::timeout(LONG, peer.0.write(rest)).await.expect("the connection ends") {
            Ok(n) if n > 0 => taken += n,
            _ => break,
        }
    }
    assert!(taken < 4 << 20, "{taken} bytes of echo requests were taken");
    let reason = within(switch.closed()).await;
    assert!(reason.to_string().contains("does not read what is sent"), "{reason}");
}

#[tokio::test]
async fn reader_that_pauses_slows_the_peer_down_and_loses_nothing() {
    let (switch, mut peer) = connect(1 << 12, options()).await;
    let flow: openflow::Flow = "ip,nw_dst=10.0.0.1 actions=output:1".parse().unwrap();
    let stats =
        openflow::FlowStats { flow, packets: Some(0), bytes: Some(0), duration: Duration::from_secs(1) };
    const PARTS: usize = 40;
    let part = MultipartReply::Flow(vec![stats; 100]);
    let (sent, mut progress) = tokio::sync::watch::channel(0);
    let serve = async move {
        let xid = peer.receive_request().await.xid;
        for n in 0..PARTS {
            let more = n + 1 < PARTS;
            peer.send(xid, Message::MultipartReply { more, reply: part.clone() }).await;
            sent.send(n + 1).unwrap();
        }
        peer
    };
    let read = async {
        let mut stream = switch.stream_flows(FlowStatsRequest::default()).await.unwrap();
        // The peer gets on until the queue, the buffer for reading and the pipe are full, and no further, for longer than
        // any keepalive: that nothing is read is our doing and not the peer's.
        progress.wait_for(|sent| *sent >= 4).await.unwrap();
        tokio::time::sleep(Duration::from_millis(800)).await;
        assert!(*progress.borrow() < 20, "{} parts were taken", *progress.borrow());
        let mut count = 0;
        while let Some(flows) = stream.next().await.unwrap() {
            count += flows.len();
        }
        count
    };
    let (peer, count) = within(async { tokio::join!(serve, read) }).await;
    assert_eq!(count, PARTS * 100);
    drop(peer);
}

/// More events than anybody reads: the oldest are lost, which is told, and requests are still answered.
#[tokio::test]
async fn flood_of_events_is_bounded_and_told() {
    let (switch, mut peer) = connect(1 << 16, SwitchOptions { event_queue: 16, ..patient() }).await;
    let mut events = switch.events();
    let flood = async {
        for _ in 0..5000 {
            let code = ErrorCode::BRC_EPERM;
            peer.send(0, Message::Error(ErrorMsg { code, data: vec![0; 64] })).await;
        }
        let xid = peer.receive_request().await.xid;
        peer.send(xid, Message::BarrierReply).await;
        peer
    };
    let (peer, barrier) = within(async { tokio::join!(flood, switch.barrier()) }).await;
    barrier.unwrap();
    match events.next().await {
        Some(SwitchEvent::Lost(lost)) => assert_eq!(lost, 5000 - 16),
        other => panic!("{other:?}"),
    }
    assert!(matches!(events.next().await, Some(SwitchEvent::Error { .. })));
    drop(peer);
}

/// Messages that make no sense end no connection, and nobody waits for an answer that cannot be read.
#[tokio::test]
async fn undecodable_answer_fails_its_request_only() {
    let (switch, mut peer) = connect(1 << 16, patient()).await;
    let serve = async {
        let xid = peer.receive_request().await.xid.to_be_bytes();
        // A features reply with 8 bytes of its 24.
        peer.0
            .write_all(&[4, 6, 0, 16, xid[0], xid[1], xid[2], xid[3], 1, 2, 3, 4, 5, 6, 7, 8])
            .await
            .unwrap();
        let xid = peer.receive_request().await.xid;
        peer.send(xid, Message::BarrierReply).await;
    };
    let ask = async {
        match switch.features().await {
            Err(ClientError::Decode(error)) => assert_eq!(error.offset, 16),
            other => panic!("{other:?}"),
        }
        switch.barrier().await.unwrap();
    };
    within(async { tokio::join!(serve, ask) }).await;
}

#[tokio::test]
async fn peers_of_other_versions_and_protocols_are_reported() {
    for (hello, said) in [
        // OpenFlow 1.0 alone.
        (&[1, 0, 0, 8, 0, 0, 0, 1][..], "does not speak OpenFlow 1.3 (it offers up to version 0x01)"),
        // OpenFlow 1.5, with a bitmap that has 1.4 and 1.5 only.
        (&[6, 0, 0, 16, 0, 0, 0, 1, 0, 1, 0, 8, 0, 0, 0, 0x60], "(it offers up to version 0x06)"),
        (&[4, 20, 0, 8, 0, 0, 0, 1], "its first message is no hello"),
        (b"GET / HTTP/1.1\r\n\r\n", "its first message is no hello"),
        (b"\x00\x00\x00\x00\x00\x00\x00\x00", "a message header with length 0"),
        (&[], "sent no hello in time"),
    ] {
        let (ours, mut theirs) = tokio::io::duplex(4096);
        theirs.write_all(hello).await.unwrap();
        let error = within(Switch::over(ours, options())).await.unwrap_err();
        assert!(error.to_string().contains(said), "{hello:?}: {error}");
        if let ClientError::Closed(reason) = &error
            && let ClientError::Session(CloseReason::Version { .. }) = &**reason
        {
            // The peer is told too: hello, then the error OFPHFC_INCOMPATIBLE.
            let mut peer = Peer(theirs);
            assert!(matches!(peer.receive().await.message, Message::Hello(_)));
            match peer.receive().await.message {
                Message::Error(error) => assert_eq!(error.code, ErrorCode::HFC_INCOMPATIBLE),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn silent_peers_do_not_hold_up_a_listener() {
    let listener = Listener::bind("ptcp:0:127.0.0.1", SwitchOptions::default()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(tokio::net::TcpStream::connect(address).await.unwrap());
    }
    let endpoint: Endpoint = format!("tcp:{address}").parse().unwrap();
    let start = Instant::now();
    let (accepted, connected) =
        within(async { tokio::join!(listener.accept(), Switch::connect(&endpoint)) }).await;
    drop((accepted.unwrap(), connected.unwrap()));
    assert!(start.elapsed() < SwitchOptions::default().connect_timeout / 2, "{:?}", start.elapsed());
}

/// Attempts come with pauses that grow up to the longest, and start over after a success.
#[tokio::test]
async fn connector_pauses_longer_and_longer() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("switch.sock");
    let backoff = Backoff { first: Duration::from_millis(20), max: Duration::from_millis(80) };
    let mut connector = Connector::with(Endpoint::Unix(path.clone()), options(), backoff);
    let start = Instant::now();
    let early = tokio::time::timeout(Duration::from_millis(700), connector.connect()).await;
    assert!(early.is_err());
    let elapsed = start.elapsed().as_millis() as u32;
    // Pauses of 20, 40, 80, 80 ... ms, each shortened by up to a quarter.
    let most = 3 + elapsed.saturating_sub(15 + 30) / 60;
    assert!((4..=most).contains(&connector.failures()), "{} in {elapsed} ms", connector.failures());
    let listener = Listener::bind(&format!("punix:{}", path.display()), options()).await.unwrap();
    let (accepted, connected) = within(async { tokio::join!(listener.accept(), connector.connect()) }).await;
    accepted.unwrap();
    drop(connected);
    assert_eq!(connector.failures(), 0);
    assert!(connector.last_error().is_none());
}
