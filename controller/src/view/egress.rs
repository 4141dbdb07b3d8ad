//! How tenants leave the cluster: the inputs of egress IPs and EgressNetworkPolicies.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use flowtables::feature::Exit;
use flowtables::feature::egress_ip::{EgressIp, Route};
use flowtables::feature::egress_policy::{EgressPolicy, MAX_RULES, Rule, Rules, Verdict, destination};
use flowtables::pipeline::vnid::Vnid;
use ipnet::Ipv4Net;

use super::egress_ips::{Host, Request, usable};
use super::inputs::Problem;
use super::tenancy::{Tenancy, name};
use crate::api::{EgressNetworkPolicy, EgressNetworkPolicyRule, Kind, ObjectRef};
use crate::cluster::{ClusterState, Unreadable};

/// The addresses of DNS names, in lower case and without a dot at the end. A name that is not there has not been
/// resolved; one without addresses has none.
pub type Names = BTreeMap<String, BTreeSet<Ipv4Addr>>;

/// An egress IP that this node hosts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostedEgressIp {
    /// The address.
    pub ip: Ipv4Addr,
    /// The namespace whose packets leave under it.
    pub namespace: String,
    /// The namespace's VNID, of which the mark of its packets is made.
    pub vnid: Vnid,
}

/// Inputs of both features.
pub(super) struct Egress {
    pub(super) ips: Vec<EgressIp>,
    pub(super) hosted: Vec<HostedEgressIp>,
    pub(super) policies: Vec<EgressPolicy>,
    /// The DNS names that they speak of.
    pub(super) names: BTreeSet<String>,
    /// The other nodes by which pods of this one leave, whether they can be reached or not.
    pub(super) nodes: BTreeSet<String>,
}

/// What decides how tenants leave, besides their own objects.
pub(super) struct Surroundings<'a> {
    /// This node's VTEP.
    pub(super) own: Ipv4Addr,
    /// MAC address of this node's `tun0`.
    pub(super) tun0_mac: [u8; 6],
    /// Every node with its egress IPs, this one among them.
    pub(super) hosts: &'a [Host],
    /// The VNIDs that have pods here.
    pub(super) local: &'a BTreeSet<Vnid>,
    /// What DNS said.
    pub(super) names: &'a Names,
}

/// How each tenant leaves.
pub(super) fn egress(
    state: &ClusterState,
    tenancy: &Tenancy<'_>,
    around: &Surroundings<'_>,
    problems: &mut Vec<Problem>,
) -> Egress {
    let requests = requests(tenancy, problems);
    let usable = usable(around.hosts, &requests, problems);
    let hosted = requests
        .iter()
        .flat_map(|request| usable.get(&request.namespace).into_iter().flatten().map(move |ip| (request, ip)))
        .filter(|(_, (_, host))| host.vtep == around.own)
        .map(|(Request { namespace, vnid, .. }, &(ip, _))| HostedEgressIp {
            ip,
            namespace: namespace.clone(),
            vnid: *vnid,
        })
        .collect();
    let (mut ips, mut nodes) = (Vec::new(), BTreeSet::new());
    for Request { namespace, vnid, .. } in requests {
        let usable = usable.get(&namespace).map_or(&[][..], Vec::as_slice);
        let route = if usable.iter().any(|(_, host)| host.vtep == around.own) {
            Route::Here { tun0_mac: around.tun0_mac }
        } else {
            let (online, offline): (Vec<_>, Vec<_>) = usable.iter().partition(|(_, host)| host.online);
            if around.local.contains(&vnid) {
                nodes.extend(usable.iter().map(|(_, host)| host.name.clone()));
                problems.extend(
                    offline
                        .into_iter()
                        .map(|(ip, host)| passed_over(ip, host, &namespace, online.is_empty())),
                );
            }
            match online.is_empty() {
                true => Route::Nowhere,
                false => Route::Elsewhere(online.into_iter().map(|(_, host)| host.vtep).collect()),
            }
        };
        ips.push(EgressIp { namespace, vnid, route, policed: false });
    }

    let (mut policies, mut names) = (Vec::new(), BTreeSet::new());
    for (vnid, found) in by_vnid(state, tenancy, problems) {
        let Some((namespace, rules)) = rules(vnid, &found, tenancy, around.names, problems) else { continue };
        let ip = ips.iter_mut().find(|ip| ip.vnid == vnid);
        // Packets of a tenant come by here if it has pods here, or leaves here.
        let leaves_here = ip.as_ref().is_some_and(|ip| matches!(ip.route, Route::Here { .. }));
        if !leaves_here && !around.local.contains(&vnid) {
            continue;
        }
        let exit = ip.map_or(Exit::Host, |ip| {
            ip.policed = true;
            ip.exit()
        });
        let spoken_of =
            found.policies.iter().flat_map(|policy| &policy.spec.egress).map(|rule| key(&rule.to.dns_name));
        names.extend(spoken_of.filter(|name| !name.is_empty()));
        policies.push(EgressPolicy { namespace, vnid, rules, exit });
    }
    Egress { ips, hosted, policies, names, nodes }
}

