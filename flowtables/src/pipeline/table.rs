//! The tables: number, name, stage, what happens to a packet that nothing in them matches.

use std::fmt;

use openflow::OfPort;

use super::port;

/// What a table does with a packet that none of its flows matches (its flow of priority 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// The packet is dropped.
    Drop,
    /// The packet goes on in a later table.
    Goto(Table),
    /// The packet leaves through a port.
    Output(OfPort),
    /// The table holds no packets at all (the version note).
    NotVisited,
}

/// Which part of the packet's way a table belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Where the packet came from, and whether it may claim so.
    Ingress,
    /// Where it goes.
    Routing,
    /// Whether it may.
    Policy,
    /// How it leaves.
    Egress,
    /// Not part of any packet's way.
    Marker,
}

macro_rules! tables {
    ($($(#[doc = $doc:literal])+
        $variant:ident = $number:literal, $name:literal, $stage:ident, $miss:expr, $about:literal;)+) => {
        /// A table of the pipeline. Numbers are a contract; `goto` only goes to a greater number.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Table {
            $($(#[doc = $doc])+ $variant = $number,)+
        }

        impl Table {
            /// Every table, in order.
            pub const ALL: &[Table] = &[$(Table::$variant,)+];

            /// The table of that number, if it is one of ours.
            #[must_use]
            pub fn from_number(number: u8) -> Option<Table> {
                match number {
                    $($number => Some(Table::$variant),)+
                    _ => None,
                }
            }

            /// The name people know it by.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Table::$variant => $name,)+ }
            }

            /// The part of the way it belongs to.
            #[must_use]
            pub fn stage(self) -> Stage {
                match self { $(Table::$variant => Stage::$stage,)+ }
            }

            /// What happens to a packet that nothing matches.
            #[must_use]
            pub fn miss(self) -> Miss {
                match self { $(Table::$variant => $miss,)+ }
            }

            /// What the table decides, one line.
            #[must_use]
            pub fn decides(self) -> &'static str {
                match self { $(Table::$variant => concat!($($doc),+).trim_ascii(),)+ }
            }

            /// Why the table is there and what becomes of packets in it, for who has never seen it.
            #[must_use]
            pub fn about(self) -> &'static str {
                match self { $(Table::$variant => $about,)+ }
            }
        }
    };
}

