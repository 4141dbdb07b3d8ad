//! The small cluster whose flows the page shows.

use std::net::Ipv4Addr;

use flowtables::feature::base::Base;
use flowtables::feature::egress_ip::{EgressIp, Route};
use flowtables::feature::egress_policy::{EgressPolicy, Rule, Rules, Verdict};
use flowtables::feature::multicast::{self, Multicast};
use flowtables::feature::nodes::RemoteNode;
use flowtables::feature::pods::Pod;
use flowtables::feature::services::{Protocol, Service};
use flowtables::feature::{Plugin, tenants, version};
use flowtables::flowset::{FlowSet, Rendered};
use flowtables::pipeline::cookie::Owner;
use flowtables::pipeline::vnid::Vnid;
use openflow::OfPort;

/// One node's flows.
pub(crate) fn node() -> FlowSet {
    let [shop, bank] = [4711, 4712].map(|n| Vnid::try_from(n).unwrap());
    let base = Base {
        plugin: Plugin::Multitenant,
        cluster_networks: vec!["10.128.0.0/14".parse().unwrap()],
        service_network: "172.30.0.0/16".parse().unwrap(),
        local_subnet: "10.130.0.0/23".parse().unwrap(),
        node_ip: Ipv4Addr::new(192, 168, 108, 112),
        vxlan_port: 4789,
    };
    let other = RemoteNode {
        name: "node1".into(),
        vtep: Ipv4Addr::new(192, 168, 108, 111),
        subnet: "10.131.0.0/23".parse().unwrap(),
        fixed_vnid: None,
    };
    let pod = |namespace: &str, name: &str, n: u8, vnid| Pod {
        namespace: namespace.into(),
        name: name.into(),
        port: OfPort(n.into()),
        ip: Ipv4Addr::new(10, 130, 0, n + 2),
        vnid,
    };
    let (front, vault) = (pod("shop", "front", 4, shop), pod("bank", "vault", 5, bank));
    let service = Service {
        namespace: "shop".into(),
        name: "cart".into(),
        cluster_ip: Ipv4Addr::new(172, 30, 161, 148),
        ports: vec![(Protocol::Tcp, 8080)],
        vnid: shop,
    };
    let egress_ip = EgressIp {
        namespace: "shop".into(),
        vnid: shop,
        route: Route::Elsewhere(vec![other.vtep]),
        policed: true,
    };
    let rule = |verdict, to: &str| Rule { verdict, destinations: vec![to.parse().unwrap()] };
    let rules = vec![rule(Verdict::Allow, "192.0.2.0/24"), rule(Verdict::Deny, "0.0.0.0/0")];
    let policy = EgressPolicy {
        namespace: "shop".into(),
        vnid: shop,
        rules: Rules::Ordered(rules),
        exit: egress_ip.exit(),
    };
    let multicast = Multicast { vnid: shop, ports: vec![front.port] };
    let rendered: Vec<(Owner, Rendered)> = vec![
        (Owner::Base, base.flows().into()),
        (Owner::Version, version::flows(Plugin::Multitenant).into()),
        (other.owner(), other.flows().into()),
        (front.owner(), front.flows().into()),
        (vault.owner(), vault.flows().into()),
        (Owner::Tenant(shop), tenants::flows(shop).into()),
        (Owner::Tenant(bank), tenants::flows(bank).into()),
        (service.owner(), service.flows().into()),
        (egress_ip.owner(), egress_ip.rendered()),
        (policy.owner(), policy.flows().into()),
        (multicast.owner(), multicast.flows().into()),
        (Owner::MulticastTunnels, multicast::tunnels(&[other.vtep]).into()),
    ];
    let mut set = FlowSet::new();
    for (owner, rendered) in rendered {
        assert_eq!(set.replace(&owner, rendered), []);
    }
    set
}
