//! When each name is to be asked for, and what is known of it meanwhile. Without I/O: the caller says what time it is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use crate::view::Names;

/// No name is asked for more often, whatever TTL its records have.
pub const SHORTEST: Duration = Duration::from_secs(1);
/// Nor less often: policies follow a change within this, as in the replaced system.
pub const LONGEST: Duration = Duration::from_secs(30);

/// What the servers said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// These, for as long.
    Addresses {
        /// Never empty.
        addresses: BTreeSet<Ipv4Addr>,
        /// The least TTL of the answer.
        ttl: Duration,
    },
    /// The name has no addresses.
    None {
        /// For as long.
        ttl: Duration,
    },
    /// Nothing, or nothing of use; why.
    Failed(String),
}

/// One name.
#[derive(Clone, Debug)]
struct Entry {
    /// None: never answered.
    addresses: Option<BTreeSet<Ipv4Addr>>,
    /// When to ask.
    due: Option<Instant>,
    /// A question is open.
    asked: bool,
    failures: u32,
}

/// All names of interest.
#[derive(Clone, Debug, Default)]
pub struct Schedule {
    entries: BTreeMap<String, Entry>,
}

impl Schedule {
    /// With what was known before. Names that nobody wants are not asked for.
    #[must_use]
    pub fn knowing(known: Names) -> Self {
        let entry = |addresses| Entry { addresses: Some(addresses), due: None, asked: false, failures: 0 };
        Self { entries: known.into_iter().map(|(name, addresses)| (name, entry(addresses))).collect() }
    }

    /// Makes these the names of interest. New ones are due at once, and so are those known from before.
    pub fn want(&mut self, names: &BTreeSet<String>, now: Instant) {
        self.entries.retain(|name, _| names.contains(name));
        for name in names {
            let new = || Entry { addresses: None, due: None, asked: false, failures: 0 };
            let entry = self.entries.entry(name.clone()).or_insert_with(new);
            if !entry.asked {
                entry.due.get_or_insert(now);
            }
        }
    }

    /// Names to ask for now, at most `limit`, the longest due first. Each is given once, until it is answered.
    pub fn due(&mut self, now: Instant, limit: usize) -> Vec<String> {
        let mut due: Vec<(Instant, String)> = self
            .entries
            .iter()
            .filter_map(|(name, entry)| entry.due.filter(|due| *due <= now).map(|due| (due, name.clone())))
            .collect();
        due.sort();
        due.truncate(limit);
        let names: Vec<String> = due.into_iter().map(|(_, name)| name).collect();
        for name in &names {
            if let Some(entry) = self.entries.get_mut(name) {
                (entry.due, entry.asked) = (None, true);
            }
        }
        names
    }

