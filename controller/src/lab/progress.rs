//! [`Progress`]: what is being done, for the person who waits.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::Instant;

/// Says on standard error what was done and how long it took, or says nothing.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    start: Instant,
    quiet: bool,
}

impl Progress {
    /// One that speaks. Times are counted from now.
    pub fn spoken() -> Self {
        Self { start: Instant::now(), quiet: false }
    }

    /// One that says nothing.
    pub fn silent() -> Self {
        Self { start: Instant::now(), quiet: true }
    }

    /// Says that something of `who` is done.
    pub fn done(&self, who: impl Display, what: impl Display) {
        if !self.quiet {
            eprintln!("{:>6.2}s  {who:<16} {what}", self.start.elapsed().as_secs_f64());
        }
    }

    /// How long it has taken so far.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}
