//! Decodes and encodes again what other projects test themselves with, from checkouts that the user has.
//!
//! ```console
//! $ cargo run -p openflow --example vectors -- --ovs ../ovs --ryu ../ryu
//! ```
//!
//! Of Open vSwitch: the hexadecimal messages that `tests/*.at` hands to `ovs-ofctl ofp-print`, with what it must print. Of
//! Ryu or os-ken: `packet_data/of13/*.packet`. Messages of other versions than OpenFlow 1.3 are counted and passed over.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::BytesMut;
use openflow::Envelope;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const USAGE: &str = "usage: vectors [--ovs CHECKOUT] [--ryu CHECKOUT]";

/// A message of somebody else's tests.
struct Vector {
    /// File and line or number.
    origin: String,
    bytes: Vec<u8>,
    /// What `ovs-ofctl ofp-print` must print, if that is known.
    printed: Option<String>,
}

#[derive(Default)]
struct Count {
    other_versions: usize,
    /// What Open vSwitch must refuse.
    wrong: usize,
    wrong_refused: usize,
    messages: usize,
    decoded: usize,
    refused_by_both: usize,
    same_meaning: usize,
    identical: usize,
    with_text: usize,
    same_text: usize,
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut found = 0;
    for pair in args.chunks(2) {
        let [kind, folder] = pair else { return Err(USAGE.into()) };
        let folder = Path::new(folder);
        let (name, vectors) = match kind.as_str() {
            "--ovs" => ("Open vSwitch", of_ovs(folder)?),
            "--ryu" => ("Ryu", of_ryu(folder)?),
            _ => return Err(USAGE.into()),
        };
        found += vectors.len();
        report(name, &vectors);
    }
    if found == 0 {
        return Err(format!("no test material found; {USAGE}").into());
    }
    Ok(())
}

fn report(name: &str, vectors: &[Vector]) {
    let mut count = Count::default();
    for vector in vectors {
        check(vector, &mut count);
    }
    println!("{name}: {} messages, {} of them of other versions", vectors.len(), count.other_versions);
    if count.wrong > 0 {
        println!("  {} that must be refused: {} refused", count.wrong, count.wrong_refused);
    }
    let (messages, decoded, identical) = (count.messages, count.decoded, count.identical);
    println!(
        "  {messages} of OpenFlow 1.3: {decoded} decoded, {} refused by ovs-ofctl too",
        count.refused_by_both
    );
    println!(
        "  {identical} encode to the same bytes again, {} to others that mean the same",
        count.same_meaning
    );
    if count.with_text > 0 {
        println!(
            "  {} with the first line of their text: {} print the same",
            count.with_text, count.same_text
        );
    }
}

fn check(vector: &Vector, count: &mut Count) {
    if vector.bytes.first() != Some(&openflow::message::VERSION) {
        count.other_versions += 1;
        return;
    }
    let decoded = Envelope::decode(&vector.bytes);
    if vector.printed.as_ref().is_some_and(|text| text.contains("***")) {
        count.wrong += 1;
        match decoded {
            Ok(envelope) => println!("{}: must be refused, decodes as {envelope}", vector.origin),
            Err(_) => count.wrong_refused += 1,
        }
        return;
    }
    count.messages += 1;
    let envelope = match decoded {
        Ok(envelope) => envelope,
        Err(error) => {
            let refused = refused_by_ovs(&vector.bytes);
            count.refused_by_both += usize::from(refused);
            let also = if refused { " (ovs-ofctl refuses it too)" } else { "" };
            return println!("{}: {error}{also}", vector.origin);
        }
    };
    count.decoded += 1;
    let mut again = BytesMut::new();
    match envelope.encode(&mut again) {
        Ok(()) if again[..] == vector.bytes[..] => count.identical += 1,
        Ok(()) => {
            // Zeros for a length that means nothing, fields in another order, padding.
            count.same_meaning += usize::from(Envelope::decode(&again).as_ref() == Ok(&envelope));
            println!(
                "{}: other bytes\n  theirs {}\n  ours   {}",
                vector.origin,
                hex(&vector.bytes),
                hex(&again)
            );
        }
        Err(error) => println!("{}: {error}", vector.origin),
    }
    if let Some(theirs) = vector.printed.as_ref().and_then(|text| text.lines().next()) {
        count.with_text += 1;
        let text = envelope.to_string();
        match text.lines().next().unwrap_or("").trim_end() == theirs.trim_end() {
            true => count.same_text += 1,
            false => println!("{}: other text\n  theirs {theirs}\n  ours   {text}", vector.origin),
        }
    }
}

/// Whether `ovs-ofctl`, if it is there, cannot read a message either.
fn refused_by_ovs(bytes: &[u8]) -> bool {
    let output = Command::new("ovs-ofctl").args(["-O", "OpenFlow13", "ofp-print", &hex(bytes)]).output();
    output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("***decode error"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The files of a folder with an extension, sorted.
fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let list = std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut files: Vec<PathBuf> = list.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == extension));
    files.sort();
    Ok(files)
}

fn of_ryu(checkout: &Path) -> Result<Vec<Vector>> {
    let places = ["ryu/tests/packet_data/of13", "os_ken/tests/packet_data/of13", "packet_data/of13", "."];
    let mut vectors = Vec::new();
    for folder in places.map(|place| checkout.join(place)).iter().filter(|folder| folder.is_dir()) {
        for path in files(folder, "packet")? {
            let origin = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            vectors.push(Vector { origin, bytes: std::fs::read(&path)?, printed: None });
        }
    }
    Ok(vectors)
}

fn of_ovs(checkout: &Path) -> Result<Vec<Vector>> {
    let tests = checkout.join("tests");
    let mut vectors = Vec::new();
    for path in files(&tests, "at")? {
        let text = String::from_utf8_lossy(&std::fs::read(&path)?).into_owned();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        of_at(&name, &text, &mut vectors);
    }
    Ok(vectors)
}

/// `AT_CHECK([ovs-ofctl ofp-print "\` and lines of hexadecimal digits up to the next quote; then `[0]` and, in brackets,
/// what is printed.
fn of_at(name: &str, text: &str, vectors: &mut Vec<Vector>) {
    for (at, command) in text.match_indices("ofp-print ") {
        let line = text.get(..at).unwrap_or("").lines().count();
        let rest = text.get(at + command.len()..).unwrap_or("");
        let Some(quote) = rest.chars().next().filter(|c| matches!(c, '"' | '\'')) else { continue };
        let Some((body, after)) = rest.get(1..).and_then(|rest| rest.split_once(quote)) else { continue };
        let digits: Vec<u8> = body
            .chars()
            .filter(|c| !c.is_whitespace() && *c != '\\')
            .map(|c| c.to_digit(16).map(|digit| digit as u8))
            .collect::<Option<_>>()
            .unwrap_or_default();
        if digits.is_empty() || !digits.len().is_multiple_of(2) {
            continue;
        }
        let bytes = digits.chunks_exact(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit));
        // Exit status 0, and in the brackets after it what is printed.
        let check = after.split("AT_CLEANUP").next().unwrap_or(after);
        let printed = check.split_once("[0],").and_then(|(_, rest)| rest.split_once('['));
        let printed = printed.map(|(_, text)| text.strip_prefix("dnl\n").unwrap_or(text));
        let printed = printed.and_then(|text| text.split("\n]").next()).map(str::to_owned);
        vectors.push(Vector { origin: format!("{name}:{line}"), bytes: bytes.collect(), printed });
    }
}
