//! Which egress IPs are in use, and where a namespace's packets leave: the same decision on every node, from
//! HostSubnets and NetNamespaces alone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use flowtables::pipeline::vnid::Vnid;

use super::inputs::Problem;

/// A node, as far as egress IPs go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    /// Name of the node.
    pub(super) name: String,
    /// Its VTEP.
    pub(super) vtep: Ipv4Addr,
    /// Whether packets can reach it now.
    pub(super) online: bool,
    /// The egress IPs that its HostSubnet lists.
    pub(super) ips: BTreeSet<Ipv4Addr>,
}

/// A namespace that asks for egress IPs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// Name of the namespace.
    pub(super) namespace: String,
    /// Its VNID. No other request has it: of the namespaces that share one, one decides.
    pub(super) vnid: Vnid,
    /// The addresses, in order of preference. Empty if none that it named can be read: it asked all the same.
    pub(super) ips: Vec<Ipv4Addr>,
}

/// The egress IPs that a namespace may use, in its order, each with the node that hosts it. Empty: none, and nothing may
/// leave.
pub(super) type Usable<'a> = Vec<(Ipv4Addr, &'a Host)>;

/// What each request comes to, by namespace.
///
/// An address is in use if exactly one node lists it and exactly one namespace asks for it, and the same node hosts
/// no other address of that namespace. A namespace that asks for an address that another one asks for too can use
/// none at all, even if it has others: who is who would be guessed. Whether the node can be reached now is not asked.
#[must_use]
pub(super) fn usable<'a>(
    hosts: &'a [Host],
    requests: &[Request],
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, Usable<'a>> {
    let mut hosted: BTreeMap<Ipv4Addr, Vec<&Host>> = BTreeMap::new();
    for host in hosts {
        for ip in &host.ips {
            hosted.entry(*ip).or_default().push(host);
        }
    }
    let mut wanted: BTreeMap<Ipv4Addr, BTreeSet<&str>> = BTreeMap::new();
    for request in requests {
        for ip in &request.ips {
            wanted.entry(*ip).or_default().insert(&request.namespace);
        }
    }
    let only_host = |ip: &Ipv4Addr| match hosted.get(ip).map(Vec::as_slice) {
        Some([host]) => Some(*host),
        _ => None,
    };

    for (ip, names) in wanted.iter().filter(|(_, names)| names.len() > 1) {
        let names = names.iter().copied().collect::<Vec<_>>().join(", ");
        problems.push(Problem {
            object: format!("egress IP {ip}"),
            reason: format!(
                "the namespaces {names} all ask for it: none of them reaches the outside until only one NetNamespace lists it"
            ),
        });
    }
    for (ip, hosts) in hosted.iter().filter(|(ip, hosts)| hosts.len() > 1 && wanted.contains_key(ip)) {
        let names = hosts.iter().map(|host| host.name.as_str()).collect::<Vec<_>>().join(", ");
        problems.push(Problem {
            object: format!("egress IP {ip}"),
            reason: format!(
                "the nodes {names} all host it: it is not used until only one HostSubnet lists it"
            ),
        });
    }

    let mut result = BTreeMap::new();
    for request in requests {
        let contested = request.ips.iter().any(|ip| wanted.get(ip).is_some_and(|names| names.len() > 1));
        let mut usable = Usable::new();
        for (i, ip) in request.ips.iter().enumerate() {
            let Some(host) = only_host(ip) else { continue };
            let twin = request
                .ips
                .iter()
                .find(|other| *other != ip && only_host(other).is_some_and(|other| other.name == host.name));
            if let Some(twin) = twin {
                if request.ips.iter().position(|other| other == twin) > Some(i) {
                    problems.push(Problem {
                        object: format!("NetNamespace {}", request.namespace),
                        reason: format!(
                            "its egress IPs {ip} and {twin} are both on node {}: neither is used until one moves to another node",
                            host.name
                        ),
                    });
                }
                continue;
            }
            if !contested && !usable.iter().any(|(known, _)| known == ip) {
                usable.push((*ip, host));
            }
        }
        result.insert(request.namespace.clone(), usable);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(192, 168, 108, last)
    }

    fn host(last: u8, ips: &[u8]) -> Host {
        let ips = ips.iter().map(|&last| ip(last)).collect();
        Host { name: format!("node{last}"), vtep: ip(last), online: true, ips }
    }

    fn request(vnid: u32, ips: &[u8]) -> Request {
        Request {
            namespace: format!("ns{vnid}"),
            vnid: Vnid::try_from(vnid).unwrap(),
            ips: ips.iter().map(|&last| ip(last)).collect(),
        }
    }

    /// What each request comes to (addresses and hosts by their last bytes), and the problems.
    fn outcome(hosts: &[Host], requests: &[Request]) -> (Vec<Vec<(u8, u8)>>, Vec<String>) {
        let mut problems = Vec::new();
        let usable = usable(hosts, requests, &mut problems);
        let problems = problems.iter().map(ToString::to_string).collect();
        let mut outcome = Vec::new();
        for request in requests {
            let pairs = &usable[&request.namespace];
            outcome.push(pairs.iter().map(|(ip, host)| (ip.octets()[3], host.vtep.octets()[3])).collect());
        }
        (outcome, problems)
    }

    /// The steps of the replaced system's own scenario.
    #[test]
    fn addresses_are_used_where_one_node_and_one_namespace_name_them() {
        let (usable, problems) = outcome(&[], &[request(42, &[100])]);
        assert_eq!((usable, problems.len()), (vec![vec![]], 0), "asked for, hosted by none: dropped");

        let (usable, _) = outcome(&[host(4, &[100])], &[request(42, &[100])]);
        assert_eq!(usable, [[(100, 4)]]);

        let both = [host(4, &[100]), host(5, &[101])];
        let (usable, _) = outcome(&both, &[request(42, &[100, 101])]);
        assert_eq!(usable, [[(100, 4), (101, 5)]]);

        let (usable, problems) =
            outcome(&[host(4, &[100, 101]), host(5, &[101])], &[request(42, &[100, 101])]);
        assert_eq!(usable, [[(100, 4)]]);
        assert_eq!(
            problems,
            ["egress IP 192.168.108.101: the nodes node4, node5 all host it: it is not used until only one \
              HostSubnet lists it"]
        );

        let (usable, problems) = outcome(&both, &[request(42, &[100, 101]), request(43, &[100])]);
        assert_eq!(usable, [vec![], vec![]], "even the one that has another address");
        assert_eq!(problems.len(), 1);
    }

    #[test]
    fn two_addresses_of_a_namespace_on_one_node_are_none() {
        let (usable, problems) =
            outcome(&[host(4, &[100, 101]), host(5, &[102])], &[request(42, &[100, 101, 102])]);
        assert_eq!(usable, [[(102, 5)]]);
        assert_eq!(problems.len(), 1, "{problems:?}");
        let (usable, _) = outcome(&[host(4, &[100, 101])], &[request(42, &[100]), request(43, &[101])]);
        assert_eq!(usable, [[(100, 4)], [(101, 4)]], "two namespaces may share a node");
    }
}
