#![allow(clippy::unwrap_used)]

use std::io::Cursor;

use super::*;

fn request() -> Request {
    Request {
        command: Command::Add.into(),
        container_id: "4f1e".into(),
        netns: "/run/netns/p".into(),
        ifname: "eth0".into(),
        config: b"{}".to_vec(),
        ..Request::default()
    }
}

/// The bytes on the wire, field by field: they are a contract between versions.
#[test]
fn request_bytes() {
    let expected = [
        &[0, 0, 0, 32][..],      // length
        b"\x08\x01",             // 1: ADD
        b"\x12\x044f1e",         // 2: container id
        b"\x1a\x0c/run/netns/p", // 3: netns
        b"\x22\x04eth0",         // 4: ifname
        b"\x3a\x02{}",           // 7: config
    ]
    .concat();
    assert_eq!(encode(&request()).unwrap(), expected);
    assert_eq!(read::<Request>(&mut Cursor::new(expected)).unwrap(), request());
}

#[test]
fn response_bytes() {
    let done = [&[0, 0, 0, 6][..], b"\x0a\x04\x0a\x02{}"].concat();
    assert_eq!(encode(&Response::success(b"{}".to_vec())).unwrap(), done);
    let error = CniError::new(ErrorCode::TRY_AGAIN_LATER, "no").with_details("d");
    let failed = [&[0, 0, 0, 11][..], b"\x12\x09", b"\x08\x0b", b"\x12\x02no", b"\x1a\x01d"].concat();
    assert_eq!(encode(&Response::failure(error.clone())).unwrap(), failed);
    assert_eq!(read::<Response>(&mut Cursor::new(failed)).unwrap().into_result(), Err(error));
    assert_eq!(Response::default().into_result().unwrap_err().code, ErrorCode::INTERNAL);
}

#[test]
fn frames_that_are_not_read() {
    let read = |bytes: &[u8]| read::<Request>(&mut Cursor::new(bytes)).unwrap_err().to_string();
    assert_eq!(read(&[0, 0]), "the connection was closed after 2 of 4 bytes of the length");
    assert_eq!(read(&[0, 0, 0, 3, 8]), "the connection was closed after 1 of 3 bytes of the message");
    assert_eq!(read(&[0, 16, 0, 1]), "a message of 1048577 bytes is over the limit of 1048576");
    assert!(read(&[0, 0, 0, 2, 0x12, 9]).starts_with("the message is malformed: "));
    let long = Request { config: vec![b' '; MAX_MESSAGE], ..request() };
    assert!(matches!(encode(&long), Err(ContractError::TooLong { length }) if length > MAX_MESSAGE));
}

#[test]
fn fields_of_a_newer_version_are_no_error() {
    let mut frame = encode(&request()).unwrap();
    frame.extend_from_slice(b"\x9a\x06\x01x"); // 99: bytes
    frame.splice(..4, [0, 0, 0, 36]);
    assert_eq!(read::<Request>(&mut Cursor::new(frame)).unwrap(), request());
}

#[test]
fn requests_are_validated() {
    assert_eq!(request().validate().unwrap(), Command::Add);
    let refused = |request: Request| {
        let error = request.validate().unwrap_err();
        assert_eq!(error.code, ErrorCode::INVALID_ENVIRONMENT);
        error.to_string()
    };
    let mut missing = request();
    missing.netns.clear();
    missing.ifname.clear();
    assert!(refused(missing.clone()).contains("missing: CNI_NETNS, CNI_IFNAME"));
    missing.command = Command::Del.into();
    assert!(refused(missing.clone()).contains("missing: CNI_IFNAME:"));
    missing.ifname = "eth0".into();
    assert_eq!(missing.validate().unwrap(), Command::Del);
    assert!(refused(Request { command: 77, ..request() }).contains("CNI_COMMAND"));
    assert!(refused(Request { command: 0, ..request() }).contains("CNI_COMMAND"));
    for hostile in ["../../etc", "a/b", ".", "-x", "a b", "é"] {
        assert!(refused(Request { container_id: hostile.into(), ..request() }).contains("CNI_CONTAINERID"));
    }
    for hostile in ["..", "a/b", "a b", "a:b", "sixteen-bytes-ab", "x\n"] {
        assert!(refused(Request { ifname: hostile.into(), ..request() }).contains("CNI_IFNAME"));
    }
    assert!(refused(Request { ifname: "x".repeat(300), ..request() }).contains("300 bytes"));
}
