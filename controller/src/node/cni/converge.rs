//! What OVSDB, the lease directory and the node's links say about pods, brought together again.
//!
//! ADD goes lease, veth, name of the veth, port, flows; DEL takes them away from the other end. Whatever the agent was
//! at when it died, and whatever somebody else has removed, the three tell how to go on:
//!
//! | lease | veth | port | was | becomes |
//! |---|---|---|---|---|
//! | yes | none | none | an ADD or DEL that ended early, or a restart of the machine | the lease is released, once its flows are gone |
//! | yes | without a name | none | an ADD that ended early | veth and lease are removed |
//! | yes | named | none | a port deleted by hand, or a lost database | the port is made again |
//! | any | none | yes | a pod whose namespace is gone | port and lease are removed |
//! | none | yes | yes | a lease file removed or damaged by hand | the lease is written again |
//! | of another address | yes | yes | the database of some time ago, or a lease file moved by hand | port or lease is made anew, as the pod's address says |
//!
//! What the replaced system has left is taken over first ([`super::takeover`]).
//!
//! A sandbox that a CNI request is at work on is left to the request.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::PoisonError;

use cni_shim::cni::{CniError, ErrorCode, NetConf, ValidAttachment, validate};
use cni_shim::contract::Request;
use flowtables::feature::pods::mac;
use futures::StreamExt;
use futures::stream;
use ipnet::Ipv4Net;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::alias::Alias;
use super::bandwidth;
use super::ipam::Lease;
use super::pods::{FLOWS_DEADLINE, PodNetwork, host_veth_of, step};
use super::sandbox::{Links, host_veth_name, link_alias, mac_in_pod};
use super::server::Caller;
use crate::node::ovs::ports::Leg;
use crate::node::{cri, metrics};

/// So many sandboxes at a time.
const AT_ONCE: usize = 32;

impl PodNetwork {
    /// Brings leases, veths and ports together. Failures are logged; the next call tries again.
    pub async fn converge(&self, subnet: Ipv4Net) {
        let mut leases = match self.ipam(subnet, |ipam| ipam.leases()).await {
            Ok(leases) => leases,
            Err(error) => {
                warn!("can't compare the leases with the ports: {error}");
                return;
            }
        };
        let legs = self.legs();
        self.take_over_all(subnet, &legs).await;
        match bandwidth::remove_lost(&self.ovsdb).await {
            Ok(0) => {}
            Ok(count) => info!(count, "removed the queues of ports that somebody has deleted"),
            Err(error) => warn!("queues without a port can't be removed: {error}"),
        }
        self.settle_second_leases(subnet, &legs, &mut leases).await;
        // After the ports: a link is there before its port.
        match Links::open() {
            Ok(links) => {
                let settle = |leg| self.settle_leg(subnet, leg, &leases, &links);
                stream::iter(legs.iter()).for_each_concurrent(AT_ONCE, settle).await;
            }
            // As when the agent may open no more files: pods that run must not pay for that.
            Err(error) => warn!("can't tell which pods are wired: {error}"),
        }
        // Without the ports that have just been removed.
        let legs = self.legs();
        let with_port: BTreeSet<(&str, &str)> =
            legs.iter().map(|leg| (leg.sandbox.as_str(), leg.ifname.as_str())).collect();
        let without_port = leases
            .iter()
            .filter(|lease| !with_port.contains(&(lease.container_id.as_str(), lease.ifname.as_str())));
        let taken: BTreeSet<_> = legs.iter().map(|leg| leg.ip).collect();
        stream::iter(without_port.filter(|lease| !taken.contains(&lease.address)))
            .for_each_concurrent(AT_ONCE, |lease| self.settle_lease(subnet, lease))
            .await;
        self.forget_lost_ports(&leases);
    }

