//! A DNS server for tests: A records that can change, and silence or failure when asked for.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use controller::node::netns::{NetNs, run_in};

/// RFC 1035 §4.1.1.
const SERVFAIL: u16 = 2;
const NXDOMAIN: u16 = 3;

/// TTL of all records, seconds.
const TTL: u32 = 1;

#[derive(Default)]
struct Shared {
    records: Mutex<BTreeMap<String, Vec<Ipv4Addr>>>,
    failing: AtomicBool,
    asked: AtomicUsize,
    end: AtomicBool,
}

/// Serves until dropped.
pub struct DnsServer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl DnsServer {
    /// Serves on port 53 of the loopback address inside a network namespace, and fails every question at first.
    ///
    /// # Errors
    /// When the namespace cannot be entered or the port is taken.
    pub fn start(netns: &Path) -> anyhow::Result<Self> {
        let ns = NetNs::open(netns)?;
        let socket = run_in(&ns, || UdpSocket::bind(("127.0.0.1", 53)))?.context("port 53")?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let shared = Arc::new(Shared { failing: true.into(), ..Shared::default() });
        let serving = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 1500];
            while !serving.end.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
                if let Some(answer) = serving.answer(&buffer[..length]) {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Answers with these addresses from now on; without any, that there is no such name.
    pub fn set(&self, name: &str, addresses: &[Ipv4Addr]) {
        let mut records = self.shared.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.insert(name.to_owned(), addresses.to_vec());
        self.shared.failing.store(false, Ordering::Relaxed);
    }

    /// Answers every question with a failure until the next [`DnsServer::set`].
    pub fn fail(&self) {
        self.shared.failing.store(true, Ordering::Relaxed);
    }

    /// How many questions have come.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.shared.asked.load(Ordering::Relaxed)
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.shared.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// The answer to one message with one question (RFC 1035 §4.1); none to what is no question.
    fn answer(&self, query: &[u8]) -> Option<Vec<u8>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let (mut name, mut at) = (Vec::new(), 12);
        loop {
            let length = usize::from(*query.get(at)?);
            at += 1;
            if length == 0 {
                break;
            }
            name.push(String::from_utf8_lossy(query.get(at..at + length)?).to_ascii_lowercase());
            at += length;
        }
        let question = query.get(12..at + 4)?;
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let (code, addresses) = match records.get(&name.join(".")) {
            _ if self.failing.load(Ordering::Relaxed) => (SERVFAIL, &[][..]),
            Some(addresses) if !addresses.is_empty() => (0, addresses.as_slice()),
            _ => (NXDOMAIN, &[][..]),
        };
        // An answer, recursion desired and available.
        let mut answer = query.get(..2)?.to_vec();
        answer.extend((0x8180 | code).to_be_bytes());
        for count in [1, u16::try_from(addresses.len()).ok()?, 0, 0] {
            answer.extend(count.to_be_bytes());
        }
        answer.extend(question);
        for address in addresses {
            // The name is that of the question: a pointer. Type A, class IN.
            answer.extend([0xc0, 12, 0, 1, 0, 1]);
            answer.extend(TTL.to_be_bytes());
            answer.extend([0, 4]);
            answer.extend(address.octets());
        }
        Some(answer)
    }
}
