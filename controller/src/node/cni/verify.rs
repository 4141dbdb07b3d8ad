//! CHECK and STATUS: is an attachment as ADD left it, and would an ADD be served?

use std::net::Ipv4Addr;

use cni_shim::cni::{CniError, CniResult, ErrorCode, NetConf};
use cni_shim::contract::Request;
use flowtables::feature::pods::mac;
use ipnet::IpNet;
use openflow::MacAddr;

use super::pods::{PodNetwork, step};
use super::sandbox::is_up;
use crate::node::netns::{self, NetNs};
use crate::node::ovs::ports::Leg;

impl PodNetwork {
    /// CNI CHECK: compares port, flows, lease, the interface in the pod and the result of the ADD. What later plugins
    /// of the chain have added to the result is not this plugin's.
    ///
    /// # Errors
    /// Code 3 if the sandbox is not known, 11 without a connection to the switch, 101 naming what is different.
    pub async fn check(&self, request: &Request) -> Result<(), CniError> {
        let config = NetConf::parse(&request.config)?;
        let lock = self.lock(&request.container_id);
        let _guard = lock.lock().await;
        let (id, ifname) = (&request.container_id, &request.ifname);
        let leg = self.leg(id).filter(|leg| leg.ifname == *ifname).ok_or_else(|| {
            CniError::new(
                ErrorCode::UNKNOWN_CONTAINER,
                format!("interface {ifname} of container {id} is not attached to br0"),
            )
        })?;
        if let Some(missing) = self.current_status().no_openflow() {
            return Err(CniError::new(ErrorCode::TRY_AGAIN_LATER, format!("flows: {missing}")));
        }
        let mut differences = Vec::new();
        if !self.is_synced(&leg) {
            differences.push("the switch has not confirmed its flows".to_owned());
        }
        if leg.port.is_none() {
            differences.push(format!("port {} has no OpenFlow number", leg.host_veth));
        }
        match is_up(&leg.host_veth).await.map_err(|error| step("veth", error))? {
            None => differences.push(format!("there is no link {}", leg.host_veth)),
            Some(false) => differences.push(format!("the link {} is down", leg.host_veth)),
            Some(true) => {}
        }
        let leases = self.leases_of(id).await?;
        if !leases.contains(&leg.ip) {
            differences.push(format!("address {} is not leased to it", leg.ip));
        }
        if let Err(difference) = in_pod(request, &leg).await? {
            differences.push(difference);
        }
        if let Some(result) = &config.prev_result {
            let result = serde_json::to_vec(result).map_err(|error| step("prevResult", error))?;
            differences.extend(in_result(&CniResult::parse(&result)?, &leg));
        }
        if differences.is_empty() {
            return Ok(());
        }
        let text =
            format!("{}/{} is not as ADD left it: {}", leg.namespace, leg.name, differences.join("; "));
        Err(CniError::new(ErrorCode::DIFFERENT, text).with_details("delete the pod: it gets a new network"))
    }

    /// CNI STATUS: would an ADD be served now?
    ///
    /// # Errors
    /// Code 50 if not, 51 if pods that run may be impaired as well.
    pub fn status(&self) -> Result<(), CniError> {
        let status = self.current_status();
        let missing: Vec<String> = status
            .checks()
            .into_iter()
            .filter_map(|check| Some(format!("{}: {}", check.name, check.missing?)))
            .collect();
        if !missing.is_empty() {
            // Without its database ovs-vswitchd takes no OpenFlow messages and decides on no new flow (Open vSwitch
            // 3.1, `bridge_run`): connections that are open go on, new ones don't come about.
            let impaired = !status.ovsdb || !status.openflow || !status.ready;
            let code =
                if impaired { ErrorCode::NOT_AVAILABLE_AND_IMPAIRED } else { ErrorCode::NOT_AVAILABLE };
            return Err(CniError::new(code, missing.join("; ")));
        }
        if let Some((in_use, size)) = self.addresses()
            && in_use >= size
        {
            let text = format!("no address is free in the node's subnet: {in_use} of {size} are in use");
            return Err(CniError::new(ErrorCode::NOT_AVAILABLE, text));
        }
        Ok(())
    }
}

/// Whether the interface in the pod has the leg's address and MAC; if not, what is different.
async fn in_pod(request: &Request, leg: &Leg) -> Result<Result<(), String>, CniError> {
    let netns =
        NetNs::open(&request.netns).map_err(|error| CniError::invalid_environment("CNI_NETNS", error))?;
    let (ifname, ip) = (leg.ifname.clone(), leg.ip);
    let found = netns::spawn_in(&netns, move || interface(&ifname)).await;
    let (addresses, found) = found.map_err(|error| step("interface", error))?;
    let wanted = MacAddr(mac(ip));
    Ok(if !addresses.contains(&ip) {
        Err(format!("{} in the pod does not have the address {ip}", leg.ifname))
    } else if found != Some(wanted) {
        Err(format!("{} in the pod does not have the MAC {wanted}", leg.ifname))
    } else {
        Ok(())
    })
}

/// IPv4 addresses and MAC of an interface in the calling thread's namespace.
pub(super) fn interface(ifname: &str) -> (Vec<Ipv4Addr>, Option<MacAddr>) {
    let (mut addresses, mut mac) = (Vec::new(), None);
    for found in
        nix::ifaddrs::getifaddrs().into_iter().flatten().filter(|found| found.interface_name == ifname)
    {
        let Some(address) = found.address.as_ref() else { continue };
        if let Some(v4) = address.as_sockaddr_in() {
            addresses.push(v4.ip());
        } else if let Some(link) = address.as_link_addr() {
            mac = link.addr().map(MacAddr);
        }
    }
    (addresses, mac)
}

/// What the result of the ADD has that is not so.
fn in_result(result: &CniResult, leg: &Leg) -> Vec<String> {
    let mut differences = Vec::new();
    let place = result
        .interfaces
        .iter()
        .position(|interface| interface.name == leg.ifname && !interface.sandbox.is_empty());
    match place.and_then(|place| result.interfaces.get(place)) {
        None => differences.push(format!("prevResult has no interface {} in a sandbox", leg.ifname)),
        Some(interface) => {
            let wanted = MacAddr(mac(leg.ip)).to_string();
            if !interface.mac.is_empty() && !interface.mac.eq_ignore_ascii_case(&wanted) {
                differences.push(format!("prevResult has the MAC {} instead of {wanted}", interface.mac));
            }
        }
    }
    let ours = result.ips.iter().filter(|ip| ip.interface.is_none() || ip.interface == place);
    if !ours.clone().any(|ip| matches!(ip.address, IpNet::V4(net) if net.addr() == leg.ip)) {
        differences.push(format!("prevResult does not have the address {}", leg.ip));
    }
    if !result.interfaces.iter().any(|interface| interface.name == leg.host_veth) {
        differences.push(format!("prevResult has no interface {}", leg.host_veth));
    }
    differences
}
