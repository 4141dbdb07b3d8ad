//! Which egress nodes answer, so that egress IPs on those that do not are passed over.
//!
//! Each is asked for a TCP connection to the address of its `tun0`, as the replaced system asked: through the bridge, the
//! tunnel and the other bridge, so that all of the way is tried that a tenant's packets take. Nobody needs to listen there: a
//! refusal is an answer. Every node asks for itself, and only those that its own pods leave by.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::error::Elapsed;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use super::inquiry::{Inquiry, publish};

/// TCP's discard service: the port that the replaced system asks for.
const PORT: u16 = 9;
/// From one question to the next while all is well, and while a node is known not to answer.
const PERIOD: Duration = Duration::from_secs(5);
/// The same while it is not clear.
const AGAIN: Duration = Duration::from_secs(1);
/// How long an answer may take: as long as TCP waits before it asks once more.
const PATIENCE: Duration = Duration::from_secs(1);
/// So many questions in a row without an answer, and the node does not answer.
const SILENCES: u32 = 3;

/// Key of what was found in the bridge's `external_ids`.
pub const KEY: &str = "egress-nodes-unreachable";

/// Egress nodes by name, with the addresses of their `tun0`.
pub type Nodes = BTreeMap<String, Ipv4Addr>;

/// Who asks; what it finds are the names of those that do not answer.
pub type Reachability = Inquiry<Nodes, BTreeSet<String>>;

/// Starts with the nodes that did not answer last.
#[must_use]
pub fn start(known: BTreeSet<String>) -> Reachability {
    Inquiry::start(known.clone(), |wants, found| run(known, wants, found))
}

/// What is thought of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Opinion {
    /// Questions since its last answer.
    silences: u32,
}

/// What a question has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// The node has answered, be it with a refusal.
    Answer,
    /// It has not, or a router says that it is not there.
    Silence,
    /// The question was never sent: that is this node's own trouble.
    Unasked,
}

impl Opinion {
    const SILENT: Self = Self { silences: SILENCES };

    fn after(self, outcome: Outcome) -> Self {
        match outcome {
            Outcome::Answer => Self::default(),
            Outcome::Silence => Self { silences: (self.silences + 1).min(SILENCES) },
            Outcome::Unasked => self,
        }
    }

    fn is_silent(self) -> bool {
        self == Self::SILENT
    }

    /// Until the next question.
    fn pause(self) -> Duration {
        if self.silences == 0 || self.is_silent() { PERIOD } else { AGAIN }
    }
}

/// Waits, then asks a node once.
async fn ask(pause: Duration, address: Ipv4Addr, opinion: Opinion) -> Opinion {
    sleep(pause).await;
    let outcome = outcome(timeout(PATIENCE, TcpStream::connect((address, PORT))).await);
    opinion.after(outcome)
}

fn outcome<T>(connected: Result<io::Result<T>, Elapsed>) -> Outcome {
    match connected {
        Ok(Ok(_)) => Outcome::Answer,
        Ok(Err(error)) => match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => Outcome::Answer,
            io::ErrorKind::HostUnreachable | io::ErrorKind::TimedOut => Outcome::Silence,
            _ => {
                debug!("an egress node could not be asked: {error}");
                Outcome::Unasked
            }
        },
        Err(_) => Outcome::Silence,
    }
}

/// A node that is asked.
struct Asked {
    address: Ipv4Addr,
    opinion: Opinion,
    /// The question that is open, or waits for its time.
    question: AbortHandle,
}

async fn run(
    mut known: BTreeSet<String>,
    mut wants: watch::Receiver<Nodes>,
    found: watch::Sender<Arc<BTreeSet<String>>>,
) {
    let mut asked: BTreeMap<String, Asked> = BTreeMap::new();
    let mut questions: JoinSet<Opinion> = JoinSet::new();
    loop {
        // Each arm takes what it waited for at once: any may be cancelled.
        tokio::select! {
            changed = wants.changed() => {
                if changed.is_err() {
                    return;
                }
                let wanted = wants.borrow_and_update().clone();
                // Who gets another address is another node.
                let gone = asked.extract_if(.., |name, node| wanted.get(name) != Some(&node.address));
                gone.for_each(|(_, node)| node.question.abort());
                // What is known from before is so of the first nodes only: later it may be long ago.
                let known = std::mem::take(&mut known);
                for (name, address) in wanted {
                    let opinion = if known.contains(&name) { Opinion::SILENT } else { Opinion::default() };
                    asked.entry(name).or_insert_with(|| {
                        let question = questions.spawn(ask(Duration::ZERO, address, opinion));
                        Asked { address, opinion, question }
                    });
                }
            }
            Some(answered) = questions.join_next_with_id() => {
                // Questions that were aborted are nobody's any more.
                let Ok((id, opinion)) = answered else { continue };
                let Some((name, node)) = asked.iter_mut().find(|(_, node)| node.question.id() == id) else { continue };
                note(name, node, opinion);
                node.opinion = opinion;
                node.question = questions.spawn(ask(opinion.pause(), node.address, opinion));
            }
        }
        let silent = asked.iter().filter(|(_, node)| node.opinion.is_silent());
        publish(&found, silent.map(|(name, _)| name.clone()).collect());
    }
}

