//! [`Subnet`]: a HostSubnet, checked.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::validate::{self, Faults, InvalidObject, Reason};
use super::{
    ASSIGN_SUBNET_ANNOTATION, FIXED_VNID_ANNOTATION, HostSubnet, Kind, NODE_UID_ANNOTATION, NetworkConfig,
    Vnid,
};

/// A node's part of the pod network and its tunnel endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// Name of the node.
    pub name: String,
    /// Name of the node again: `host` and `metadata.name` are the same.
    pub host: String,
    /// The node's VTEP address.
    pub host_ip: Ipv4Addr,
    /// The node's pods; no host bits set.
    pub subnet: Ipv4Net,
    /// UID of the HostSubnet object, empty if it has none.
    pub uid: String,
    /// UID of the Node it belongs to; `None` for a machine outside the cluster.
    pub node_uid: Option<String>,
    /// VNID that all traffic to the subnet is tagged with instead of the sender's.
    pub fixed_vnid: Option<u32>,
}

impl Subnet {
    /// Checks the object by itself and its `hostIP` against the cluster's networks.
    ///
    /// # Errors
    /// Every rule that is broken.
    pub fn checked(object: &HostSubnet, network: &NetworkConfig) -> Result<Self, InvalidObject> {
        let subnet = Self::try_from(object)?;
        network.check_node_ip(subnet.host_ip).map_err(|conflict| {
            let mut faults = Faults::of(Kind::HostSubnet, &object.metadata);
            faults.push("hostIP", Reason::NodeIp(conflict));
            faults.into_error()
        })?;
        Ok(subnet)
    }

    /// The node's address in the pod network, on tun0: the subnet's base address with the lowest bit set.
    pub fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.subnet.network().to_bits() | 1)
    }
}

impl TryFrom<&HostSubnet> for Subnet {
    type Error = InvalidObject;

    fn try_from(object: &HostSubnet) -> Result<Self, InvalidObject> {
        let mut faults = fields(object);
        let host_ip = validate::ipv4(&object.host_ip).ok();
        let subnet = if object.subnet.is_empty() {
            faults.push("subnet", Reason::Missing("wait until the controller has assigned one"));
            None
        } else {
            validate::ipv4_net(&object.subnet).ok()
        };
        let subnet = (|| {
            Some(Self {
                name: object.metadata.name.clone()?,
                host: object.host.clone(),
                host_ip: host_ip?,
                subnet: subnet?,
                uid: object.metadata.uid.clone().unwrap_or_default(),
                node_uid: annotation(object, NODE_UID_ANNOTATION)
                    .filter(|uid| !uid.is_empty())
                    .map(str::to_owned),
                fixed_vnid: fixed_vnid(object).ok().flatten(),
            })
        })();
        faults.finish(subnet)
    }
}

/// Checks a HostSubnet by itself, as it may be stored: `subnet` may be empty while `assign-subnet` asks for one.
///
/// # Errors
/// Every rule that is broken.
pub fn host_subnet(object: &HostSubnet) -> Result<(), InvalidObject> {
    let mut faults = fields(object);
    if object.subnet.is_empty() && annotation(object, ASSIGN_SUBNET_ANNOTATION).is_none() {
        faults.push(
            "subnet",
            Reason::Missing(
                "name the node's network, or set the annotation pod.network.openshift.io/assign-subnet to be given one",
            ),
        );
    }
    faults.into_result()
}

/// What both forms have in common.
fn fields(object: &HostSubnet) -> Faults<'_> {
    let mut faults = Faults::of(Kind::HostSubnet, &object.metadata);
    validate::same_as_name(&mut faults, "host", &object.host, &object.metadata);
    faults.take("hostIP", validate::ipv4(&object.host_ip));
    if !object.subnet.is_empty() {
        faults.take("subnet", validate::ipv4_net(&object.subnet));
    }
    faults.take(format!("metadata.annotations[{FIXED_VNID_ANNOTATION}]"), fixed_vnid(object));
    for (i, ip) in object.egress_ips.iter().enumerate() {
        faults.take(format!("egressIPs[{i}]"), validate::ipv4(ip));
    }
    for (i, cidr) in object.egress_cidrs.iter().enumerate() {
        faults.take(format!("egressCIDRs[{i}]"), validate::ipv4_net(cidr));
    }
    faults
}

fn annotation<'a>(object: &'a HostSubnet, key: &str) -> Option<&'a str> {
    object.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

fn fixed_vnid(object: &HostSubnet) -> Result<Option<u32>, Reason> {
    let Some(text) = annotation(object, FIXED_VNID_ANNOTATION) else { return Ok(None) };
    let number: u32 = text.parse().map_err(|_| Reason::NotVnid(text.to_owned()))?;
    Ok(Some(Vnid::try_from(number)?.get()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(subnet: &str, annotations: serde_json::Value) -> HostSubnet {
        serde_json::from_value(json!({
            "metadata": {"name": "abc.def.com", "uid": "1", "annotations": annotations},
            "host": "abc.def.com", "hostIP": "10.20.30.40", "subnet": subnet,
        }))
        .unwrap()
    }

    #[test]
    fn a_checked_subnet_says_what_the_object_says() {
        let subnet = Subnet::try_from(&object("8.8.8.0/24", json!({FIXED_VNID_ANNOTATION: "7"}))).unwrap();
        assert_eq!(subnet.gateway(), Ipv4Addr::new(8, 8, 8, 1));
        assert_eq!((subnet.fixed_vnid, subnet.node_uid, subnet.uid.as_str()), (Some(7), None, "1"));
        let subnet = Subnet::try_from(&object("8.8.8.0/24", json!({NODE_UID_ANNOTATION: "2"}))).unwrap();
        assert_eq!((subnet.fixed_vnid, subnet.node_uid.as_deref()), (None, Some("2")));
    }

    #[test]
    fn a_request_has_no_subnet_yet() {
        let request = object("", json!({ASSIGN_SUBNET_ANNOTATION: ""}));
        assert_eq!(host_subnet(&request), Ok(()));
        let err = Subnet::try_from(&request).unwrap_err();
        assert_eq!(
            err.to_string(),
            "HostSubnet abc.def.com: subnet: is missing: wait until the controller has assigned one"
        );
        assert_eq!(host_subnet(&object("", json!({}))).unwrap_err().faults.len(), 1);
    }

    #[test]
    fn the_vtep_is_outside_the_clusters_networks() {
        let network = NetworkConfig::try_from(
            &serde_json::from_value(json!({
                "metadata": {"name": "any"}, "serviceNetwork": "172.30.0.0/16", "pluginName": "subnet",
                "clusterNetworks": [{"CIDR": "10.20.0.0/16", "hostSubnetLength": 8}],
            }))
            .unwrap(),
        )
        .unwrap();
        let err = Subnet::checked(&object("8.8.8.0/24", json!({})), &network).unwrap_err();
        assert!(err.to_string().starts_with(
            "HostSubnet abc.def.com: hostIP: node IP 10.20.30.40 conflicts with cluster network 10.20.0.0/16: "
        ));
    }
}
