#![allow(clippy::unwrap_used)]

use super::*;
use crate::node::netns::testing::{Namespace, says};

fn spec() -> Tun0Spec {
    let route = |dst: &str, scope_link| HostRoute { dst: dst.parse().unwrap(), scope_link };
    Tun0Spec {
        name: "tun0".to_owned(),
        address: "10.128.2.1/23".parse().unwrap(),
        mtu: 1450,
        routes: vec![route("10.128.0.0/14", true), route("172.30.0.0/16", false)],
    }
}

async fn ensure(spec: &Tun0Spec) -> Result<Vec<String>, LinkError> {
    super::ensure(spec, Duration::from_secs(10)).await
}

/// A link for `tun0`, as Open vSwitch would make it: down.
fn make_tun0() {
    says("ip link add name tun0 type veth peer name bridge-side");
    says("ip link set bridge-side up");
}

const RIGHT_ROUTES: &str =
    "10.128.0.0/14 dev tun0 proto static scope link\n172.30.0.0/16 dev tun0 proto static";

#[test]
fn from_nothing_and_again() {
    Namespace::new("links").block_on(|| async {
        std::fs::write(IP_FORWARD, "0").unwrap();
        make_tun0();
        assert_eq!(
            ensure(&spec()).await.unwrap(),
            [
                "tun0: MTU 1450 instead of 1500",
                "tun0: up",
                "tun0: address 10.128.2.1/23 added",
                "tun0: route to 10.128.0.0/14 added",
                "tun0: route to 172.30.0.0/16 added",
                "IPv4 forwarding switched on",
            ]
        );
        let link = says("ip -o link show tun0");
        assert!(link.contains("mtu 1450") && link.contains(",UP"), "{link}");
        let address = says("ip -o -4 address show tun0");
        assert!(address.contains("inet 10.128.2.1/23 brd 10.128.3.255") && address.contains("noprefixroute"));
        assert_eq!(says("ip route"), RIGHT_ROUTES);
        assert!(says("ip route get 10.128.2.9").contains("dev tun0 src 10.128.2.1"));
        assert_eq!(says("cat /proc/sys/net/ipv4/ip_forward"), "1");
        assert_eq!(ensure(&spec()).await.unwrap(), [""; 0]);
    });
}

#[test]
fn what_the_replaced_system_left_is_corrected_in_place() {
    Namespace::new("left").block_on(|| async {
        make_tun0();
        says("ip link set tun0 up mtu 1450");
        says("ip address add 10.128.2.1/23 dev tun0");
        says("ip route add 10.128.0.0/14 dev tun0 scope link");
        says("ip route add 172.30.0.0/16 dev tun0 scope global");
        says("sysctl -q -w net.ipv4.ip_forward=1");
        let expected = ["tun0: route to 10.128.2.0/23 removed"];
        assert_eq!(ensure(&spec()).await.unwrap(), expected);
        assert!(!says("ip route").contains("10.128.2.0/23"));
        assert_eq!(ensure(&spec()).await.unwrap(), [""; 0]);
        // The kernel adds it again when the link was down.
        says("ip link set tun0 down");
        let again = ensure(&spec()).await.unwrap();
        assert_eq!(again.first().unwrap(), "tun0: up");
        assert!(again.contains(&expected[0].to_owned()), "{again:?}");
        assert_eq!(says("ip route"), RIGHT_ROUTES);
    });
}

#[test]
fn what_is_stale_goes() {
    Namespace::new("stale").block_on(|| async {
        make_tun0();
        ensure(&spec()).await.unwrap();
        // An earlier subnet of the node, an earlier cluster network, a wrong scope, a detour.
        says("ip address add 10.129.0.1/23 dev tun0");
        says("ip route add 10.64.0.0/16 dev tun0");
        says("ip route replace 10.128.0.0/14 dev tun0 scope global");
        says("ip route replace 172.30.0.0/16 via 10.128.2.9 dev tun0 onlink");
        says("ip route add 10.128.0.0/14 dev tun0 metric 50");
        let mut changes = ensure(&spec()).await.unwrap();
        assert_eq!(changes.remove(0), "tun0: address 10.129.0.1/23 removed");
        changes.sort();
        assert_eq!(
            changes,
            [
                "tun0: route to 10.128.0.0/14 added",
                "tun0: route to 10.128.0.0/14 removed",
                "tun0: route to 10.128.0.0/14 removed",
                "tun0: route to 10.64.0.0/16 removed",
                "tun0: route to 172.30.0.0/16 added",
                "tun0: route to 172.30.0.0/16 removed",
            ]
        );
        assert_eq!(says("ip route"), RIGHT_ROUTES);
        assert_eq!(ensure(&spec()).await.unwrap(), [""; 0]);
    });
}

