//! [`Usage`]: what is given and what is left.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::order::{AddressSet, SubnetOrder};
use super::reservations::Reservations;
use super::subnets::subnet_of;
use crate::api::{Kind, NetworkConfig, Vnid};
use crate::cluster::ClusterState;

/// How much of everything that is handed out is in use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Of each cluster network, in the order in which they are used up.
    pub subnets: Vec<Subnets>,
    /// Of the VNIDs, unless the plugin has none.
    pub vnids: Option<Vnids>,
    /// Of the egress IPs, unless the plugin has none.
    pub egress_ips: Option<EgressIps>,
}

/// Subnets of one cluster network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnets {
    /// The network.
    pub cidr: Ipv4Net,
    /// Those that are given, or hold an address of one that is.
    pub allocated: u64,
    /// Those that can be given.
    pub free: u64,
}

/// VNIDs but those that are reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vnids {
    /// Those that a NetNamespace has, or will have in a moment.
    pub allocated: u64,
    /// Those that can be given.
    pub free: u64,
}

/// Egress IPs that namespaces ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EgressIps {
    /// Those that a HostSubnet has.
    pub placed: u64,
    /// Those that none has.
    pub unplaced: u64,
}

impl Usage {
    /// What is in use in this state, or is on its way into objects. Without a valid ClusterNetwork there is nothing to give.
    pub(super) fn of(state: &ClusterState, reservations: &Reservations) -> Self {
        let network = state.cluster_network.as_deref();
        let Some(config) = network.and_then(|network| NetworkConfig::try_from(network).ok()) else {
            return Self::default();
        };
        let mut taken = AddressSet::default();
        state.host_subnets.values().filter_map(|object| subnet_of(object)).for_each(|net| taken.insert(&net));
        state
            .unreadable_of(Kind::HostSubnet)
            .filter_map(|(_, known)| known.held.subnet)
            .for_each(|net| taken.insert(&net));
        reservations.subnets.values().for_each(|reserved| taken.insert(&reserved.value));
        let subnets = config.cluster_networks.iter().map(|network| {
            let order = SubnetOrder::new(network);
            let allocated = order.overlapped_by(&taken);
            Subnets { cidr: network.cidr, allocated, free: order.len().saturating_sub(allocated) }
        });
        let has_vnids = config.plugin.has_vnids();
        Self {
            subnets: subnets.collect(),
            vnids: has_vnids.then(|| vnids(state, reservations)),
            egress_ips: has_vnids.then(|| egress_ips(state)),
        }
    }
}

fn vnids(state: &ClusterState, reservations: &Reservations) -> Vnids {
    let given = state.net_namespaces.values().map(|object| object.netid);
    let given =
        given.chain(state.unreadable_of(Kind::NetNamespace).filter_map(|(_, known)| known.held.netid));
    let noted = reservations.vnids.values().map(|noted| noted.value);
    let all = Vnid::FIRST_ALLOCATABLE.get()..=Vnid::MAX.get();
    let mut numbers: Vec<u32> = given.chain(noted).filter(|netid| all.contains(netid)).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let allocated = numbers.len() as u64;
    Vnids { allocated, free: u64::from(all.end() - all.start() + 1).saturating_sub(allocated) }
}

fn egress_ips(state: &ClusterState) -> EgressIps {
    let addresses =
        |texts: &[String]| -> Vec<Ipv4Addr> { texts.iter().filter_map(|text| text.parse().ok()).collect() };
    let wanted: BTreeSet<_> =
        state.net_namespaces.values().flat_map(|object| addresses(&object.egress_ips)).collect();
    let hosted: BTreeSet<_> =
        state.host_subnets.values().flat_map(|object| addresses(&object.egress_ips)).collect();
    let placed = wanted.intersection(&hosted).count() as u64;
    EgressIps { placed, unplaced: wanted.len() as u64 - placed }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::{ClusterNetwork, HostSubnet, NetNamespace};

    fn used(plugin: &str, subnets: &[&str], vnids: &[u32]) -> Usage {
        let network: ClusterNetwork = serde_json::from_value(json!({
            "metadata": {"name": "default"}, "network": "10.128.0.0/22", "hostsubnetlength": 9,
            "clusterNetworks": [
                {"CIDR": "10.128.0.0/22", "hostSubnetLength": 9}, {"CIDR": "10.132.0.0/24", "hostSubnetLength": 7},
            ],
            "serviceNetwork": "172.30.0.0/16", "pluginName": plugin,
        }))
        .unwrap();
        let mut state = ClusterState::default();
        state.insert(network.into());
        for (n, subnet) in subnets.iter().enumerate() {
            let name = format!("n{n}");
            let object: HostSubnet = serde_json::from_value(json!({
                "metadata": {"name": name}, "host": name, "hostIP": "192.0.2.1", "subnet": subnet,
                "egressIPs": if n == 0 { vec!["192.0.2.9", "192.0.2.10"] } else { vec![] },
            }))
            .unwrap();
            state.insert(object.into());
        }
        for (n, netid) in vnids.iter().enumerate() {
            let name = format!("t{n}");
            let object: NetNamespace = serde_json::from_value(json!({
                "metadata": {"name": name}, "netname": name, "netid": netid,
                "egressIPs": [format!("192.0.2.{}", 10 + n)],
            }))
            .unwrap();
            state.insert(object.into());
        }
        Usage::of(&state, &Reservations::default())
    }

    #[test]
    fn what_is_given_and_what_is_left() {
        // The third is longer than the network's own, the fourth shorter: it takes both of its neighbours.
        let usage = used(
            "redhat/openshift-ovs-multitenant",
            &["10.128.0.0/23", "10.132.0.0/25", "10.128.2.128/25", "10.132.0.0/24", "192.168.0.0/24"],
            &[0, 10, 10, 11],
        );
        let subnets: Vec<_> =
            usage.subnets.iter().map(|net| (net.cidr.to_string(), net.allocated, net.free)).collect();
        assert_eq!(subnets, [("10.128.0.0/22".to_owned(), 2, 0), ("10.132.0.0/24".to_owned(), 2, 0)]);
        assert_eq!(usage.vnids, Some(Vnids { allocated: 2, free: (1 << 24) - 10 - 2 }));
        assert_eq!(usage.egress_ips, Some(EgressIps { placed: 1, unplaced: 3 }));
    }

    #[test]
    fn a_plugin_without_vnids_has_none_to_give() {
        let usage = used("redhat/openshift-ovs-subnet", &["10.128.0.0/25", "10.128.1.0/25"], &[10]);
        let first = usage.subnets.first().map(|net| (net.allocated, net.free));
        assert_eq!(first, Some((1, 1)), "two halves of one subnet");
        assert_eq!((usage.vnids, usage.egress_ips), (None, None));
    }
}
