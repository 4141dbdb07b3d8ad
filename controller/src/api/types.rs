//! The objects as they are stored: JSON names, optional fields and defaults of the original CRDs.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::crd::rules;

/// The cluster's networks and plugin. Cluster scoped; only the object named `default` is used.
///
/// [`NetworkConfig`](super::NetworkConfig) is its checked form.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", rename_all = "camelCase")]
#[schemars(transform = rules::cluster_network)]
pub struct ClusterNetwork {
    /// Standard metadata.
    #[serde(default)]
    #[schemars(skip)]
    pub metadata: ObjectMeta,
    /// Mirror of the first entry's CIDR, for readers from before there could be several. Empty: unset.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    #[schemars(transform = rules::ipv4_net)]
    pub network: String,
    /// Mirror of the first entry's host bits. 0: unset.
    #[serde(
        default,
        rename = "hostsubnetlength",
        deserialize_with = "null_as_default",
        skip_serializing_if = "is_zero"
    )]
    #[schemars(transform = rules::host_bits)]
    pub hostsubnetlength: u32,
    /// CIDR of the services' cluster IPs.
    #[schemars(transform = rules::ipv4_net)]
    pub service_network: String,
    /// Which plugin isolates pods; [`PluginMode`](super::PluginMode) lists the names.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    #[schemars(transform = rules::plugin_name)]
    pub plugin_name: String,
    /// CIDRs that nodes' subnets are taken from, in order of use.
    #[serde(default, deserialize_with = "null_as_default")]
    #[schemars(transform = rules::cluster_networks)]
    pub cluster_networks: Vec<ClusterNetworkEntry>,
    /// UDP port of the VXLAN tunnels, 1 to 65535; absent: 4789.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = rules::vxlan_port)]
    pub vxlan_port: Option<u32>,
    /// MTU of the pod network in bytes, 576 to 65535; absent: 1450.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = rules::mtu)]
    pub mtu: Option<u32>,
}

/// One of the CIDRs that nodes' subnets are taken from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = rules::cluster_network_entry)]
pub struct ClusterNetworkEntry {
    /// The CIDR, such as `10.128.0.0/14`.
    #[serde(rename = "CIDR")]
    #[schemars(transform = rules::ipv4_net)]
    pub cidr: String,
    /// Number of *host* bits of a node's subnet, 2 to 30: 9 means a /23 a node.
    #[schemars(transform = rules::host_bits)]
    pub host_subnet_length: u32,
}

/// A node's part of the pod network and its tunnel endpoint. Cluster scoped, named as the node.
///
/// [`Subnet`](super::Subnet) is its checked form.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", rename_all = "camelCase")]
#[schemars(transform = rules::host_subnet)]
pub struct HostSubnet {
    /// Standard metadata.
    #[serde(default)]
    #[schemars(skip)]
    pub metadata: ObjectMeta,
    /// Name of the node; must equal `metadata.name`.
    #[schemars(transform = rules::name)]
    pub host: String,
    /// The node's VTEP address (IPv4).
    #[serde(rename = "hostIP")]
    #[schemars(transform = rules::node_ip)]
    pub host_ip: String,
    /// CIDR of the node's pods. Empty only while the annotation `assign-subnet` asks for one.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    #[schemars(transform = rules::optional_ipv4_net)]
    pub subnet: String,
    /// Egress IPs that the node hosts now.
    #[serde(
        default,
        rename = "egressIPs",
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schemars(transform = rules::ipv4_list)]
    pub egress_ips: Vec<String>,
    /// CIDRs of the egress IPs that the controller may place on the node.
    #[serde(
        default,
        rename = "egressCIDRs",
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schemars(transform = rules::ipv4_net_list)]
    pub egress_cidrs: Vec<String>,
}

/// A namespace's VNID and egress IPs. Cluster scoped, named as the namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", rename_all = "camelCase")]
#[schemars(transform = rules::net_namespace)]
pub struct NetNamespace {
    /// Standard metadata.
    #[serde(default)]
    #[schemars(skip)]
    pub metadata: ObjectMeta,
    /// Name of the namespace; must equal `metadata.name`.
    #[schemars(transform = rules::name)]
    pub netname: String,
    /// The VNID, 0 to 16777215; see [`Vnid`](super::Vnid).
    #[schemars(transform = rules::vnid)]
    pub netid: u32,
    /// Egress IPs that the namespace asks for, in order of preference.
    #[serde(
        default,
        rename = "egressIPs",
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schemars(transform = rules::ipv4_list)]
    pub egress_ips: Vec<String>,
}

/// What a namespace's pods may reach outside the cluster. Namespaced.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", rename_all = "camelCase")]
pub struct EgressNetworkPolicy {
    /// Standard metadata.
    #[serde(default)]
    #[schemars(skip)]
    pub metadata: ObjectMeta,
    /// The rules.
    pub spec: EgressNetworkPolicySpec,
}

