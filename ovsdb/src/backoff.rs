//! How long to wait between attempts to connect.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

/// Waits that double from `first` to `most`, each up to a half shorter by chance: the clients of a server that comes
/// back must not all knock at once.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    /// The first wait and the longest one.
    pub fn new(first: Duration, most: Duration) -> Backoff {
        Backoff { first, most, next: first }
    }

    /// How long to wait before the next attempt.
    pub fn wait(&mut self) -> Duration {
        let wait = self.next.min(self.most);
        self.next = self.next.saturating_mul(2).min(self.most);
        // The keys of a fresh hash map's state are the randomness that the standard library has.
        let chance = RandomState::new().build_hasher().finish();
        let thousandths = u32::try_from(chance % 500).unwrap_or_default();
        wait.saturating_sub(wait / 1000 * thousandths)
    }

    /// An attempt got as far as a complete replica: the next failure begins from the first wait again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_most_and_begin_again() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(20), ms(100));
        for most in [20, 40, 80, 100, 100] {
            let wait = backoff.wait();
            assert!(wait > ms(most) / 2 && wait <= ms(most), "{wait:?} of {most} ms");
        }
        backoff.reset();
        assert!(backoff.wait() <= ms(20));
    }

    #[test]
    fn no_two_clients_wait_alike() {
        let waits: std::collections::HashSet<Duration> =
            (0..100).map(|_| Backoff::new(Duration::from_secs(1), Duration::from_secs(1)).wait()).collect();
        assert!(waits.len() > 10, "{waits:?}");
    }
}
