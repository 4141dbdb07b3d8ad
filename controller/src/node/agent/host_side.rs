//! The agent's part of the node's own network: links, addresses, routes and firewall.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use flowtables::feature::base::gateway;
use flowtables::feature::egress_ip::{ReservedBits, mark};
use ipnet::Ipv4Net;
use tokio::time::Instant;
use tracing::{info, warn};

use super::{Agent, USERSPACE};
use crate::node::host::links::LinkError;
use crate::node::host::{egress_ips, firewall, links};
use crate::node::metrics;
use crate::node::ovs::bridge::TUN;
use crate::node::ovs::ports::no_interface;
use crate::view::{HostedEgressIp, Inputs, Problem};

/// The nftables table, of whose changes the kernel tells, is listed again after this: a process has to be started for it.
const LIST_AGAIN: Duration = Duration::from_secs(300);

/// How long the link `tun0` is waited for: of a port that was made a moment ago or comes with a switch that starts, and of
/// one that the switch has long had.
const TUN_APPEARS: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(1));

/// What links, routes and firewall depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HostSide {
    local_subnet: Ipv4Net,
    cluster_networks: Vec<Ipv4Net>,
    service_network: Ipv4Net,
    vxlan_port: u16,
    mtu: u16,
    node_ip: Ipv4Addr,
    egress_ips: BTreeSet<firewall::EgressSnat>,
}

impl HostSide {
    pub(super) fn of(inputs: &Inputs) -> Self {
        let snat = |hosted: &HostedEgressIp| firewall::EgressSnat {
            ip: hosted.ip,
            mark: mark(hosted.vnid, ReservedBits::DEFAULT),
            namespace: hosted.namespace.clone(),
        };
        Self {
            local_subnet: inputs.base.local_subnet,
            cluster_networks: inputs.base.cluster_networks.clone(),
            service_network: inputs.base.service_network,
            vxlan_port: inputs.base.vxlan_port,
            mtu: inputs.mtu,
            node_ip: inputs.base.node_ip,
            egress_ips: inputs.hosted_egress_ips.iter().map(snat).collect(),
        }
    }

    /// Whether no egress IP is wanted but those of `before`: then flows may be made although the host side can't be.
    pub(super) fn needs_no_more_than(&self, before: Option<&Self>) -> bool {
        let before = before.map(|before| &before.egress_ips);
        self.egress_ips.iter().all(|snat| before.is_some_and(|before| before.contains(snat)))
    }

    /// With the egress IPs of before besides, as long as their addresses and marks mean nothing else by now.
    pub(super) fn and_egress_ips_of(mut self, before: Option<&Self>) -> Self {
        let wanted = self.egress_ips.clone();
        let free =
            |old: &&firewall::EgressSnat| !wanted.iter().any(|new| new.ip == old.ip || new.mark == old.mark);
        let leaving = before.into_iter().flat_map(|before| before.egress_ips.iter().filter(free).cloned());
        self.egress_ips.extend(leaving);
        self
    }
}

/// Nothing can be made as long as there is no bridge; the next round makes it.
#[derive(Debug, thiserror::Error)]
#[error("the bridge is gone, or ovs-vswitchd is being restarted")]
pub(super) struct BridgeGone;