    /// A port: its veth must be there, and its lease. `leases` are in the order of their addresses.
    async fn settle_leg(&self, subnet: Ipv4Net, leg: &Leg, leases: &[Lease], links: &Links) {
        let held =
            leases.binary_search_by_key(&leg.ip, |lease| lease.address).ok().and_then(|at| leases.get(at));
        let leased = held.is_some_and(|lease| lease.is_of(&leg.sandbox, &leg.ifname));
        let wired = || {
            let answer = links.has(&leg.host_veth);
            answer
                .inspect_err(|error| warn!(pod = %leg.pod(), "can't tell whether it is wired: {error}"))
                .ok()
        };
        let Some(is_wired) = wired() else { return };
        if leased && is_wired {
            return;
        }
        let lock = self.lock(&leg.sandbox);
        let Ok(_guard) = lock.try_lock() else { return };
        let now = self.leg(&leg.sandbox);
        if now.is_none_or(|now| (now.host_veth, now.ip) != (leg.host_veth.clone(), leg.ip)) {
            // A DEL came between, and maybe an ADD after it.
            return;
        }
        if !is_wired {
            // Once more, now that no request is at work on it.
            if wired() != Some(false) {
                return;
            }
            info!(pod = %leg.pod(), "its veth {} is gone: removing its port and its lease", leg.host_veth);
            if let Err(error) = self.take_away(subnet, &leg.sandbox, &leg.ifname).await {
                warn!(pod = %leg.pod(), "{error}");
            }
            return;
        }
        let of_it = |lease: &&Lease| lease.is_of(&leg.sandbox, &leg.ifname);
        if let Some(lease) = leases.iter().find(of_it).filter(|_| !leased) {
            return self.settle_addresses(subnet, leg, lease.address).await;
        }
        let (sandbox, ifname, ip) = (leg.sandbox.clone(), leg.ifname.clone(), leg.ip);
        match self.ipam(subnet, move |ipam| ipam.adopt(&sandbox, &ifname, ip)).await {
            Ok(false) => {}
            Ok(true) => {
                warn!(pod = %leg.pod(), %ip, "its lease was missing or damaged: written again");
                self.repaired(&metrics::LEASE);
            }
            Err(error) => warn!(pod = %leg.pod(), %ip, "its lease can't be written again: {error}"),
        }
    }

    /// Leases of interfaces that have another one, which the port says is theirs: files that name the wrong container. Whose
    /// the address really is gets it in turn.
    async fn settle_second_leases(&self, subnet: Ipv4Net, legs: &[Leg], leases: &mut Vec<Lease>) {
        for second in second_leases(legs, leases) {
            let lock = self.lock(&second.container_id);
            let Ok(_guard) = lock.try_lock() else { continue };
            // Once more, now that no request is at work on it.
            let (leg, lease) = (self.leg(&second.container_id), second.clone());
            let forgotten = self
                .ipam(subnet, move |ipam| {
                    let still = second_leases(leg.as_slice(), &ipam.leases()?).contains(&lease);
                    if still {
                        ipam.forget(lease.address)?;
                    }
                    Ok(still)
                })
                .await;
            let Lease { address, container_id, .. } = &second;
            match forgotten {
                Ok(false) => {}
                Ok(true) => {
                    warn!(%address, sandbox = container_id, "its lease file names a pod with another address: removed");
                    self.repaired(&metrics::LEASE);
                    leases.retain(|lease| *lease != second);
                }
                Err(error) => warn!(%address, "{error}"),
            }
        }
    }

    /// A port with one address and a lease with another: what the pod itself has tells which of the two is out of date.
    async fn settle_addresses(&self, subnet: Ipv4Net, leg: &Leg, lease: Ipv4Addr) {
        let pod = leg.pod();
        let in_pod = match mac_in_pod(&leg.host_veth).await {
            Ok(mac) => mac,
            Err(error) => return warn!(%pod, "can't tell its address: {error}"),
        };
        if in_pod == Some(mac(lease)) {
            warn!(%pod, port = %leg.ip, %lease, "its port is of an earlier address: removing it, to be made anew");
            let limits = bandwidth::remove(&self.ovsdb, &leg.host_veth).await;
            if let Err(error) = limits.and(self.ports.delete(&leg.host_veth).await) {
                warn!(%pod, "{error}");
            }
            return;
        }
        let (sandbox, ifname, ip) = (leg.sandbox.clone(), leg.ifname.clone(), leg.ip);
        let written = self
            .ipam(subnet, move |ipam| {
                ipam.adopt(&sandbox, &ifname, ip)?;
                // Unless it is another's by now.
                let still =
                    ipam.leases()?.iter().any(|held| held.address == lease && held.is_of(&sandbox, &ifname));
                if still { ipam.forget(lease) } else { Ok(()) }
            })
            .await;
        match written {
            Ok(()) => {
                warn!(%pod, %ip, %lease, "its lease was of another address than the pod has: written again");
                self.repaired(&metrics::LEASE);
            }
            Err(error) => warn!(%pod, %ip, "its lease can't be written again: {error}"),
        }
    }

