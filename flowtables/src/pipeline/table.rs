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
    ($($(#[doc = $doc:literal])+ $variant:ident = $number:literal, $name:literal, $stage:ident, $miss:expr;)+) => {
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
        }
    };
}

tables! {
    /// Where the packet came from: the tunnel, the host, or a pod.
    Classify = 0, "classify", Ingress, Miss::Drop;
    /// The remote VTEP is a known node, else drop.
    VxlanIngress = 10, "vxlan_ingress", Ingress, Miss::Drop;
    /// Port and address belong together (no spoofing); source VNID into reg0.
    PodIngress = 20, "pod_ingress", Ingress, Miss::Drop;
    /// NetworkPolicy egress dispatch (mode networkpolicy), else straight to routing.
    PodEgress = 21, "pod_egress", Policy, Miss::Goto(Table::Routing);
    /// Back from the host's service NAT: source VNID into reg0 again.
    ServiceReturn = 25, "service_return", Ingress, Miss::Drop;
    /// NetworkPolicy egress rules (mode networkpolicy).
    EgressRules = 27, "egress_rules", Policy, Miss::Drop;
    /// By destination: ARP, service, local pod, remote pod, multicast, outside.
    Routing = 30, "routing", Routing, Miss::Drop;
    /// ARP to a local pod's port.
    ArpLocal = 40, "arp_local", Egress, Miss::Drop;
    /// ARP over the tunnel to the node that has the address.
    ArpRemote = 50, "arp_remote", Egress, Miss::Drop;
    /// May this VNID use this service; where it is redirected.
    Service = 60, "service", Policy, Miss::Drop;
    /// Destination VNID into reg1, destination port into reg2.
    LocalPod = 70, "local_pod", Routing, Miss::Drop;
    /// Source against destination VNID, or NetworkPolicy ingress; then out of the port in reg2.
    Isolation = 80, "isolation", Policy, Miss::Drop;
    /// VNID into tun_id, node into tun_dst, out of vxlan0.
    RemotePod = 90, "remote_pod", Egress, Miss::Drop;
    /// Egress IP: to the node that hosts it, or mark and go on.
    EgressRouting = 100, "egress_routing", Egress, Miss::Goto(Table::EgressPolicy);
    /// EgressNetworkPolicy, then out of tun0.
    EgressPolicy = 101, "egress_policy", Egress, Miss::Output(port::TUN0);
    /// Multicast from pods of namespaces that asked for it.
    MulticastOut = 110, "multicast_out", Routing, Miss::Drop;
    /// A copy of the multicast packet to every other node.
    MulticastTunnel = 111, "multicast_tunnel", Egress, Miss::Goto(Table::MulticastIn);
    /// A copy of the multicast packet to every local pod of the VNID.
    MulticastIn = 120, "multicast_in", Egress, Miss::Drop;
    /// A note: plugin mode and pipeline version.
    Version = 253, "version", Marker, Miss::NotVisited;
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