    /// When the next name is due.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.entries.values().filter_map(|entry| entry.due).min()
    }

    /// Takes an answer. Addresses once known stay until there are others: connections to them go on while a server is
    /// away, and a rule about them holds.
    pub fn answered(&mut self, name: &str, answer: Answer, now: Instant) {
        // Nobody may want it any more.
        let Some(entry) = self.entries.get_mut(name) else { return };
        let pause = match answer {
            Answer::Addresses { addresses, ttl } => {
                (entry.addresses, entry.failures) = (Some(addresses), 0);
                ttl
            }
            Answer::None { ttl } => {
                entry.addresses.get_or_insert_default();
                entry.failures = 0;
                ttl
            }
            Answer::Failed(_) => {
                let pause = SHORTEST.saturating_mul(1 << entry.failures.min(16));
                entry.failures += 1;
                pause
            }
        };
        (entry.due, entry.asked) = (Some(now + pause.clamp(SHORTEST, LONGEST)), false);
    }

    /// What is known of a name.
    #[must_use]
    pub fn known(&self, name: &str) -> Option<&BTreeSet<Ipv4Addr>> {
        self.entries.get(name)?.addresses.as_ref()
    }

    /// Whether the last answer was none.
    #[must_use]
    pub fn is_failing(&self, name: &str) -> bool {
        self.entries.get(name).is_some_and(|entry| entry.failures > 0)
    }

    /// What is known of all. A name that was never answered is not there; one without addresses has none.
    #[must_use]
    pub fn addresses(&self) -> Names {
        let known = |(name, entry): (&String, &Entry)| Some((name.clone(), entry.addresses.clone()?));
        self.entries.iter().filter_map(known).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    fn addresses(last: &[u8]) -> BTreeSet<Ipv4Addr> {
        last.iter().map(|&last| Ipv4Addr::new(192, 0, 2, last)).collect()
    }

    fn answer(last: &[u8], seconds: u64) -> Answer {
        Answer::Addresses { addresses: addresses(last), ttl: Duration::from_secs(seconds) }
    }

    #[test]
    fn each_name_is_asked_for_again_when_its_answer_is_old() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut schedule = Schedule::default();
        schedule.want(&names(&["a", "b", "c"]), start);
        assert_eq!(schedule.due(start, 2), ["a", "b"]);
        schedule.want(&names(&["a", "b", "c"]), start);
        assert_eq!(schedule.due(start, 2), ["c"], "none is asked for twice at the same time");
        assert_eq!(schedule.next(), None);
        schedule.answered("a", answer(&[1, 2], 7), start);
        schedule.answered("b", answer(&[3], 0), start);
        schedule.answered("c", answer(&[4], 86_400), start);
        assert_eq!(schedule.next(), Some(at(1)), "a TTL of 0 is no reason to ask all the time");
        assert_eq!(schedule.due(at(1), 9), ["b"]);
        assert_eq!(schedule.due(at(7), 9), ["a"]);
        assert_eq!(schedule.due(at(29), 9), [""; 0]);
        assert_eq!(schedule.due(at(30), 9), ["c"], "nor is a day one to sleep");
        let all = [("a", &[1, 2][..]), ("b", &[3]), ("c", &[4])];
        let all = all.map(|(name, last)| (name.to_owned(), addresses(last)));
        assert_eq!(schedule.addresses(), all.into());
    }

    #[test]
    fn what_was_known_stays_while_servers_fail_and_they_are_asked_ever_less_often() {
        let start = Instant::now();
        let mut schedule = Schedule::default();
        schedule.want(&names(&["a", "b"]), start);
        let mut now = start;
        assert_eq!(schedule.due(now, 9), ["a", "b"]);
        schedule.answered("a", answer(&[1], 5), now);
        let mut pauses = Vec::new();
        for _ in 0..7 {
            schedule.answered("b", Answer::Failed("no answer".to_owned()), now);
            schedule.answered("a", Answer::Failed("no answer".to_owned()), now);
            pauses.push(schedule.next().unwrap().duration_since(now).as_secs());
            now += LONGEST;
            assert_eq!(schedule.due(now, 9), ["a", "b"]);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(schedule.known("a"), Some(&addresses(&[1])));
        assert_eq!(schedule.known("b"), None, "never answered is not the same as without addresses");
        assert!(schedule.is_failing("a"));
        schedule.answered("a", Answer::None { ttl: Duration::ZERO }, now);
        assert_eq!(schedule.known("a"), Some(&addresses(&[1])), "nor does a name lose its last addresses");
        schedule.answered("b", Answer::None { ttl: Duration::ZERO }, now);
        assert_eq!(schedule.known("b"), Some(&addresses(&[])));
        assert!(!schedule.is_failing("a"));
        schedule.answered("a", answer(&[2], 5), now);
        assert_eq!(schedule.known("a"), Some(&addresses(&[2])));
    }

    #[test]
    fn what_nobody_wants_is_forgotten_and_what_was_known_is_asked_for_anew() {
        let start = Instant::now();
        let known = Names::from([("a".to_owned(), addresses(&[1])), ("b".to_owned(), addresses(&[2]))]);
        let mut schedule = Schedule::knowing(known.clone());
        assert_eq!((schedule.addresses(), schedule.next()), (known, None));
        schedule.want(&names(&["b", "c"]), start);
        assert_eq!(schedule.due(start, 9), ["b", "c"]);
        assert_eq!(schedule.addresses().keys().collect::<Vec<_>>(), ["b"]);
        schedule.want(&names(&["c"]), start);
        schedule.answered("b", answer(&[3], 5), start);
        assert_eq!(schedule.addresses(), Names::new(), "an answer that nobody waits for");
    }
}
