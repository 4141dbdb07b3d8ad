//! Bytes against `ovs-ofctl`: what it sends is what we send, and it prints what we print.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // A test may stop at the first surprise.

mod support;

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};

use bytes::BytesMut;
use openflow::{Envelope, FlowMod, FlowModCommand, Message};

/// Reads one message; `None` at the end.
fn read_message(stream: &mut UnixStream) -> Option<Vec<u8>> {
    let mut message = vec![0; 8];
    stream.read_exact(&mut message).ok()?;
    let len = usize::from(u16::from_be_bytes([message[2], message[3]]));
    message.resize(len, 0);
    stream.read_exact(&mut message[8..]).ok()?;
    Some(message)
}

/// Plays a switch for one run of `ovs-ofctl`: answers hello, echo and barrier, and keeps all other messages.
fn messages_of_ofctl(args: &[&str], input: &str) -> Vec<Vec<u8>> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("switch.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let flows = dir.path().join("flows");
    std::fs::write(&flows, input).unwrap();
    let switch = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(&[4, 0, 0, 8, 0, 0, 0, 1]).unwrap();
        let mut kept = Vec::new();
        while let Some(mut message) = read_message(&mut stream) {
            match message[1] {
                0 => {}
                2 | 20 => {
                    message[1] += 1;
                    stream.write_all(&message).unwrap();
                }
                _ => kept.push(message),
            }
        }
        kept
    });
    let target = format!("unix:{}", path.display());
    let flows = flows.to_str().unwrap();
    let args = args.iter().map(|a| match *a {
        "br0" => target.as_str(),
        "FILE" => flows,
        other => other,
    });
    let output = support::run(
        Command::new("ovs-ofctl")
            .args(["-O", "OpenFlow13", "--no-names", "--timeout=20"])
            .args(args)
            .stdin(Stdio::null()),
    );
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    switch.join().unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Where our bytes differ on purpose: `ovs-ofctl` repeats the value of these fields as their mask (so that other bits
/// are not looked at), and gives the output of `enqueue` a length that only means something for the controller.
fn differs_on_purpose(flow: &str) -> bool {
    ["tun_erspan_", "tun_gtpu_", "enqueue"].iter().any(|word| flow.contains(word)) && !flow.contains("->")
}

#[test]
fn bytes_are_those_that_ovs_ofctl_sends() {
    let flows = support::corpus_flows();
    let sent = messages_of_ofctl(&["add-flows", "br0", "FILE"], &(flows.join("\n") + "\n"));
    assert_eq!(sent.len(), flows.len());
    let mut differences = String::new();
    for (text, theirs) in flows.iter().zip(&sent) {
        let flow_mod = FlowMod::parse(FlowModCommand::Add, text).unwrap();
        let xid = u32::from_be_bytes(theirs[4..8].try_into().unwrap());
        let mut ours = BytesMut::new();
        Envelope::new(xid, Message::FlowMod(flow_mod.clone())).encode(&mut ours).unwrap();
        if ours[..] != theirs[..] && !differs_on_purpose(text) {
            differences += &format!("{text}\n theirs {}\n ours   {}\n", hex(theirs), hex(&ours));
            continue;
        }
        match Envelope::decode(theirs) {
            Ok(Envelope { message: Message::FlowMod(decoded), .. }) if decoded == flow_mod => {}
            other => differences += &format!("{text}\n sent    {flow_mod:?}\n decoded {other:?}\n"),
        }
    }
    assert!(differences.is_empty(), "\n{differences}");
}
