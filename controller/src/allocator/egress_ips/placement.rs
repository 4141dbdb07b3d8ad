//! [`place`]: which node hosts which egress IP.
//!
//! The original's rules (spec: cluster side, §4.5), but for one: what must leave a node is placed elsewhere at once and not a
//! round later, as no cloud has to give the address back first.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// A node whose egress IPs are chosen here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    /// What it may host.
    pub(super) cidrs: Vec<Ipv4Net>,
    /// Whether packets reach it now.
    pub(super) online: bool,
    /// What it hosts now.
    pub(super) current: BTreeSet<Ipv4Addr>,
}

impl Host {
    fn may_host(&self, ip: Ipv4Addr) -> bool {
        self.online && self.cidrs.iter().any(|cidr| cidr.contains(&ip))
    }
}

/// What each host is to host, by name. A host that is to have nothing is there too.
pub(super) type Placement<'a> = BTreeMap<&'a str, BTreeSet<Ipv4Addr>>;

/// Places the addresses that tenants want, each tenant's in its order of preference. No address may be in there twice.
///
/// No host gets two addresses of one tenant, or one that lies in none of its CIDRs, or any while it is offline. Addresses stay
/// where they are as long as that holds, unless a host has less than half of its fair share: then it is given that. Placed
/// first are the addresses that only one host can have; of several the host with the fewest is taken, and of those the first by
/// name.
pub(super) fn place<'a>(
    hosts: &BTreeMap<&'a str, Host>,
    wanted: &BTreeMap<&str, Vec<Ipv4Addr>>,
) -> Placement<'a> {
    let tenants: BTreeMap<Ipv4Addr, &str> =
        wanted.iter().flat_map(|(tenant, ips)| ips.iter().map(|ip| (*ip, *tenant))).collect();
    let order = fair_order(wanted);
    let fresh = {
        let mut board = Board::new(hosts, &tenants);
        board.place(&order);
        board.placement
    };
    let mut settled: BTreeMap<Ipv4Addr, &str> = BTreeMap::new();
    // Each round sends more addresses where the fresh placement has them, so this ends.
    loop {
        let mut board = Board::new(hosts, &tenants);
        for (name, host) in hosts {
            for ip in host.current.iter().filter(|ip| settled.get(*ip).is_none_or(|at| at == name)) {
                board.put(name, *ip);
            }
        }
        for (ip, name) in &settled {
            board.put(name, *ip);
        }
        // What was to be settled and could not stays where it was.
        for (name, host) in hosts {
            host.current.iter().for_each(|ip| board.put(name, *ip));
        }
        board.place(&order);
        let before = settled.len();
        for (name, share) in &fresh {
            if board.placement.get(name).is_some_and(|planned| planned.len() < share.len() / 2) {
                settled.extend(share.iter().map(|ip| (*ip, *name)));
            }
        }
        if settled.len() == before {
            return board.placement;
        }
    }
}

/// Every tenant's first address, the tenants that want the fewest first; then every tenant's second, and so on.
fn fair_order(wanted: &BTreeMap<&str, Vec<Ipv4Addr>>) -> Vec<Ipv4Addr> {
    let mut tenants: Vec<_> = wanted.values().collect();
    // Stable: those that want as many stay in the order of their names.
    tenants.sort_by_key(|ips| ips.len());
    let most = tenants.last().map_or(0, |ips| ips.len());
    (0..most).flat_map(|i| tenants.iter().filter_map(move |ips| ips.get(i).copied())).collect()
}

/// A placement in the making.
struct Board<'a, 'b> {
    hosts: &'b BTreeMap<&'a str, Host>,
    tenants: &'b BTreeMap<Ipv4Addr, &'b str>,
    placement: Placement<'a>,
    placed: BTreeSet<Ipv4Addr>,
}

impl<'a, 'b> Board<'a, 'b> {
    fn new(hosts: &'b BTreeMap<&'a str, Host>, tenants: &'b BTreeMap<Ipv4Addr, &'b str>) -> Self {
        let placement = hosts.keys().map(|name| (*name, BTreeSet::new())).collect();
        Self { hosts, tenants, placement, placed: BTreeSet::new() }
    }

    /// Whether the host can have the address beside those that it has.
    fn fits(&self, name: &str, ip: Ipv4Addr) -> bool {
        let tenant = self.tenants.get(&ip);
        tenant.is_some()
            && self.hosts.get(name).is_some_and(|host| host.may_host(ip))
            && self
                .placement
                .get(name)
                .is_some_and(|there| there.iter().all(|other| self.tenants.get(other) != tenant))
    }

    /// Gives the host the address, if that fits and nobody has it.
    fn put(&mut self, name: &str, ip: Ipv4Addr) {
        if !self.placed.contains(&ip) && self.fits(name, ip) {
            if let Some(there) = self.placement.get_mut(name) {
                there.insert(ip);
            }
            self.placed.insert(ip);
        }
    }