/// The kernel removes the younger addresses of a subnet with the oldest.
#[test]
fn a_stale_address_of_the_same_subnet() {
    Namespace::new("same").block_on(|| async {
        make_tun0();
        says("ip link set tun0 up");
        says("ip address add 10.128.2.7/23 dev tun0");
        says("ip address add 10.128.2.1/23 dev tun0");
        let changes = ensure(&spec()).await.unwrap();
        assert!(changes.contains(&"tun0: address 10.128.2.7/23 removed".to_owned()), "{changes:?}");
        let addresses = says("ip -o -4 address show tun0");
        assert!(addresses.contains("10.128.2.1/23") && addresses.lines().count() == 1, "{addresses}");
        assert_eq!(says("ip route"), RIGHT_ROUTES);
        assert_eq!(ensure(&spec()).await.unwrap(), [""; 0]);
    });
}

#[test]
fn other_links_are_left_alone() {
    Namespace::new("other").block_on(|| async {
        make_tun0();
        says("ip link add name eth0 type veth peer name outside");
        says("ip link set eth0 up");
        says("ip address add 192.0.2.1/24 dev eth0");
        says("ip route add default via 192.0.2.254");
        says("ip route add 10.128.0.0/14 via 192.0.2.254 metric 9");
        let before = says("ip route show dev eth0");
        ensure(&spec()).await.unwrap();
        assert_eq!(says("ip route show dev eth0"), before);
        assert_eq!(ensure(&spec()).await.unwrap(), [""; 0]);

        says("ip route delete 172.30.0.0/16 dev tun0");
        says("ip route add 172.30.0.0/16 dev eth0");
        let error = ensure(&spec()).await.unwrap_err();
        assert!(matches!(&error, LinkError::RoutedElsewhere { .. }), "{error}");
        assert!(error.to_string().contains("172.30.0.0/16") && error.to_string().contains("ip route delete"));
    });
}

#[test]
fn the_link_is_waited_for() {
    Namespace::new("wait").block_on(|| async {
        let spec = spec();
        let error = super::ensure(&spec, Duration::from_millis(20)).await.unwrap_err();
        assert!(
            error.to_string().contains("no link tun0") && error.to_string().contains("ovs-vswitchd"),
            "{error}"
        );
        let mut ensured = std::pin::pin!(ensure(&spec));
        let early = tokio::time::timeout(Duration::from_millis(50), &mut ensured).await;
        assert!(early.is_err(), "{early:?}");
        says("ip link add name unrelated type veth peer name other");
        make_tun0();
        assert!(!ensured.await.unwrap().is_empty());
    });
}

#[test]
fn a_refused_step_is_named() {
    Namespace::new("refused").block_on(|| async {
        make_tun0();
        let error = ensure(&Tun0Spec { mtu: 20, ..spec() }).await.unwrap_err().to_string();
        assert!(error.starts_with("could not set the MTU of tun0 to 20: "), "{error}");
    });
}

#[test]
fn local_networks_and_conflicts() {
    Namespace::new("conflict").block_on(|| async {
        make_tun0();
        says("ip link set lo up");
        says("ip link add name eth0 type veth peer name outside");
        says("ip address add 10.128.2.1/23 dev tun0");
        says("ip address add 192.0.2.1/24 dev eth0");
        says("ip address add 10.130.7.1/16 dev eth0");
        says("ip address add 172.16.0.1/12 dev outside");
        let local = local_networks("tun0").await.unwrap();
        let network = |link: &str, network: &str| LocalNetwork {
            link: link.to_owned(),
            network: network.parse().unwrap(),
        };
        assert_eq!(
            local,
            [
                network("outside", "172.16.0.0/12"),
                network("eth0", "192.0.2.0/24"),
                network("eth0", "10.130.0.0/16")
            ]
        );
        let cluster = ["10.128.0.0/14", "10.132.0.0/14", "172.30.0.0/16"].map(|text| text.parse().unwrap());
        let conflicts = conflicts(&local, &cluster);
        let found: Vec<String> =
            conflicts.iter().map(|c| format!("{} {}", c.local.network, c.cluster)).collect();
        assert_eq!(found, ["172.16.0.0/12 172.30.0.0/16", "10.130.0.0/16 10.128.0.0/14"]);
        let text = conflicts.last().unwrap().to_string();
        assert!(
            text.starts_with("the network 10.130.0.0/16 on eth0 overlaps with the cluster's 10.128.0.0/14"),
            "{text}"
        );
    });
}

#[tokio::test]
async fn a_connection_that_ends_is_an_error() {
    let ended = beside(std::future::ready(()), std::future::pending::<Result<(), LinkError>>()).await;
    assert!(matches!(ended, Err(LinkError::Step { .. })), "{ended:?}");
}
