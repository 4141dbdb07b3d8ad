//! ADD of a sandbox that has been added before: what there is of it stays, and what it has lost is made again.

use cni_shim::cni::{CniError, ErrorCode};

use super::alias::Alias;
use super::pods::{Attachment, FLOWS_DEADLINE, PodNetwork, result, step};
use super::sandbox::{host_veth_name, link_alias};
use super::verify::interface;
use crate::node::netns::{self, NetNs};
use crate::node::ovs::ports::Leg;
use crate::node::status::{Network, Status};

impl PodNetwork {
    /// Makes the port again of a sandbox that is wired whole and has lost it, as with its database: all else of it is there,
    /// and in use. Gives back its leg; none if the sandbox is not wired.
    pub(super) async fn attach_again(
        &self,
        attachment: &Attachment,
        network: &Network,
        netns: &NetNs,
    ) -> Result<Option<Leg>, CniError> {
        let Attachment { container_id, ifname, .. } = attachment;
        let host_veth = host_veth_name(container_id, ifname);
        let alias = link_alias(&host_veth).await.map_err(|error| step("veth", error))?;
        let alias = alias.and_then(|alias| alias.parse::<Alias>().ok());
        let of_it = |alias: &Alias| alias.namespace == attachment.namespace && alias.name == attachment.name;
        let Some(Alias { namespace, name, uid }) = alias.filter(of_it) else { return Ok(None) };
        let in_pod = ifname.clone();
        let found = netns::spawn_in(netns, move || interface(&in_pod)).await;
        let (addresses, _) = found.map_err(|error| step("veth", error))?;
        let Some(ip) = addresses.into_iter().find(|ip| network.local_subnet.contains(ip)) else {
            return Ok(None);
        };
        let (id, lease_ifname) = (container_id.clone(), ifname.clone());
        self.ipam(network.local_subnet, move |ipam| ipam.adopt(&id, &lease_ifname, ip)).await?;
        let port = self.last_port(container_id);
        let (sandbox, ifname) = (container_id.clone(), ifname.clone());
        let leg = Leg { host_veth, sandbox, ifname, ip, namespace, name, uid, port };
        self.add_port_again(&leg).await?;
        Ok(Some(leg))
    }

    /// An ADD of what is there already: the same answer, if it is the same that is asked for. None if its port has gone before
    /// it was confirmed: as long as this request is at work on the sandbox nobody else makes it again.
    pub(super) async fn repeat(
        &self,
        attachment: &Attachment,
        network: &Network,
        netns: &NetNs,
        leg: Leg,
    ) -> Result<Option<Vec<u8>>, CniError> {
        let refuse = |reason: String| {
            let text = format!("sandbox {} is attached already, {reason}: DEL it first", leg.sandbox);
            Err(CniError::new(ErrorCode::INTERNAL, text))
        };
        if leg.is_named() && (&leg.namespace, &leg.name) != (&attachment.namespace, &attachment.name) {
            return refuse(format!("for pod {}", leg.pod()));
        }
        if leg.ifname != attachment.ifname {
            return refuse(format!("as {}; a second interface is not supported", leg.ifname));
        }
        if attachment.args.ip.is_some_and(|wanted| wanted != leg.ip) {
            return refuse(format!("with address {}", leg.ip));
        }
        let (ifname, ip) = (leg.ifname.clone(), leg.ip);
        let there = netns::spawn_in(netns, move || interface(&ifname).0.contains(&ip)).await;
        if !there.map_err(|error| step("veth", error))? {
            return refuse(format!(
                "but {} with {} is not in {}",
                leg.ifname,
                leg.ip,
                attachment.netns.display()
            ));
        }
        self.nudge.notify_one();
        // At the port that it has now: flows are sent before the switch has said which number it gives.
        let confirmed_or_gone = |status: &Status| match self.leg(&leg.sandbox) {
            Some(leg) => leg.port.is_some_and(|port| status.has_at(&leg.sandbox, port)),
            None => true,
        };
        self.until(FLOWS_DEADLINE, confirmed_or_gone).await?;
        if self.leg(&leg.sandbox).is_none() {
            return Ok(None);
        }
        let host_mac = self.host_mac(&leg.host_veth);
        Ok(Some(result(attachment, network, &leg, host_mac)))
    }
}
