use proptest::prelude::*;

use super::*;

fn split(limits: Limits, pieces: &[&[u8]]) -> (Vec<String>, Result<bool, FramingError>) {
    let mut splitter = Splitter::new(limits);
    let mut messages = Vec::new();
    for piece in pieces {
        let done = splitter.push(piece, |message| {
            messages.push(String::from_utf8_lossy(message).into_owned());
        });
        if let Err(error) = done {
            return (messages, Err(error));
        }
    }
    (messages, Ok(splitter.is_between_messages()))
}

const SMALL: Limits = Limits { message: 64, string: 16, depth: 4, answers: 0 };

#[test]
fn messages_are_found_however_the_stream_is_cut() {
    let stream = br#"{"a":"}\"]{\\"} {"b":[1,{"c":[]}]}
        {}"#;
    let want = [r#"{"a":"}\"]{\\"}"#, r#"{"b":[1,{"c":[]}]}"#, "{}"];
    for cut in 0..=stream.len() {
        let (one, two) = stream.split_at(cut);
        assert_eq!(split(SMALL, &[one, two]), (want.map(String::from).to_vec(), Ok(true)), "cut at {cut}");
    }
    let bytes: Vec<&[u8]> = stream.chunks(1).collect();
    assert_eq!(split(SMALL, &bytes).0, want);
}

#[test]
fn white_space_before_a_message_does_not_count_for_it() {
    let stream = format!("{}{{\"a\":{}}}", " ".repeat(40), "1".repeat(50));
    assert_eq!(split(SMALL, &[stream.as_bytes()]).1, Ok(true));
}

#[test]
fn half_a_message_is_not_an_end() {
    assert_eq!(split(SMALL, &[b"{\"a\":"]), (vec![], Ok(false)));
}

#[test]
fn what_costs_too_much_is_refused_early() {
    let deep = "[".repeat(10_000);
    let cases: [(&str, FramingError); 6] = [
        ("[]", FramingError::NotAnObject { offset: 0, byte: b'[' }),
        ("{}x", FramingError::NotAnObject { offset: 2, byte: b'x' }),
        ("{]", FramingError::Unbalanced { offset: 1 }),
        (&format!("{{\"a\":{deep}"), FramingError::TooDeep { limit: 4 }),
        (&format!("{{\"a\":\"{}\"}}", "x".repeat(17)), FramingError::StringTooLong { limit: 16 }),
        (&format!("{{\"a\":{}}}", "1".repeat(64)), FramingError::MessageTooLong { limit: 64 }),
    ];
    for (text, error) in cases {
        assert_eq!(split(SMALL, &[text.as_bytes()]).1, Err(error), "{text}");
        let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        assert_eq!(split(SMALL, &bytes).1, Err(error), "{text} bytewise");
    }
}

#[test]
fn a_hundred_megabyte_string_is_refused_without_holding_it() {
    let mut splitter = Splitter::new(Limits::default());
    splitter.push(b"{\"a\":\"", |_| ()).unwrap();
    let piece = vec![b'x'; 1 << 20];
    let sent = (0..100).take_while(|_| splitter.push(&piece, |_| ()).is_ok()).count();
    assert_eq!(sent, 16);
    assert_eq!(splitter.buffered(), 0);
    assert!(splitter.push(b"{}", |_| ()).is_err(), "a broken stream stays broken");
}

proptest! {
    #[test]
    fn any_bytes_in_any_pieces_agree_with_one_piece(bytes in proptest::collection::vec(
        prop_oneof![Just(b'{'), Just(b'}'), Just(b'['), Just(b']'), Just(b'"'), Just(b'\\'), Just(b' '), any::<u8>()], 0..80),
        size in 1usize..9)
    {
        let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
        let (whole, cut) = (split(SMALL, &[&bytes]), split(SMALL, &pieces));
        prop_assert_eq!(whole.0, cut.0);
        // Only the moment at which an over-long message is noticed may differ.
        prop_assert_eq!(whole.1.is_err(), cut.1.is_err());
    }
}
