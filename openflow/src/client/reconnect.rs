//! Connecting again and again, with pauses that grow.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use super::{ClientError, Endpoint, Switch, SwitchOptions};

/// Pauses between attempts: doubling, capped, and each shortened at random by up to a quarter, so that many
/// controllers don't come back at the same moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The first pause.
    pub first: Duration,
    /// The longest pause.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff { first: Duration::from_millis(100), max: Duration::from_secs(8) }
    }
}

impl Backoff {
    /// The pause after so many failures in a row, before it is shortened.
    pub fn pause(&self, failures: u32) -> Duration {
        let factor = 1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.max)
    }
}

/// Connects to a switch as often as needed.
///
/// ```no_run
/// # async fn example(endpoint: openflow::Endpoint) {
/// let mut connector = openflow::Connector::new(endpoint);
/// loop {
///     let switch = connector.connect().await;
///     // ... read what is there, bring it up to date, follow events ...
///     let reason = switch.closed().await;
///     eprintln!("{reason}");
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct Connector {
    endpoint: Endpoint,
    options: SwitchOptions,
    backoff: Backoff,
    failures: u32,
    last_error: Option<ClientError>,
}

impl Connector {
    /// With default times and limits.
    pub fn new(endpoint: Endpoint) -> Self {
        Connector::with(endpoint, SwitchOptions::default(), Backoff::default())
    }

    /// With times and limits of one's own.
    pub fn with(endpoint: Endpoint, options: SwitchOptions, backoff: Backoff) -> Self {
        Connector { endpoint, options, backoff, failures: 0, last_error: None }
    }

    /// Tries until it succeeds. The pauses start over after a success.
    ///
    /// Cancel-safe: what failed before counts for the next call.
    pub async fn connect(&mut self) -> Switch {
        loop {
            if self.failures > 0 {
                tokio::time::sleep(shortened(self.backoff.pause(self.failures))).await;
            }
            match Switch::connect_with(&self.endpoint, self.options.clone()).await {
                Ok(switch) => {
                    self.failures = 0;
                    self.last_error = None;
                    return switch;
                }
                Err(error) => {
                    self.failures = self.failures.saturating_add(1);
                    tracing::debug!(endpoint = %self.endpoint, failures = self.failures, %error, "cannot connect");
                    self.last_error = Some(error);
                }
            }
        }
    }

    /// How many attempts have failed since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Why the last attempt failed, if it did.
    pub fn last_error(&self) -> Option<&ClientError> {
        self.last_error.as_ref()
    }
}

/// Shortens a pause at random by up to a quarter.
fn shortened(pause: Duration) -> Duration {
    // A freshly keyed hasher is as good as dice for this.
    let dice = (RandomState::new().hash_one(0u8) & 0xffff) as u32;
    pause - pause / 4 * dice / 0xffff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let backoff = Backoff { first: Duration::from_millis(100), max: Duration::from_secs(1) };
        let pauses: Vec<u128> = (1..=6).map(|n| backoff.pause(n).as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1000, 1000]);
        assert_eq!(backoff.pause(u32::MAX), backoff.max);
    }

    #[test]
    fn shortening_stays_within_a_quarter() {
        for _ in 0..100 {
            let pause = shortened(Duration::from_secs(8));
            assert!((Duration::from_secs(6)..=Duration::from_secs(8)).contains(&pause), "{pause:?}");
        }
    }
}
