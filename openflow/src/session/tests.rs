use super::*;
use crate::message::{FlowStatsRequest, MultipartRequest};

const HELLO: [u8; 8] = [4, 0, 0, 8, 0, 0, 0, 1];

fn start() -> (Session, Instant) {
    let now = Instant::now();
    (Session::new(SessionConfig::default(), now), now)
}

fn up() -> (Session, Instant) {
    let (mut session, now) = start();
    session.receive(&HELLO, now);
    assert_eq!(session.poll(now), Some(Event::Up));
    session.transmit().clear();
    (session, now)
}

fn encoded(xid: u32, message: Message) -> BytesMut {
    let mut bytes = BytesMut::new();
    Envelope::new(xid, message).encode(&mut bytes).unwrap();
    bytes
}

#[test]
fn offers_exactly_openflow_13() {
    let (mut session, _) = start();
    // Header, then one version bitmap element (type 1, length 8) with bit 4.
    assert_eq!(session.transmit()[..], [4, 0, 0, 16, 0, 0, 0, 1, 0, 1, 0, 8, 0, 0, 0, 0x10]);
}

#[test]
fn hello_without_bitmap_means_all_versions_up_to_its_own() {
    for (version, expected) in [(4, true), (6, true), (1, false), (3, false)] {
        let (mut session, now) = start();
        session.receive(&[version, 0, 0, 8, 0, 0, 0, 1], now);
        match session.poll(now) {
            Some(Event::Up) => assert!(expected, "version {version}"),
            Some(Event::Closed(CloseReason::Version { highest })) => {
                assert!(!expected, "version {version}");
                assert_eq!(highest, version);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn bitmap_counts_and_not_the_header() {
    // Version 6 in the header, but only 1.0 and 1.5 in the bitmap.
    let (mut session, now) = start();
    session.receive(&[6, 0, 0, 16, 0, 0, 0, 1, 0, 1, 0, 8, 0, 0, 0, 0b100_0010], now);
    assert_eq!(session.poll(now), Some(Event::Closed(CloseReason::Version { highest: 6 })));
    // We say why before we go: an error of type 0, code 0.
    let sent = session.transmit();
    assert_eq!(sent[16..18], [4, 1]);
    assert_eq!(sent[24..28], [0, 0, 0, 0]);
    assert_eq!(session.poll(now), None);
}

#[test]
fn first_message_must_be_a_hello() {
    let (mut session, now) = start();
    session.receive(&[4, 20, 0, 8, 0, 0, 0, 1], now);
    assert_eq!(session.poll(now), Some(Event::Closed(CloseReason::NotOpenFlow)));
    let (mut session, now) = start();
    session.receive(b"HTTP/1.1 400 Bad Request\r\n", now);
    // 0x5450 bytes are announced, of which the rest never comes.
    assert_eq!(session.poll(now), Some(Event::Closed(CloseReason::NotOpenFlow)));
    let (mut session, now) = start();
    session.receive(&[4, 0, 0], now);
    assert_eq!(session.poll(now), None);
    assert_eq!(session.poll(now + Duration::from_secs(10)), Some(Event::Closed(CloseReason::HelloTimeout)));
}

#[test]
fn refusal_is_reported() {
    let (mut session, now) = start();
    let error = ErrorMsg { code: ErrorCode::HFC_INCOMPATIBLE, data: b"no".to_vec() };
    session.receive(&encoded(1, Message::Error(error.clone())), now);
    assert_eq!(session.poll(now), Some(Event::Closed(CloseReason::Refused(error))));
}

#[test]
fn stream_may_be_cut_anywhere() {
    let message = Message::MultipartRequest {
        more: false,
        request: MultipartRequest::Flow(FlowStatsRequest::default()),
    };
    let mut stream = BytesMut::from(&HELLO[..]);
    for xid in 1..=3 {
        stream.extend_from_slice(&encoded(xid, message.clone()));
    }
    for size in [1, 2, 7, 8, 9, 55, 56, 57, 1000] {
        let (mut session, now) = start();
        let mut events = Vec::new();
        for chunk in stream.chunks(size) {
            session.receive(chunk, now);
            events.extend(std::iter::from_fn(|| session.poll(now)));
        }
        assert_eq!(events.len(), 4, "chunks of {size}");
        assert_eq!(events[3], Event::Message(Envelope::new(3, message.clone())));
    }
}

#[test]
fn echo_is_answered_with_the_same_bytes() {
    let (mut session, now) = up();
    session.receive(&encoded(9, Message::EchoRequest(vec![1, 2, 3])), now);
    assert_eq!(session.poll(now), None);
    assert_eq!(session.transmit()[..], [4, 3, 0, 11, 0, 0, 0, 9, 1, 2, 3]);
}

#[test]
fn silent_peer_is_probed_and_then_given_up() {
    let (mut session, now) = up();
    let config = SessionConfig::default();
    let due = session.timeout().unwrap();
    assert_eq!(due, now + config.echo_interval);
    assert_eq!(session.poll(due), None);
    assert_eq!(session.transmit()[..], [4, 2, 0, 8, 0, 0, 0, 0]);
    // Any byte is a sign of life.
    session.receive(&[4], due);
    assert_eq!(session.timeout(), Some(due + config.echo_interval));
    let due = due + config.echo_interval;
    assert_eq!(session.poll(due), None);
    let end = session.timeout().unwrap();
    assert_eq!(end, due + config.echo_timeout);
    assert_eq!(session.poll(end), Some(Event::Closed(CloseReason::EchoTimeout)));
    assert_eq!(session.timeout(), None);
}

#[test]
fn length_below_the_header_ends_the_session() {
    for len in 0..8 {
        let (mut session, now) = up();
        session.receive(&[4, 20, 0, len, 0, 0, 0, 1, 0, 0, 0, 0], now);
        assert_eq!(session.poll(now), Some(Event::Closed(CloseReason::Framing(len.into()))));
        assert_eq!(session.poll(now), None);
    }
}

#[test]
fn undecodable_message_does_not_end_the_session() {
    let (mut session, now) = up();
    // A features reply of 8 bytes where 24 are needed, then a barrier reply.
    session.receive(&[4, 6, 0, 16, 0, 0, 0, 5, 1, 2, 3, 4, 5, 6, 7, 8, 4, 21, 0, 8, 0, 0, 0, 6], now);
    match session.poll(now) {
        Some(Event::Undecodable { xid: 5, error }) => assert_eq!(error.offset, 16),
        other => panic!("{other:?}"),
    }
    assert_eq!(session.poll(now), Some(Event::Message(Envelope::new(6, Message::BarrierReply))));
}

#[test]
fn reassembly_is_bounded_and_keeps_order() {
    let part = |n: u32| {
        MultipartReply::PortDesc(vec![crate::PortDesc {
            port: crate::OfPort(n),
            ..crate::PortDesc::default()
        }])
    };
    let mut reassembly = Reassembly::new(3);
    assert_eq!(reassembly.add(true, part(1)), Ok(None));
    assert_eq!(reassembly.add(true, part(2)), Ok(None));
    match reassembly.add(false, part(3)) {
        Ok(Some(MultipartReply::PortDesc(ports))) => {
            assert_eq!(ports.iter().map(|p| p.port.0).collect::<Vec<_>>(), [1, 2, 3]);
        }
        other => panic!("{other:?}"),
    }
    let mut reassembly = Reassembly::new(2);
    assert_eq!(reassembly.add(true, part(1)), Ok(None));
    assert_eq!(reassembly.add(true, MultipartReply::GroupDesc(vec![])), Err(ReassemblyError::Mixed));
    // Empty parts count too, or they would never end.
    assert_eq!(reassembly.add(true, MultipartReply::PortDesc(vec![])), Err(ReassemblyError::TooLong));
}
