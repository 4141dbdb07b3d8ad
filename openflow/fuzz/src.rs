//! What the fuzz targets check. `tests/fuzz.rs` runs the same on the seeds and on damaged vectors in `make test`.

use std::time::{Duration, Instant};

use openflow::message::Meter;
use openflow::session::{Event, Session, SessionConfig};
use openflow::{
    DecodeError, Envelope, Flow, FlowStats, FlowStatsReader, Group, Match, Message, MultipartReply, Names,
    OfPort, parse_actions,
};

/// Any bytes: an error or a message; a message encodes again, prints, and decodes to itself. Flows that are read one by one
/// are those of the message, with its error.
pub fn message(bytes: &[u8]) {
    assert_eq!(one_by_one(bytes), at_once(bytes));
    let Ok(envelope) = Envelope::decode(bytes) else { return };
    let _ = envelope.to_string();
    let mut again = Default::default();
    if envelope.encode(&mut again).is_ok() {
        let decoded = Envelope::decode(&again).expect("what we encode decodes");
        assert_eq!(decoded, envelope);
    }
}

/// Transaction id and flows of a part of a dump, and whether more follow.
type Part = (u32, Vec<FlowStats>, bool);

/// `None` for a message of another type. Of one with a wrong header, reading flows may know it or not.
fn at_once(bytes: &[u8]) -> Option<Result<Part, DecodeError>> {
    match Envelope::decode(bytes) {
        Ok(Envelope {
            xid,
            message: Message::MultipartReply { more, reply: MultipartReply::Flow(flows) },
            ..
        }) => Some(Ok((xid, flows, more))),
        // A reply, with statistics of flows.
        Err(error) if matches!(bytes, [_, 19, _, _, _, _, _, _, 0, 1, ..]) => Some(Err(error)),
        _ => None,
    }
}

fn one_by_one(bytes: &[u8]) -> Option<Result<Part, DecodeError>> {
    let mut reader = match FlowStatsReader::open(bytes) {
        Ok(reader) => reader?,
        Err(error) => return matches!(bytes, [_, 19, _, _, _, _, _, _, 0, 1, ..]).then_some(Err(error)),
    };
    let mut flows = Vec::new();
    loop {
        match reader.next() {
            Ok(Some(stats)) => flows.push(stats.clone()),
            Ok(None) => return Some(Ok((reader.xid(), flows, reader.more()))),
            Err(error) => {
                assert_eq!(reader.next(), Ok(None));
                return Some(Err(error));
            }
        }
    }
}

/// Any text: an error that points into it, or a flow whose text reads as itself.
pub fn text(text: &str) {
    if let Err(error) = text.parse::<Flow>() {
        assert!(text.get(error.span()).is_some(), "{error:?}");
        let _ = error.report().to_string();
    }
    if let Ok(flow) = text.parse::<Flow>() {
        let printed = flow.to_string();
        let again: Flow = printed.parse().expect("what we print parses");
        assert_eq!(again.to_string(), printed);
    }
    let _ = text.parse::<Match>();
    let _ = text.parse::<Group>();
    let _ = parse_actions(text);
    if let Ok(meter) = text.parse::<Meter>() {
        assert_eq!(meter.to_string().parse(), Ok(meter));
    }
    let mut names = Names::default();
    names.add_port(OfPort(1), "p1");
    names.add_port(OfPort(2), "a \"b\",(");
    names.add_table(1, "t.1");
    if let Ok(flow) = names.parse_flow(text) {
        let printed = names.show(&flow).to_string();
        let again = names.parse_flow(&printed).expect("what we print with names parses with them");
        assert_eq!(names.show(&again).to_string(), printed);
    }
}

/// Any stream, cut anywhere and with any pauses: the session ends or goes on, and never holds more than one message.
pub fn session(bytes: &[u8]) {
    let mut now = Instant::now();
    let mut session = Session::new(SessionConfig::default(), now);
    let mut rest = bytes;
    while let [cut, pause, after @ ..] = rest {
        let (chunk, tail) = after.split_at(usize::from(*cut).min(after.len()));
        rest = tail;
        now += Duration::from_millis(u64::from(*pause) * 100);
        session.receive(chunk, now);
        while let Some(event) = session.poll(now) {
            if matches!(event, Event::Closed(_)) {
                assert_eq!(session.poll(now), None);
                return;
            }
        }
        session.transmit().clear();
    }
}