impl Agent {
    /// Links, addresses, routes and firewall: when what they depend on changed, and when it is time to look again.
    pub(super) async fn host_side(&mut self, wanted: HostSide) -> anyhow::Result<()> {
        if self.host.as_ref() == Some(&wanted) {
            return Ok(());
        }
        self.host = None;
        let address = Ipv4Net::new(gateway(wanted.local_subnet), wanted.local_subnet.prefix_len())?;
        let clusters = wanted.cluster_networks.iter().map(|&dst| links::HostRoute { dst, scope_link: true });
        let service = links::HostRoute { dst: wanted.service_network, scope_link: false };
        let tun0 = links::Tun0Spec {
            name: TUN.to_owned(),
            address,
            mtu: wanted.mtu,
            routes: clusters.chain([service]).collect(),
        };
        let connected = self.syncer.is_connected();
        let within = if connected { TUN_APPEARS.1 } else { TUN_APPEARS.0 };
        let ensured = tokio::select! {
            changes = links::ensure(&tun0, within) => Some(changes),
            // Its links have gone with it, and it may be long until they are there again.
            () = self.syncer.closed() => None,
            // Likewise, told of by OVSDB: there may be no connection.
            () = no_interface(&self.ovsdb, TUN) => None,
        };
        let Some(changes) = ensured else {
            self.syncer.disconnect();
            self.set_up = None;
            return Err(BridgeGone.into());
        };
        if let Err(LinkError::Missing { .. }) = &changes
            && connected
        {
            // Somebody has deleted the link alone, which a switch in user space does not make again.
            warn!("{TUN} is not there although its port is: making the port anew");
            self.pods.ports.delete(TUN).await?;
            anyhow::bail!("{TUN} is being made anew");
        }
        let changes = changes?;
        for change in &changes {
            info!("{change}");
        }
        let repair = self.set_up.as_ref() == Some(&wanted);
        if repair && !changes.is_empty() {
            warn!("somebody else had changed tun0, its routes or IPv4 forwarding: put right");
            self.metrics.repairs.get_or_create(&metrics::LINKS).inc();
        }
        let egress_ips = wanted.egress_ips.iter().map(|snat| snat.ip).collect();
        let placed = egress_ips::ensure(wanted.node_ip, &egress_ips).await?;
        for change in &placed.changes {
            info!("{change}");
        }
        if repair && !placed.changes.is_empty() {
            warn!("somebody else had changed the node's egress IPs: put right");
            self.metrics.repairs.get_or_create(&metrics::LINKS).inc();
        }
        let problem = |(ip, reason)| Problem { object: format!("egress IP {ip}"), reason };
        self.refused_egress_ips = placed.refused.into_iter().map(problem).collect();
        let firewall = firewall::FirewallSpec {
            cluster_networks: wanted.cluster_networks.clone(),
            tun: TUN.to_owned(),
            vxlan_port: wanted.vxlan_port,
            userspace_datapath: self.config.datapath_type == USERSPACE,
            egress_ips: wanted.egress_ips.iter().cloned().collect(),
        };
        let same = |(listed, at): &(_, Instant)| *listed == firewall && at.elapsed() < LIST_AGAIN;
        if !self.firewall.as_ref().is_some_and(same) {
            self.firewall = None;
            if firewall::ensure(&firewall).await? != firewall::Changed::Nothing && repair {
                warn!("somebody else had changed the nftables table ip {}: put right", firewall::TABLE);
                self.metrics.repairs.get_or_create(&metrics::FIREWALL).inc();
            }
            self.firewall = Some((firewall, Instant::now()));
        }
        self.conflicts(&wanted).await?;
        self.set_up = Some(wanted.clone());
        self.host = Some(wanted);
        Ok(())
    }

    /// Looks for networks of the node that are the cluster's as well. They are reported only: which of the two is wrong
    /// is not for the agent to say.
    async fn conflicts(&self, wanted: &HostSide) -> anyhow::Result<()> {
        let local = links::local_networks(TUN).await?;
        let mut cluster = wanted.cluster_networks.clone();
        cluster.push(wanted.service_network);
        let conflicts: Vec<String> =
            links::conflicts(&local, &cluster).iter().map(ToString::to_string).collect();
        for conflict in &conflicts {
            if !self.status.borrow().conflicts.contains(conflict) {
                warn!("{conflict}");
            }
        }
        self.metrics.conflicts.set(i64::try_from(conflicts.len()).unwrap_or(i64::MAX));
        self.status.send_if_modified(|status| {
            let changed = status.conflicts != conflicts;
            status.conflicts = conflicts;
            changed
        });
        Ok(())
    }
}