/// Says that an egress IP is of no use now.
fn passed_over(ip: Ipv4Addr, host: &Host, namespace: &str, only: bool) -> Problem {
    let meanwhile = match only {
        true => format!("nothing of namespace {namespace} leaves the cluster"),
        false => format!("namespace {namespace} leaves by its other egress IPs"),
    };
    Problem {
        object: format!("egress IP {ip}"),
        reason: format!("its node {} does not answer: until it does, {meanwhile}", host.name),
    }
}

/// How a name is looked up in [`Names`].
fn key(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

/// Who asks for egress IPs. Packets are told apart by VNID only, so of the namespaces that share one the oldest that
/// asks decides for all.
fn requests(tenancy: &Tenancy<'_>, problems: &mut Vec<Problem>) -> Vec<Request> {
    let mut requests = Vec::new();
    for (vnid, namespaces) in tenancy.iter() {
        let mut asking = namespaces.iter().filter(|object| !object.egress_ips.is_empty());
        let Some(decides) = asking.next() else { continue };
        for other in asking.filter(|other| other.egress_ips != decides.egress_ips) {
            problems.push(Problem {
                object: format!("NetNamespace {}", name(other)),
                reason: format!(
                    "its egress IPs are ignored: it shares VNID {vnid} with {}, which is older and decides for both",
                    name(decides)
                ),
            });
        }
        let mut ips = Vec::new();
        for text in &decides.egress_ips {
            match text.parse() {
                Ok(ip) => ips.push(ip),
                Err(_) => problems.push(Problem {
                    object: format!("NetNamespace {}", name(decides)),
                    reason: format!("egress IP {text} is no IPv4 address: it is not used"),
                }),
            }
        }
        requests.push(Request { namespace: name(decides).to_owned(), vnid, ips });
    }
    requests
}

/// The policies of a VNID.
#[derive(Default)]
struct Policies<'a> {
    /// Those that have rules.
    policies: Vec<&'a EgressNetworkPolicy>,
    /// Those that can't be read, which may have any.
    unreadable: Vec<(&'a ObjectRef, &'a Unreadable)>,
}

/// The policies by the VNID of their namespace, the oldest namespace first.
fn by_vnid<'a>(
    state: &'a ClusterState,
    tenancy: &Tenancy<'_>,
    problems: &mut Vec<Problem>,
) -> BTreeMap<Vnid, Policies<'a>> {
    let mut by_namespace: BTreeMap<&str, Policies<'a>> = BTreeMap::new();
    for ((namespace, _), policy) in &state.egress_network_policies {
        if !policy.spec.egress.is_empty() {
            by_namespace.entry(namespace).or_default().policies.push(policy);
        }
    }
    for (object, known) in state.unreadable_of(Kind::EgressNetworkPolicy) {
        let namespace = object.namespace.as_deref().unwrap_or_default();
        by_namespace.entry(namespace).or_default().unreadable.push((object, known));
    }
    let mut by_vnid: BTreeMap<Vnid, Policies<'a>> = BTreeMap::new();
    for (vnid, namespaces) in tenancy.iter() {
        for namespace in namespaces {
            if let Some(found) = by_namespace.remove(name(namespace)) {
                let all = by_vnid.entry(vnid).or_default();
                all.policies.extend(found.policies);
                all.unreadable.extend(found.unreadable);
            }
        }
    }
    for (namespace, found) in by_namespace {
        let reason = format!("namespace {namespace} has no NetNamespace yet: it has no effect");
        problems.extend(found.objects().map(|object| Problem { object, reason: reason.clone() }));
    }
    by_vnid
}

impl Policies<'_> {
    /// Kind and name of each.
    fn objects(&self) -> impl Iterator<Item = String> {
        let unreadable = self.unreadable.iter().map(|(object, _)| object.to_string());
        self.policies.iter().map(|policy| object(policy)).chain(unreadable)
    }

    /// The namespace of the first.
    fn namespace(&self) -> Option<&str> {
        let readable = self.policies.first().and_then(|policy| policy.metadata.namespace.as_deref());
        readable.or_else(|| self.unreadable.first().and_then(|(object, _)| object.namespace.as_deref()))
    }
}

fn object(policy: &EgressNetworkPolicy) -> String {
    let meta = &policy.metadata;
    format!(
        "EgressNetworkPolicy {}/{}",
        meta.namespace.as_deref().unwrap_or_default(),
        meta.name.as_deref().unwrap_or_default()
    )
}