    /// Gives away what nobody has.
    fn place(&mut self, order: &[Ipv4Addr]) {
        for only in [true, false] {
            for ip in order.iter().filter(|ip| !self.placed.contains(*ip)).copied().collect::<Vec<_>>() {
                let mut candidates =
                    self.hosts.keys().copied().filter(|name| self.fits(name, ip)).collect::<Vec<_>>();
                if only && candidates.len() != 1 {
                    continue;
                }
                candidates.sort_by_key(|name| self.placement.get(name).map_or(0, BTreeSet::len));
                if let Some(best) = candidates.first() {
                    self.put(best, ip);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_map, btree_set, vec};
    use proptest::prelude::*;

    use super::*;

    fn ip(text: &str) -> Ipv4Addr {
        text.parse().unwrap()
    }

    fn host(cidrs: &[&str], online: bool, current: &[&str]) -> Host {
        Host {
            cidrs: cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect(),
            online,
            current: current.iter().map(|text| ip(text)).collect(),
        }
    }

    fn placed(hosts: &[(&'static str, Host)], wanted: &[(&str, &[&str])]) -> Vec<(String, Vec<String>)> {
        let hosts = hosts.iter().cloned().collect();
        let wanted =
            wanted.iter().map(|(tenant, ips)| (*tenant, ips.iter().map(|text| ip(text)).collect())).collect();
        let text = |ips: &BTreeSet<Ipv4Addr>| ips.iter().map(ToString::to_string).collect::<Vec<_>>();
        place(&hosts, &wanted).iter().map(|(name, ips)| ((*name).to_owned(), text(ips))).collect()
    }

    fn at(pairs: &[(&str, &[&str])]) -> Vec<(String, Vec<String>)> {
        pairs
            .iter()
            .map(|(name, ips)| ((*name).to_owned(), ips.iter().map(|ip| (*ip).to_owned()).collect()))
            .collect()
    }

    const NET: &[&str] = &["172.17.0.0/24"];

    #[test]
    fn one_address_of_a_tenant_a_node() {
        let hosts = [("n3", host(NET, true, &[])), ("n4", host(NET, true, &[]))];
        assert_eq!(
            placed(&hosts, &[("a", &["172.17.0.1", "172.17.0.2", "172.17.0.3"])]),
            at(&[("n3", &["172.17.0.1"]), ("n4", &["172.17.0.2"])])
        );
    }

    /// The original's example (11.3, 10).
    #[test]
    fn addresses_with_one_candidate_come_first() {
        let narrow: &[&str] =
            &["172.17.0.100/32", "172.17.0.101/32", "172.17.0.102/32", "172.17.0.103/32", "172.17.1.0/24"];
        let hosts = |first: &[&str], second: &[&str]| {
            [("n3", host(narrow, true, first)), ("n4", host(NET, true, second))]
        };
        assert_eq!(
            placed(&hosts(&[], &[]), &[("ns42", &["172.17.0.100"]), ("ns43", &["172.17.0.101"])]),
            at(&[("n3", &["172.17.0.100"]), ("n4", &["172.17.0.101"])])
        );
        assert_eq!(
            placed(
                &hosts(&["172.17.0.100"], &["172.17.0.101"]),
                &[
                    ("ns42", &["172.17.0.100"]),
                    ("ns43", &["172.17.0.101"]),
                    ("ns44", &["172.17.1.1"]),
                    ("ns45", &["172.17.0.102"])
                ]
            ),
            at(&[("n3", &["172.17.0.100", "172.17.1.1"]), ("n4", &["172.17.0.101", "172.17.0.102"])])
        );
        let smaller =
            [("n3", host(&["172.17.0.100/32"], true, &["172.17.0.103"])), ("n4", host(NET, true, &[]))];
        assert_eq!(
            placed(&smaller, &[("ns42", &["172.17.0.103"])]),
            at(&[("n3", &[]), ("n4", &["172.17.0.103"])])
        );
    }

    #[test]
    fn a_node_that_goes_and_comes_back() {
        let wanted: &[(&str, &[&str])] =
            &[("a", &["172.17.0.1"]), ("b", &["172.17.0.2"]), ("c", &["172.17.0.3"]), ("d", &["172.17.0.4"])];
        let gone = [
            ("n3", host(NET, true, &["172.17.0.1", "172.17.0.3"])),
            ("n4", host(NET, false, &["172.17.0.2", "172.17.0.4"])),
        ];
        let all: &[&str] = &["172.17.0.1", "172.17.0.2", "172.17.0.3", "172.17.0.4"];
        assert_eq!(placed(&gone, wanted), at(&[("n3", all), ("n4", &[])]));
        // Nothing at all is less than half of two: it is given its share again.
        let back = [("n3", host(NET, true, all)), ("n4", host(NET, true, &[]))];
        assert_eq!(
            placed(&back, wanted),
            at(&[("n3", &["172.17.0.1", "172.17.0.3"]), ("n4", &["172.17.0.2", "172.17.0.4"])])
        );
        // One is half of two: nothing moves.
        let uneven = [("n3", host(NET, true, &all[..3])), ("n4", host(NET, true, &all[3..]))];
        assert_eq!(placed(&uneven, wanted), at(&[("n3", &all[..3]), ("n4", &all[3..])]));
    }

    #[test]
    fn an_address_on_two_nodes_stays_on_one() {
        let hosts = [("n3", host(NET, true, &["172.17.0.1"])), ("n4", host(NET, true, &["172.17.0.1"]))];
        assert_eq!(placed(&hosts, &[("a", &["172.17.0.1"])]), at(&[("n3", &["172.17.0.1"]), ("n4", &[])]));
    }

    const NAMES: [&str; 6] = ["h0", "h1", "h2", "h3", "h4", "h5"];

    fn hosts() -> impl Strategy<Value = BTreeMap<&'static str, Host>> {
        let cidrs = vec(prop_oneof![Just("10.0.0.0/28"), Just("10.0.0.0/29"), Just("10.0.0.8/30")], 1..3);
        let host = (cidrs, prop::bool::weighted(0.8), btree_set(0..16_u8, 0..8));
        btree_map((0..NAMES.len()).prop_map(|i| NAMES[i]), host, 0..6).prop_map(|hosts| {
            let host = |(cidrs, online, current): (Vec<&str>, bool, BTreeSet<u8>)| Host {
                cidrs: cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect(),
                online,
                current: current.into_iter().map(|last| Ipv4Addr::new(10, 0, 0, last)).collect(),
            };
            hosts.into_iter().map(|(name, parts)| (name, host(parts))).collect()
        })
    }

    fn wanted() -> impl Strategy<Value = BTreeMap<&'static str, Vec<Ipv4Addr>>> {
        vec(0..4_usize, 16).prop_map(|owners| {
            let mut wanted: BTreeMap<&str, Vec<Ipv4Addr>> = BTreeMap::new();
            for (last, owner) in (0..16_u8).zip(owners) {
                // The fourth is nobody.
                if let Some(tenant) = ["a", "b", "c"].get(owner) {
                    wanted.entry(tenant).or_default().push(Ipv4Addr::new(10, 0, 0, last));
                }
            }
            wanted
        })
    }

    proptest! {
        #[test]
        fn what_holds_for_every_placement(hosts in hosts(), wanted in wanted()) {
            let placement = place(&hosts, &wanted);
            prop_assert_eq!(placement.keys().collect::<Vec<_>>(), hosts.keys().collect::<Vec<_>>());
            let mut seen = BTreeSet::new();
            for (name, ips) in &placement {
                for ip in ips {
                    prop_assert!(hosts[name].may_host(*ip), "{} on {}", ip, name);
                    prop_assert!(seen.insert(*ip), "{} twice", ip);
                    prop_assert!(wanted.values().any(|all| all.contains(ip)), "nobody wants {}", ip);
                }
                for all in wanted.values() {
                    let of_one = ips.iter().filter(|ip| all.contains(ip)).count();
                    prop_assert!(of_one <= 1, "{} of one tenant on {}", of_one, name);
                }
            }
            // Nothing is left over that fits somewhere.
            for all in wanted.values() {
                for ip in all.iter().filter(|ip| !seen.contains(ip)) {
                    for (name, host) in hosts.iter().filter(|(_, host)| host.may_host(*ip)) {
                        let full = placement[name].iter().any(|other| all.contains(other));
                        prop_assert!(full, "{} fits {} ({:?})", ip, name, host);
                    }
                }
            }
        }

        #[test]
        fn a_placement_stays_as_it_is(hosts in hosts(), wanted in wanted()) {
            let placement = place(&hosts, &wanted);
            let mut after = hosts;
            for (name, host) in &mut after {
                host.current.clone_from(&placement[name]);
            }
            prop_assert_eq!(place(&after, &wanted), placement);
        }

        /// Who fails takes only its own addresses with it, as long as nobody gets less than half of its share.
        #[test]
        fn only_what_must_moves(hosts in hosts(), wanted in wanted(), failing in 0..6_usize) {
            let mut before = hosts;
            for host in before.values_mut() {
                host.online = true;
            }
            let placement = place(&before, &wanted);
            let failing = NAMES[failing];
            let mut after = before.clone();
            for (name, host) in &mut after {
                host.current.clone_from(&placement[name]);
                host.online = *name != failing;
            }
            let empty: BTreeMap<_, _> =
                after.iter().map(|(name, host)| (*name, Host { current: BTreeSet::new(), ..host.clone() })).collect();
            let share = place(&empty, &wanted);
            let moved = place(&after, &wanted);
            if placement.iter().all(|(name, ips)| *name == failing || ips.len() >= share[name].len() / 2) {
                for (name, ips) in placement.iter().filter(|(name, _)| **name != failing) {
                    prop_assert!(moved[name].is_superset(ips), "{}: {:?} became {:?}", name, ips, moved[name]);
                }
            }
        }
    }
}