    /// A lease without a port.
    async fn settle_lease(&self, subnet: Ipv4Net, lease: &Lease) {
        let Lease { address, container_id, ifname } = lease;
        if validate::container_id(container_id).is_err() || validate::ifname(ifname).is_err() {
            warn!(%address, "its lease file names no container: removing it");
            let address = *address;
            match self.ipam(subnet, move |ipam| ipam.forget(address)).await {
                Ok(()) => self.repaired(&metrics::LEASE),
                Err(error) => warn!(%address, "{error}"),
            }
            return;
        }
        let lock = self.lock(container_id);
        let Ok(_guard) = lock.try_lock() else { return };
        if self.leg(container_id).is_some()
            || !self.leases_of(container_id).await.is_ok_and(|now| now.contains(address))
        {
            return;
        }
        let host_veth = host_veth_name(container_id, ifname);
        let alias = match link_alias(&host_veth).await {
            Ok(alias) => alias.and_then(|alias| alias.parse::<Alias>().ok()),
            Err(error) => return warn!(%address, "can't tell whose it is: {error}"),
        };
        let Some(Alias { namespace, name, uid }) = alias else {
            if self.flows_remain(container_id) {
                return debug!(%address, sandbox = container_id, "stays until its flows are gone");
            }
            info!(%address, sandbox = container_id, "left by a request that did not end: removing it");
            match self.take_away(subnet, container_id, ifname).await {
                Ok(()) => self.repaired(&metrics::LEASE),
                Err(error) => warn!(%address, "{error}"),
            }
            return;
        };
        let leg = Leg {
            host_veth,
            sandbox: container_id.clone(),
            ifname: ifname.clone(),
            ip: *address,
            namespace,
            name,
            uid,
            port: self.last_port(container_id),
        };
        if let Err(error) = self.add_port_again(&leg).await {
            warn!(pod = %leg.pod(), "its port is missing and can't be made again: {error}");
        }
    }

    /// CNI GC: removes every attachment but the named ones, best effort.
    ///
    /// # Errors
    /// Code 7 without a list; code 11 naming what could not be removed.
    pub(super) async fn gc(&self, request: &Request, caller: &Caller<'_>) -> Result<(), CniError> {
        let valid: BTreeSet<ValidAttachment> =
            NetConf::parse(&request.config)?.valid_attachments()?.into_iter().collect();
        let network = self.current_status().network.ok_or_else(|| {
            CniError::new(ErrorCode::TRY_AGAIN_LATER, "the node's network is not set up yet")
        })?;
        let subnet = network.local_subnet;
        let ours = self.attachments(subnet).await?;
        let mut problems = Vec::new();
        for gone in ours.difference(&valid) {
            let ValidAttachment { container_id, ifname } = gone;
            let lock = self.lock(container_id);
            // One that is being added can't be in the list yet.
            let Ok(_guard) = lock.try_lock() else { continue };
            caller.waits()?;
            info!(sandbox = container_id, ifname, "not in use any more, says the runtime: removing it");
            if let Err(error) = self.take_away(subnet, container_id, ifname).await {
                problems.push(format!("{container_id}: {error}"));
            }
        }
        match problems.is_empty() {
            true => Ok(()),
            false => Err(CniError::new(ErrorCode::TRY_AGAIN_LATER, problems.join("; "))),
        }
    }