/// What holds for a VNID, and the namespace that it is put down to.
fn rules(
    vnid: Vnid,
    found: &Policies<'_>,
    tenancy: &Tenancy<'_>,
    names: &Names,
    problems: &mut Vec<Problem>,
) -> Option<(String, Rules)> {
    let namespace = found.namespace()?.to_owned();
    let mut all = |reason: &str| {
        problems.extend(found.objects().map(|object| Problem { object, reason: reason.to_owned() }));
    };
    if vnid.is_global() {
        all("it is ignored: its namespace is global, and a policy would bind all global namespaces");
        return None;
    }
    let sharing = tenancy.namespaces(vnid);
    if sharing.len() > 1 {
        let names = sharing.iter().map(|object| name(object)).collect::<Vec<_>>().join(", ");
        all(&format!(
            "it cannot hold for one of the namespaces {names} alone, which share VNID {vnid}: nothing of theirs leaves \
             the cluster until the policy is deleted or they are isolated"
        ));
        return Some((namespace, Rules::DropAll));
    }
    if found.objects().count() > 1 {
        all(&format!(
            "namespace {namespace} has {} policies, and which comes first is not known: nothing of it leaves the \
             cluster until only one is left",
            found.objects().count()
        ));
        return Some((namespace, Rules::DropAll));
    }
    if let Some((object, known)) = found.unreadable.first() {
        problems.push(Problem {
            object: object.to_string(),
            reason: format!("{}: nothing leaves the cluster until it is mended", known.error),
        });
        return Some((namespace, Rules::DropAll));
    }
    let first = found.policies.first()?;
    let mut fault = |reason: String| problems.push(Problem { object: object(first), reason });
    let rules = &first.spec.egress;
    if rules.len() > MAX_RULES {
        fault(format!("{} rules are more than {MAX_RULES}: nothing leaves the cluster", rules.len()));
        return Some((namespace, Rules::DropAll));
    }
    let mut ordered = Vec::new();
    for (i, each) in rules.iter().enumerate() {
        match rule(each, names) {
            // Its place stays its own, so that the rest keeps its priorities when the name gets addresses.
            Ok(rule) => {
                if rule.destinations.is_empty() {
                    fault(format!(
                        "spec.egress[{i}]: {} has no addresses: the rule matches nothing",
                        each.to.dns_name
                    ));
                }
                ordered.push(rule);
            }
            Err(Unclear::Name(rule)) => {
                let until = match rule.verdict {
                    Verdict::Allow => "allows nothing",
                    Verdict::Deny => "denies every destination that no rule before it names",
                };
                let name = &each.to.dns_name;
                fault(format!(
                    "spec.egress[{i}]: the addresses of {name} are not known: until they are, the rule {until}"
                ));
                ordered.push(rule);
            }
            Err(Unclear::Rule(reason)) => {
                fault(format!("spec.egress[{i}]: {reason}: nothing leaves the cluster until it is mended"));
                return Some((namespace, Rules::DropAll));
            }
        }
    }
    Some((namespace, Rules::Ordered(ordered)))
}

/// Why a rule says nothing definite.
enum Unclear {
    /// It cannot be read.
    Rule(String),
    /// Its name has never been resolved. What holds meanwhile: a rule that allows allows nothing, and one that denies
    /// denies all, as any destination may be the one that is meant.
    Name(Rule),
}

fn rule(rule: &EgressNetworkPolicyRule, names: &Names) -> Result<Rule, Unclear> {
    let verdict = match rule.rule_type.as_str() {
        "Allow" => Verdict::Allow,
        "Deny" => Verdict::Deny,
        other => return Err(Unclear::Rule(format!("type \"{other}\" is neither Allow nor Deny"))),
    };
    let to = &rule.to;
    if !to.cidr_selector.is_empty() {
        let wrong = |_| Unclear::Rule(format!("\"{}\" is no IPv4 network", to.cidr_selector));
        let cidr: Ipv4Net = to.cidr_selector.parse().map_err(wrong)?;
        return Ok(Rule { verdict, destinations: vec![destination(cidr)] });
    }
    if to.dns_name.is_empty() {
        return Err(Unclear::Rule("it names neither cidrSelector nor dnsName".to_owned()));
    }
    match (names.get(&key(&to.dns_name)), verdict) {
        (Some(addresses), _) => {
            Ok(Rule { verdict, destinations: addresses.iter().map(|&ip| Ipv4Net::from(ip)).collect() })
        }
        (None, Verdict::Allow) => Err(Unclear::Name(Rule { verdict, destinations: Vec::new() })),
        (None, Verdict::Deny) => Err(Unclear::Name(Rule { verdict, destinations: vec![Ipv4Net::default()] })),
    }
}
