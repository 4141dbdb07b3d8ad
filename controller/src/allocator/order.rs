//! In which order a network's subnets are handed out, and which of them are taken.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::api::ClusterCidr;

/// The subnets of one cluster network, in the order in which they are handed out.
///
/// Where the boundary between subnet and host falls inside an octet, the subnets that leave that octet 0 come first:
/// 10.128.0.0/14 in /23s gives 10.128.0.0, 10.129.0.0, 10.130.0.0, 10.131.0.0, 10.128.2.0, ... To that end the bits of the
/// sequence number are rotated (spec: cluster side, §2.2).
#[derive(Clone, Copy, Debug)]
pub(super) struct SubnetOrder {
    network: u32,
    /// Bits of a subnet's hosts.
    host_bits: u32,
    /// Bits that number the subnets.
    subnet_bits: u32,
    /// By how much the number is rotated to the left.
    rotation: u32,
}

impl SubnetOrder {
    /// No more than this many bits of a network's subnets are used.
    const MAX_SUBNET_BITS: u32 = 24;

    pub(super) fn new(network: &ClusterCidr) -> Self {
        let host_bits = u32::from(network.host_subnet_length);
        let subnet_bits = (32 - u32::from(network.cidr.prefix_len())).saturating_sub(host_bits);
        let ends_in_its_first_octet =
            host_bits.saturating_sub(1) / 8 == (host_bits + subnet_bits).saturating_sub(1) / 8;
        let rotation =
            if host_bits.is_multiple_of(8) || ends_in_its_first_octet { 0 } else { 8 - host_bits % 8 };
        Self { network: network.cidr.network().to_bits(), host_bits, subnet_bits, rotation }
    }

    /// How many subnets there are.
    pub(super) fn len(&self) -> u64 {
        1 << self.subnet_bits.min(Self::MAX_SUBNET_BITS)
    }

    /// The subnet with sequence number `number`, counted from 0; `None` from [`SubnetOrder::len`] on.
    pub(super) fn get(&self, number: u64) -> Option<Ipv4Net> {
        if number >= self.len() {
            return None;
        }
        let mask = (1_u64 << self.subnet_bits) - 1;
        let id = if self.rotation == 0 {
            number
        } else {
            ((number << self.rotation) | (number >> self.subnet_bits.checked_sub(self.rotation)?)) & mask
        };
        let address = self.network | u32::try_from(id << self.host_bits).ok()?;
        Ipv4Net::new(Ipv4Addr::from_bits(address), u8::try_from(32 - self.host_bits).ok()?).ok()
    }

    /// How many of the subnets hold an address of `set`.
    pub(super) fn overlapped_by(&self, set: &AddressSet) -> u64 {
        let last = u64::from(self.network) + (1_u64 << (self.subnet_bits + self.host_bits)) - 1;
        let number = |address: u64| (address - u64::from(self.network)) >> self.host_bits;
        // Two ranges may meet in one subnet: from here on none has been counted.
        let (mut count, mut next) = (0, 0);
        for (&start, &end) in &set.ranges {
            let (start, end) = (u64::from(start).max(self.network.into()), u64::from(end).min(last));
            if start <= end {
                let first = number(start).max(next);
                count += (number(end) + 1).saturating_sub(first);
                next = number(end) + 1;
            }
        }
        count
    }
}

/// A set of addresses, kept as ranges that neither overlap nor touch.
#[derive(Clone, Debug, Default)]
pub(super) struct AddressSet {
    /// First address of a range to its last.
    ranges: BTreeMap<u32, u32>,
}

impl AddressSet {
    /// Whether the set has an address of the network.
    pub(super) fn overlaps(&self, net: &Ipv4Net) -> bool {
        let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
        self.ranges.range(..=last).next_back().is_some_and(|(_, &end)| end >= first)
    }

