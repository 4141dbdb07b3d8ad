//! Sets of IPv4 addresses.

use ipnet::Ipv4Net;

/// Ranges with both ends, in order; none touches the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges(Vec<(u32, u32)>);

impl Ranges {
    pub(super) fn all() -> Self {
        Self(vec![(0, u32::MAX)])
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each range.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.0.iter().copied()
    }

    pub(super) fn intersection(&self, other: &Self) -> Self {
        let (mut mine, mut theirs) = (self.iter().peekable(), other.iter().peekable());
        let mut both = Vec::new();
        while let (Some(&a), Some(&b)) = (mine.peek(), theirs.peek()) {
            let (from, to) = (a.0.max(b.0), a.1.min(b.1));
            if from <= to {
                both.push((from, to));
            }
            if a.1 < b.1 {
                mine.next()
            } else {
                theirs.next()
            };
        }
        Self(both)
    }

    /// Those that are not in `other`.
    pub(super) fn without(&self, other: &Self) -> Self {
        let mut gaps = Vec::new();
        let mut next = Some(0);
        for (from, to) in other.iter() {
            if let Some(start) = next.filter(|&start| start < from) {
                gaps.push((start, from - 1));
            }
            next = to.checked_add(1);
        }
        gaps.extend(next.map(|start| (start, u32::MAX)));
        self.intersection(&Self(gaps))
    }
}

impl FromIterator<(u32, u32)> for Ranges {
    fn from_iter<T: IntoIterator<Item = (u32, u32)>>(ranges: T) -> Self {
        let mut sorted: Vec<(u32, u32)> = ranges.into_iter().filter(|(from, to)| from <= to).collect();
        sorted.sort_unstable();
        let mut merged: Vec<(u32, u32)> = Vec::with_capacity(sorted.len());
        for (from, to) in sorted {
            match merged.last_mut() {
                Some(last) if from <= last.1.saturating_add(1) => last.1 = last.1.max(to),
                _ => merged.push((from, to)),
            }
        }
        Self(merged)
    }
}

impl FromIterator<Ipv4Net> for Ranges {
    fn from_iter<T: IntoIterator<Item = Ipv4Net>>(networks: T) -> Self {
        networks
            .into_iter()
            .map(|network| (network.network().to_bits(), network.broadcast().to_bits()))
            .collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_sets() {
        let of = |ranges: &[(u32, u32)]| ranges.iter().copied().collect::<Ranges>();
        assert_eq!(of(&[(5, 7), (1, 2), (3, 4), (9, 9), (8, 3)]), of(&[(1, 7), (9, 9)]));
        let set = of(&[(1, 7), (9, 20), (u32::MAX, u32::MAX)]);
        assert_eq!(
            set.intersection(&of(&[(0, 1), (7, 10), (15, 16)])),
            of(&[(1, 1), (7, 7), (9, 10), (15, 16)])
        );
        assert_eq!(
            set.without(&of(&[(2, 3), (8, 19)])),
            of(&[(1, 1), (4, 7), (20, 20), (u32::MAX, u32::MAX)])
        );
        assert!(set.without(&Ranges::all()).is_empty());
        assert_eq!(set.without(&Ranges::default()), set);
        assert_eq!(Ranges::all().without(&set).without(&Ranges::all().without(&set)), Ranges::default());
        let networks = ["10.0.0.0/9", "10.128.0.0/9"].map(|network| network.parse::<Ipv4Net>().unwrap());
        assert_eq!(networks.into_iter().collect::<Ranges>(), of(&[(0x0a00_0000, 0x0aff_ffff)]));
    }
}