/// Rules of an [`EgressNetworkPolicy`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = rules::egress_spec)]
pub struct EgressNetworkPolicySpec {
    /// In order; the first that matches decides, and what none matches is allowed.
    #[serde(default, deserialize_with = "null_as_default")]
    #[schemars(transform = rules::egress_rules)]
    pub egress: Vec<EgressNetworkPolicyRule>,
}

/// One rule of an [`EgressNetworkPolicy`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EgressNetworkPolicyRule {
    /// `Allow` or `Deny`.
    #[serde(rename = "type")]
    #[schemars(transform = rules::rule_type)]
    pub rule_type: String,
    /// Which destinations.
    pub to: EgressNetworkPolicyPeer,
}

/// Destinations of an [`EgressNetworkPolicyRule`]: exactly one of the two fields is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = rules::egress_peer)]
pub struct EgressNetworkPolicyPeer {
    /// A CIDR. Empty: unset.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    #[schemars(transform = rules::ipv4_net)]
    pub cidr_selector: String,
    /// A DNS name. Empty: unset.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    #[schemars(transform = rules::dns_name)]
    pub dns_name: String,
}

/// Kubernetes treats an explicit `null` as an absent field.
fn null_as_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that skip_serializing_if asks for")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Makes a type a Kubernetes resource: its place in the API, and `apiVersion` and `kind` in its serialized form.
macro_rules! network_resource {
    ($type:ident, $plural:literal, $scope:ty) => {
        impl k8s_openapi::Resource for $type {
            const API_VERSION: &'static str = "network.openshift.io/v1";
            const GROUP: &'static str = "network.openshift.io";
            const KIND: &'static str = stringify!($type);
            const VERSION: &'static str = "v1";
            const URL_PATH_SEGMENT: &'static str = $plural;
            type Scope = $scope;
        }

        impl k8s_openapi::ListableResource for $type {
            const LIST_KIND: &'static str = concat!(stringify!($type), "List");
        }

        impl k8s_openapi::Metadata for $type {
            type Ty = ObjectMeta;

            fn metadata(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn metadata_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                struct Fields<'a>(&'a $type);

                impl Serialize for Fields<'_> {
                    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                        $type::serialize(self.0, serializer)
                    }
                }

                #[derive(Serialize)]
                #[serde(rename_all = "camelCase")]
                struct Typed<'a> {
                    api_version: &'static str,
                    kind: &'static str,
                    #[serde(flatten)]
                    fields: Fields<'a>,
                }

                Typed {
                    api_version: <$type as k8s_openapi::Resource>::API_VERSION,
                    kind: <$type as k8s_openapi::Resource>::KIND,
                    fields: Fields(self),
                }
                .serialize(serializer)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $type::deserialize(deserializer)
            }
        }
    };
}

network_resource!(ClusterNetwork, "clusternetworks", ClusterResourceScope);
network_resource!(HostSubnet, "hostsubnets", ClusterResourceScope);
network_resource!(NetNamespace, "netnamespaces", ClusterResourceScope);
network_resource!(EgressNetworkPolicy, "egressnetworkpolicies", NamespaceResourceScope);

#[cfg(test)]
mod tests {
    use k8s_openapi::Resource;
    use serde_json::json;

    use super::*;

    /// An object as `oc get -o json` prints it reads and writes back the same.
    #[test]
    fn json_names_are_the_originals() {
        fn same<T: Resource + Serialize + for<'de> Deserialize<'de>>(mut fields: serde_json::Value) {
            fields["apiVersion"] = json!("network.openshift.io/v1");
            fields["kind"] = json!(T::KIND);
            fields["metadata"] = json!({"name": "a", "resourceVersion": "7"});
            let object: T = serde_json::from_value(fields.clone()).unwrap();
            assert_eq!(serde_json::to_value(&object).unwrap(), fields);
        }
        same::<ClusterNetwork>(json!({
            "network": "10.128.0.0/14", "hostsubnetlength": 9, "serviceNetwork": "172.30.0.0/16",
            "pluginName": "redhat/openshift-ovs-subnet", "vxlanPort": 4789, "mtu": 1450,
            "clusterNetworks": [{"CIDR": "10.128.0.0/14", "hostSubnetLength": 9}],
        }));
        same::<HostSubnet>(json!({
            "host": "a", "hostIP": "192.168.1.1", "subnet": "10.128.0.0/23",
            "egressIPs": ["192.168.1.100"], "egressCIDRs": ["192.168.1.0/24"],
        }));
        same::<NetNamespace>(json!({"netname": "a", "netid": 0, "egressIPs": ["192.168.1.100"]}));
        same::<EgressNetworkPolicy>(json!({"spec": {"egress": [
            {"type": "Allow", "to": {"cidrSelector": "1.2.3.0/24"}}, {"type": "Deny", "to": {"dnsName": "example.com"}},
        ]}}));
    }

    #[test]
    fn unknown_fields_and_nulls_pass() {
        let object: HostSubnet = serde_json::from_value(json!({
            "host": "a", "hostIP": "192.168.1.1", "subnet": null, "egressIPs": null, "new": {"field": 1},
        }))
        .unwrap();
        assert_eq!((object.subnet.as_str(), object.egress_ips.len()), ("", 0));
    }
}