/// One line for what an operator wants to know.
fn note(name: &str, node: &Asked, now: Opinion) {
    let address = node.address;
    match (node.opinion.is_silent(), now.is_silent()) {
        (false, true) => {
            warn!(node = name, %address, "egress node does not answer: its egress IPs are passed over");
        }
        (true, false) => info!(node = name, %address, "egress node answers again"),
        _ if now.silences > 0 => {
            debug!(node = name, %address, silences = now.silences, "no answer from egress node")
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is thought after each of these outcomes (a: answer, s: silence, u: unasked), and when the next question comes.
    fn opinions(start: Opinion, outcomes: &str) -> String {
        let mut opinion = start;
        let mut told = String::new();
        for outcome in outcomes.chars() {
            opinion = opinion.after(match outcome {
                'a' => Outcome::Answer,
                's' => Outcome::Silence,
                _ => Outcome::Unasked,
            });
            told.push(if opinion.is_silent() { '!' } else { '.' });
            told.push_str(&opinion.pause().as_secs().to_string());
        }
        told
    }

    #[test]
    fn three_silences_in_a_row_and_one_answer_decide() {
        let new = Opinion::default();
        assert_eq!(opinions(new, "aasss"), ".5.5.1.1!5");
        assert_eq!(
            opinions(new, "ssassass"),
            ".1.1.5.1.1.5.1.1",
            "silences hours apart are not counted together"
        );
        assert_eq!(opinions(new, "sssssa"), ".1.1!5!5!5.5");
        assert_eq!(opinions(new, "suusus"), ".1.1.1.1.1!5", "what could not be asked says nothing");
        assert_eq!(
            opinions(Opinion::SILENT, "usa"),
            "!5!5.5",
            "it stays so over a restart, until there is an answer"
        );
    }

    #[test]
    fn a_refusal_is_an_answer() {
        let of = |kind: io::ErrorKind| outcome::<()>(Ok(Err(kind.into())));
        assert_eq!(outcome(Ok(Ok(()))), Outcome::Answer);
        assert_eq!(of(io::ErrorKind::ConnectionRefused), Outcome::Answer);
        assert_eq!(of(io::ErrorKind::ConnectionReset), Outcome::Answer);
        assert_eq!(of(io::ErrorKind::HostUnreachable), Outcome::Silence);
        assert_eq!(of(io::ErrorKind::TimedOut), Outcome::Silence);
        assert_eq!(of(io::ErrorKind::NetworkUnreachable), Outcome::Unasked, "there is no tun0 here");
        assert_eq!(of(io::ErrorKind::AddrNotAvailable), Outcome::Unasked);
    }

    /// Loopback answers, with a refusal.
    #[tokio::test]
    async fn only_those_that_are_wanted_are_asked() {
        let name = |name: &str| name.to_owned();
        let known = BTreeSet::from([name("back"), name("nobodys")]);
        let mut found = start(known);
        assert_eq!(found.found().len(), 2, "until it is known better");
        found.want(Nodes::from([(name("back"), Ipv4Addr::LOCALHOST), (name("up"), Ipv4Addr::LOCALHOST)]));
        let end = tokio::time::Instant::now() + Duration::from_secs(20);
        while !found.found().is_empty() {
            tokio::time::timeout_at(end, found.changed()).await.expect("loopback answers");
        }
        found.want(Nodes::new());
        found.want(Nodes::from([(name("back"), Ipv4Addr::LOCALHOST)]));
        assert!(found.found().is_empty(), "what was known at first holds for the first question only");
    }
}