    /// Adds every address of the network.
    pub(super) fn insert(&mut self, net: &Ipv4Net) {
        let (mut first, mut last) = (net.network().to_bits(), net.broadcast().to_bits());
        while let Some((&start, &end)) = self.ranges.range(..=last.saturating_add(1)).next_back()
            && end.saturating_add(1) >= first
        {
            (first, last) = (first.min(start), last.max(end));
            self.ranges.remove(&start);
        }
        self.ranges.insert(first, last);
    }
}

/// Hands out the free subnets of all cluster networks: those of the first as long as it has one, then those of the next.
#[derive(Debug)]
pub(super) struct FreeSubnets {
    /// Each network's order and the number from which on none has been looked at.
    orders: Vec<(SubnetOrder, u64)>,
    taken: AddressSet,
}

impl FreeSubnets {
    pub(super) fn new(networks: &[ClusterCidr], taken: AddressSet) -> Self {
        Self { orders: networks.iter().map(|network| (SubnetOrder::new(network), 0)).collect(), taken }
    }

    /// Takes the first free subnet; `None` if all are taken.
    pub(super) fn take(&mut self) -> Option<Ipv4Net> {
        for (order, next) in &mut self.orders {
            while let Some(subnet) = order.get(*next) {
                *next += 1;
                if !self.taken.overlaps(&subnet) {
                    self.taken.insert(&subnet);
                    return Some(subnet);
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(cidr: &str, host_subnet_length: u8) -> SubnetOrder {
        SubnetOrder::new(&ClusterCidr { cidr: cidr.parse().unwrap(), host_subnet_length })
    }

    /// The vectors of the original (spec: cluster side, §11.1).
    #[test]
    fn the_original_order() {
        for (cidr, host_bits, len, vectors) in [
            (
                "10.128.0.0/14",
                9,
                512,
                &[
                    (0, "10.128.0.0/23"),
                    (1, "10.129.0.0/23"),
                    (2, "10.130.0.0/23"),
                    (3, "10.131.0.0/23"),
                    (4, "10.128.2.0/23"),
                    (5, "10.129.2.0/23"),
                    (7, "10.131.2.0/23"),
                    (8, "10.128.4.0/23"),
                    (127, "10.131.62.0/23"),
                    (128, "10.128.64.0/23"),
                    (508, "10.128.254.0/23"),
                    (511, "10.131.254.0/23"),
                ][..],
            ),
            (
                "10.128.0.0/14",
                8,
                1024,
                &[
                    (0, "10.128.0.0/24"),
                    (1, "10.128.1.0/24"),
                    (255, "10.128.255.0/24"),
                    (256, "10.129.0.0/24"),
                    (1023, "10.131.255.0/24"),
                ],
            ),
            (
                "10.1.0.0/16",
                6,
                1024,
                &[
                    (0, "10.1.0.0/26"),
                    (1, "10.1.1.0/26"),
                    (255, "10.1.255.0/26"),
                    (256, "10.1.0.64/26"),
                    (511, "10.1.255.64/26"),
                    (512, "10.1.0.128/26"),
                    (513, "10.1.1.128/26"),
                    (768, "10.1.0.192/26"),
                    (1023, "10.1.255.192/26"),
                ],
            ),
            (
                "10.0.0.0/14",
                10,
                256,
                &[
                    (0, "10.0.0.0/22"),
                    (1, "10.1.0.0/22"),
                    (3, "10.3.0.0/22"),
                    (4, "10.0.4.0/22"),
                    (8, "10.0.8.0/22"),
                    (254, "10.2.252.0/22"),
                    (255, "10.3.252.0/22"),
                ],
            ),
            ("10.1.0.0/16", 10, 64, &[(0, "10.1.0.0/22"), (1, "10.1.4.0/22"), (63, "10.1.252.0/22")]),
            (
                "10.1.0.0/16",
                14,
                4,
                &[(0, "10.1.0.0/18"), (1, "10.1.64.0/18"), (2, "10.1.128.0/18"), (3, "10.1.192.0/18")],
            ),
            (
                "192.168.0.0/18",
                9,
                32,
                &[(0, "192.168.0.0/23"), (1, "192.168.2.0/23"), (31, "192.168.62.0/23")],
            ),
            (
                "10.0.0.0/8",
                9,
                32768,
                &[
                    (0, "10.0.0.0/23"),
                    (1, "10.1.0.0/23"),
                    (255, "10.255.0.0/23"),
                    (256, "10.0.2.0/23"),
                    (32767, "10.255.254.0/23"),
                ],
            ),
            (
                "172.16.0.0/12",
                11,
                512,
                &[
                    (0, "172.16.0.0/21"),
                    (1, "172.17.0.0/21"),
                    (15, "172.31.0.0/21"),
                    (16, "172.16.8.0/21"),
                    (31, "172.31.8.0/21"),
                    (32, "172.16.16.0/21"),
                    (511, "172.31.248.0/21"),
                ],
            ),
            ("10.1.0.0/24", 4, 16, &[(0, "10.1.0.0/28"), (1, "10.1.0.16/28"), (15, "10.1.0.240/28")]),
            (
                "10.1.0.0/23",
                4,
                32,
                &[
                    (0, "10.1.0.0/28"),
                    (1, "10.1.1.0/28"),
                    (2, "10.1.0.16/28"),
                    (3, "10.1.1.16/28"),
                    (31, "10.1.1.240/28"),
                ],
            ),
            ("10.1.0.0/16", 16, 1, &[(0, "10.1.0.0/16")]),
        ] {
            let order = order(cidr, host_bits);
            assert_eq!(order.len(), len, "{cidr} {host_bits}");
            assert_eq!(order.get(len), None);
            for &(number, subnet) in vectors {
                assert_eq!(order.get(number).unwrap().to_string(), subnet, "{cidr} {host_bits} {number}");
            }
            let mut all: Vec<_> = (0..len).map(|number| order.get(number).unwrap()).collect();
            all.sort();
            all.dedup();
            assert_eq!(all.len() as u64, len, "{cidr} {host_bits}: each subnet once");
        }
    }

    #[test]
    fn the_widest_network_has_an_order() {
        let order = order("0.0.0.0/0", 2);
        assert_eq!(order.len(), 1 << 24);
        assert_eq!(order.get(order.len() - 1).unwrap().prefix_len(), 30);
    }

    #[test]
    fn second_network_when_the_first_is_full() {
        let networks: Vec<_> = ["10.1.0.0/16", "10.2.0.0/16"]
            .map(|cidr| ClusterCidr { cidr: cidr.parse().unwrap(), host_subnet_length: 14 })
            .to_vec();
        let mut taken = AddressSet::default();
        // A subnet of another length, as after a change of hostSubnetLength.
        taken.insert(&"10.1.64.0/24".parse().unwrap());
        let mut free = FreeSubnets::new(&networks, taken);
        let given: Vec<_> = std::iter::from_fn(|| free.take()).map(|subnet| subnet.to_string()).collect();
        assert_eq!(
            given,
            [
                "10.1.0.0/18",
                "10.1.128.0/18",
                "10.1.192.0/18",
                "10.2.0.0/18",
                "10.2.64.0/18",
                "10.2.128.0/18",
                "10.2.192.0/18"
            ]
        );
    }

    #[test]
    fn address_sets_merge() {
        let net = |text: &str| text.parse::<Ipv4Net>().unwrap();
        let mut set = AddressSet::default();
        for text in
            ["10.0.0.0/24", "10.0.2.0/24", "10.0.1.0/24", "10.0.1.128/25", "255.255.255.0/24", "0.0.0.0/8"]
        {
            set.insert(&net(text));
        }
        assert_eq!(set.ranges.len(), 3);
        for (text, expected) in [
            ("10.0.0.0/8", true),
            ("10.0.2.255/32", true),
            ("10.0.3.0/24", false),
            ("9.0.0.0/8", false),
            ("255.255.255.255/32", true),
            ("0.0.0.0/0", true),
        ] {
            assert_eq!(set.overlaps(&net(text)), expected, "{text}");
        }
        set.insert(&net("0.0.0.0/0"));
        assert_eq!(set.ranges.len(), 1);
    }
}