tables! {
    /// Where the packet came from: the tunnel, the host, or a pod.
    Classify = 0, "classify", Ingress, Miss::Drop,
        "Every packet starts here. IPv4 that connection tracking has not seen goes through it first and comes back \
         with its state: later tables want to know which packets are replies. Then only the port counts. What \
         comes through the tunnel must be from or to the pods' networks and takes its VNID from the tunnel's \
         header; what comes from the node by `tun0` is the node's own traffic, or a pod's that the node's service \
         proxy has redirected; everything else comes from a pod.";
    /// The remote VTEP is a known node, else drop.
    VxlanIngress = 10, "vxlan_ingress", Ingress, Miss::Drop,
        "Anybody on the underlay can send VXLAN to this node. Only the addresses of the cluster's other nodes are \
         listened to; the VNID of everybody else is worth nothing.";
    /// Port and address belong together (no spoofing); source VNID into reg0.
    PodIngress = 20, "pod_ingress", Ingress, Miss::Drop,
        "A pod may only speak for itself. Its flows say which address belongs to which port, for ARP also which \
         MAC address; what fits gets the VNID of the pod's namespace into `reg0`, which stays with it to the end. \
         A pod that speaks VXLAN itself could claim any VNID, so that is dropped first.";
    /// NetworkPolicy egress dispatch (mode networkpolicy), else straight to routing.
    PodEgress = 21, "pod_egress", Policy, Miss::Goto(Table::Routing),
        "Where NetworkPolicy limits what pods send, their packets turn off to table 27 here. The plugins `subnet` \
         and `multitenant` have no such limits: everything goes on.";
    /// Back from the host's service NAT: source VNID into reg0 again.
    ServiceReturn = 25, "service_return", Ingress, Miss::Drop,
        "A pod's packet to a service leaves by `tun0`, where the node's service proxy (kube-proxy) picks an \
         endpoint and rewrites the destination. If that is a pod, the packet comes back by `tun0` under the \
         sender's own address, but without the VNID: registers do not leave the switch. This table gives the VNID \
         back, by address. An address that is no pod's here is dropped.";
    /// NetworkPolicy egress rules (mode networkpolicy).
    EgressRules = 27, "egress_rules", Policy, Miss::Drop,
        "Reserved for the rules of NetworkPolicy on what pods send (plugin `networkpolicy`). Other plugins lead no \
         packet here.";
    /// By destination: ARP, service, local pod, remote pod, multicast, outside.
    Routing = 30, "routing", Routing, Miss::Drop,
        "The crossing. Only the destination counts, the most special first: this node's gateway address, pods \
         here, services, pods on other nodes, multicast, and at last everything outside the cluster. A reply to a \
         connection that the node's service proxy redirected passes connection tracking once more, which gives it \
         back the service's address.";
    /// ARP to a local pod's port.
    ArpLocal = 40, "arp_local", Egress, Miss::Drop,
        "A pod, or another node on behalf of its pod, asks for the MAC address of a pod here, or answers. It goes \
         to the one port that has the address; nothing is flooded.";
    /// ARP over the tunnel to the node that has the address.
    ArpRemote = 50, "arp_remote", Egress, Miss::Drop,
        "ARP about a pod elsewhere goes through the tunnel to the one node that has the subnet.";
    /// May this VNID use this service; where it is redirected.
    Service = 60, "service", Policy, Miss::Drop,
        "Whether this VNID may use this service. With `multitenant` every service port has a flow that notes the \
         service's VNID as the destination's and `tun0` as the way out, and table 80 decides as it does for pods; \
         global senders (VNID 0) and everybody under `subnet` pass at once. Which endpoint answers is decided on \
         the node, behind `tun0`.";
    /// Destination VNID into reg1, destination port into reg2.
    LocalPod = 70, "local_pod", Routing, Miss::Drop,
        "Where a pod of this node is: its VNID and its port are noted for table 80, which decides whether the \
         packet gets there.";
    /// Source against destination VNID, or NetworkPolicy ingress; then out of the port in reg2.
    Isolation = 80, "isolation", Policy, Miss::Drop,
        "The last word before a pod. A packet is delivered to the port in `reg2` if both ends have the same VNID, \
         or one of them is global (VNID 0), or the node itself sends it: health probes must get through. Whatever \
         is not said here is dropped.";
    /// VNID into tun_id, node into tun_dst, out of vxlan0.
    RemotePod = 90, "remote_pod", Egress, Miss::Drop,
        "Which node has the destination's subnet: the packet goes there through the tunnel and takes its VNID \
         along. Isolation is decided at the other end, in table 80 there.";
    /// Egress IP: to the node that hosts it, or mark and go on.
    EgressRouting = 100, "egress_routing", Egress, Miss::Goto(Table::EgressPolicy),
        "Packets that leave the cluster. A namespace with an egress IP leaves by the node that hosts the address: \
         here, with a mark by which the node's firewall rewrites the source; or through the tunnel; and not at all \
         where no node that answers has the address. Replies to who called from outside leave as they were asked for, and name \
         resolution at the node itself is always allowed.";
    /// EgressNetworkPolicy, then out of tun0.
    EgressPolicy = 101, "egress_policy", Egress, Miss::Output(port::TUN0),
        "The EgressNetworkPolicy of the sender's namespace, rule by rule in the order of their priorities: the \
         first that names the destination decides. What no rule names may go: the policy's last flow. What may go \
         leaves by `tun0`, or, where the namespace's egress IP is on another node, through the tunnel that table 100 \
         has chosen; replies leave by `tun0` in any case.";
    /// Multicast from pods of namespaces that asked for it.
    MulticastOut = 110, "multicast_out", Routing, Miss::Drop,
        "Only namespaces that asked for it (annotation on the NetNamespace) have multicast. Theirs goes on, \
         everything else ends here.";
    /// A copy of the multicast packet to every other node.
    MulticastTunnel = 111, "multicast_tunnel", Egress, Miss::Goto(Table::MulticastIn),
        "One copy through the tunnel to every other node, which gives it to its own pods; then on to the pods \
         here. Nodes that do not fit into one flow (from 1,024 on) are in further flows of the table, which `reg3` \
         counts.";
    /// A copy of the multicast packet to every local pod of the VNID.
    MulticastIn = 120, "multicast_in", Egress, Miss::Drop,
        "A copy to every pod of the VNID on this node. The switch does not send one back to the port where it came \
         from.";
    /// A note: plugin mode and pipeline version.
    Version = 253, "version", Marker, Miss::NotVisited,
        "No packet comes here. The flow's note says which plugin and which version of the pipeline the bridge \
         carries, in the form that OpenShift SDN used: the first byte of the note is the plugin (0 `subnet`, 1 \
         `multitenant`, 2 `networkpolicy`), the second the version.";
}

impl Table {
    /// Its number, as in `table=N`.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.number(), self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misses_only_go_forward() {
        for table in Table::ALL {
            if let Miss::Goto(next) = table.miss() {
                assert!(next > *table, "{table} misses back to {next}");
            }
        }
    }

    #[test]
    fn numbers_and_words_agree() {
        for table in Table::ALL {
            assert_eq!(Table::from_number(table.number()), Some(*table));
            assert!(table.decides().ends_with('.'), "{table}: {:?}", table.decides());
        }
        assert_eq!(Table::from_number(31), None);
    }
}