    /// Removes what the container runtime has forgotten without a DEL. Does nothing if there is no runtime to be asked.
    pub async fn remove_unknown(&self, subnet: Ipv4Net) {
        let Some(socket) = &self.cri_socket else { return };
        // Before the runtime is asked: what is attached meanwhile can't be unknown.
        let attached = match self.attachments(subnet).await {
            Ok(attached) => attached,
            Err(error) => return warn!("can't compare the leases with the runtime's sandboxes: {error}"),
        };
        let known = match cri::sandboxes(socket).await {
            Ok(known) => known,
            Err(error) => return warn!("{}", crate::describe(&error.into())),
        };
        debug!(sandboxes = known.len(), attached = attached.len(), "asked the container runtime");
        let sandboxes = attached.iter().map(|attachment| attachment.container_id.clone()).collect();
        let gone = {
            let mut unknown = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
            unknown.note(Instant::now(), &sandboxes, &known)
        };
        for ValidAttachment { container_id, ifname } in attached {
            if !gone.contains(&container_id) {
                continue;
            }
            let lock = self.lock(&container_id);
            let Ok(_guard) = lock.try_lock() else { continue };
            info!(sandbox = container_id, ifname, "the container runtime has forgotten it: removing it");
            match self.take_away(subnet, &container_id, &ifname).await {
                Ok(()) => self.repaired(&metrics::SANDBOX),
                Err(error) => warn!(sandbox = container_id, "{error}"),
            }
        }
    }

    /// Whatever has a port or a lease.
    async fn attachments(&self, subnet: Ipv4Net) -> Result<BTreeSet<ValidAttachment>, CniError> {
        let of = |container_id: &str, ifname: &str| ValidAttachment {
            container_id: container_id.to_owned(),
            ifname: ifname.to_owned(),
        };
        let mut all: BTreeSet<ValidAttachment> =
            self.legs().iter().map(|leg| of(&leg.sandbox, &leg.ifname)).collect();
        let leases = self.ipam(subnet, |ipam| ipam.leases()).await?;
        all.extend(leases.iter().map(|lease| of(&lease.container_id, &lease.ifname)));
        Ok(all)
    }

    /// Removes what there is of an attachment. The caller holds the sandbox's lock.
    pub(super) async fn take_away(
        &self,
        subnet: Ipv4Net,
        container_id: &str,
        ifname: &str,
    ) -> Result<(), CniError> {
        let leg = self.leg(container_id).filter(|leg| leg.ifname == ifname);
        let veth = host_veth_of(leg.as_ref(), container_id, ifname);
        let detached = match leg {
            Some(_) => self.detach(container_id, &veth, FLOWS_DEADLINE).await,
            None => Ok(()),
        };
        // Any that the first request of a sandbox has left; the name says whose it is.
        self.unwire(&veth).await.map_err(|error| step("veth", error))?;
        // Asked in any case: so it is looked after the lease once they are gone.
        let waits = self.leg(container_id).is_none() && self.flows_remain(container_id);
        detached?;
        if waits {
            let text = "flows: the switch has not confirmed that they are gone";
            return Err(CniError::new(ErrorCode::TRY_AGAIN_LATER, text));
        }
        self.release(subnet, container_id, ifname).await
    }
}

/// The leases of interfaces whose port has another address, which is leased to them too.
fn second_leases(legs: &[Leg], leases: &[Lease]) -> Vec<Lease> {
    let ports: BTreeMap<(&str, &str), Ipv4Addr> =
        legs.iter().map(|leg| ((leg.sandbox.as_str(), leg.ifname.as_str()), leg.ip)).collect();
    let is_second = |lease: &&Lease| {
        let port = ports.get(&(lease.container_id.as_str(), lease.ifname.as_str()));
        port.is_some_and(|ip| {
            let own = |other: &Lease| other.address == *ip && other.is_of(&lease.container_id, &lease.ifname);
            *ip != lease.address && leases.iter().any(own)
        })
    };
    leases.iter().filter(is_second).cloned().collect()
}
