//! Services in redirection mode `host` (table 60): traffic that may use a service leaves through `tun0`, where
//! the host's service NAT picks an endpoint; what it sends back into the pod network returns by table 25.
//!
//! Only the plugin `multitenant` needs flows of its own here: a tenant may use its own services and global
//! ones, which table 80 decides as it does for pods, with `tun0` as the destination port.

use std::net::Ipv4Addr;

use openflow::{Field, Flow, Match};

use crate::pipeline::cookie::Owner;
use crate::pipeline::port::TUN0;
use crate::pipeline::register::{DESTINATION_PORT, DESTINATION_VNID};
use crate::pipeline::rule::{Conditions, rule};
use crate::pipeline::table::Table::{Isolation, Service as ServiceTable};
use crate::pipeline::vnid::Vnid;

/// `later` in `ip_frag`: a fragment that has no transport header. Both bits are set for it.
const FRAGMENT_LATER: u8 = 3;

/// A transport protocol that a service port can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// The name that a Service object gives it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Sctp => "SCTP",
        }
    }

    fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }

    fn destination_port(self) -> Field {
        match self {
            Protocol::Tcp => Field::TCP_DST,
            Protocol::Udp => Field::UDP_DST,
            Protocol::Sctp => Field::SCTP_DST,
        }
    }
}

/// A service with a ClusterIP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Namespace of the Service object.
    pub namespace: String,
    /// Name of the Service object.
    pub name: String,
    /// Its virtual address.
    pub cluster_ip: Ipv4Addr,
    /// Its ports.
    pub ports: Vec<(Protocol, u16)>,
    /// VNID of its namespace.
    pub vnid: Vnid,
}

impl Service {
    /// Who the flows belong to.
    #[must_use]
    pub fn owner(&self) -> Owner {
        Owner::Service { namespace: self.namespace.clone(), name: self.name.clone() }
    }

    /// The service's flows under the plugin `multitenant`; none where it has no ports.
    #[must_use]
    pub fn flows(&self) -> Vec<Flow> {
        if self.ports.is_empty() {
            return Vec::new();
        }
        let to_service = || Match::new().ip().nw_dst(self.cluster_ip);
        let fragments = to_service().with(Field::IP_FRAG, FRAGMENT_LATER);
        let ports = self.ports.iter().map(|&(protocol, port)| {
            to_service().with(Field::IP_PROTO, protocol.number()).with(protocol.destination_port(), port)
        });
        let owner = self.owner();
        std::iter::once(fragments)
            .chain(ports)
            .map(|fields| {
                rule(ServiceTable, 100)
                    .when(fields)
                    .action(DESTINATION_VNID.load(self.vnid.get()))
                    .action(DESTINATION_PORT.load(TUN0.0))
                    .goto(Isolation)
                    .of(&owner)
            })
            .collect()
    }
}
