//! Random clusters and packets, the same after the same seed everywhere.

mod cluster;
mod packets;

pub use cluster::{RandomCluster, Shape};
pub use packets::{Packets, conntrack};

/// xorshift64*: small, and its numbers never change under us.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        // The state must not be 0, and small seeds must not begin alike.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    /// A number below `end`; 0 if there is none.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// True in one of `n` cases.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// One of several.
    ///
    /// # Panics
    /// When there are none.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[usize::try_from(self.below(from.len() as u64)).unwrap_or_default()]
    }
}

/// How many packets a comparison takes: `OSDN_PACKETS` (`make soak`: 20,000), or `default`.
///
/// # Errors
/// When the variable is no number.
pub fn packets(default: usize) -> anyhow::Result<usize> {
    number("OSDN_PACKETS", default)
}

/// The random numbers of this run: `OSDN_SEED` repeats one.
///
/// # Errors
/// When the variable is no number.
pub fn seeded() -> anyhow::Result<Random> {
    Ok(Random::new(number("OSDN_SEED", 1)? as u64))
}

fn number(variable: &str, default: usize) -> anyhow::Result<usize> {
    Ok(match std::env::var(variable) {
        Ok(text) => text.parse()?,
        Err(_) => default,
    })
}
