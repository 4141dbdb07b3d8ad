//! The result of ADD (section 5, "Add Success").

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{CniError, CniVersion, ErrorCode};

/// What an ADD made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct CniResult {
    /// The interfaces, on the host and in the container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<Interface>,
    /// The addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ips: Vec<IpConfig>,
    /// The routes in the container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// The name servers.
    #[serde(default)]
    pub dns: Dns,
}

/// An interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its hardware address, e.g. `0a:58:0a:80:02:09`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mac: String,
    /// Its MTU in bytes. From 1.1.0 on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The path of the container's network namespace; empty for an interface of the host.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sandbox: String,
}

/// An address of the container.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct IpConfig {
    /// The address with the prefix length of its subnet.
    pub address: IpNet,
    /// The subnet's gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// The index in [`CniResult::interfaces`] of the interface that has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<usize>,
}

/// A route in the container.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Route {
    /// Where to.
    pub dst: IpNet,
    /// By which gateway; none for what is on the link itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gw: Option<IpAddr>,
    /// The route's MTU in bytes. From 1.1.0 on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Its scope, a number of rtnetlink(7). From 1.1.0 on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<u8>,
}

/// Name servers for the container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Dns {
    /// Addresses, in order of preference.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<IpAddr>,
    /// The local domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Domains to search.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// Options of the resolver.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

impl CniResult {
    /// The result in the JSON of a version of the specification.
    pub fn render(&self, version: CniVersion) -> Vec<u8> {
        let mut json = serde_json::to_value(self).unwrap_or_default();
        if let Some(result) = json.as_object_mut() {
            result.insert("cniVersion".to_owned(), version.as_str().into());
        }
        if version < CniVersion::V1_0_0 {
            for ip in objects(&mut json, "ips") {
                let family = if ip.get("address").is_some_and(is_ipv6) { "6" } else { "4" };
                ip.insert("version".to_owned(), family.into());
            }
        }
        if version < CniVersion::V1_1_0 {
            for object in objects(&mut json, "interfaces") {
                object.remove("mtu");
            }
            for object in objects(&mut json, "routes") {
                object.remove("mtu");
                object.remove("scope");
            }
        }
        json.to_string().into_bytes()
    }

    /// Reads a result of any version that this plugin speaks. Keys that it does not know are not kept.
    ///
    /// # Errors
    /// Code 6.
    pub fn parse(json: &[u8]) -> Result<CniResult, CniError> {
        serde_json::from_slice(json).map_err(|error| {
            CniError::new(ErrorCode::DECODE_FAILURE, format!("this is not a result of a CNI plugin: {error}"))
        })
    }
}

fn objects<'a>(json: &'a mut Value, key: &str) -> impl Iterator<Item = &'a mut Map<String, Value>> {
    json.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
}

fn is_ipv6(address: &Value) -> bool {
    address.as_str().is_some_and(|text| text.contains(':'))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn example() -> CniResult {
        CniResult {
            interfaces: vec![
                Interface {
                    name: "veth1a2b3c4d".into(),
                    mac: "5e:00:00:00:00:01".into(),
                    ..Interface::default()
                },
                Interface {
                    name: "eth0".into(),
                    mac: "0a:58:0a:80:02:09".into(),
                    mtu: Some(1450),
                    sandbox: "/run/netns/p".into(),
                },
            ],
            ips: vec![IpConfig {
                address: "10.128.2.9/23".parse().unwrap(),
                gateway: Some("10.128.2.1".parse().unwrap()),
                interface: Some(1),
            }],
            routes: vec![Route {
                dst: "0.0.0.0/0".parse().unwrap(),
                gw: Some("10.128.2.1".parse().unwrap()),
                mtu: Some(1400),
                scope: None,
            }],
            dns: Dns::default(),
        }
    }

    #[test]
    fn newest_version() {
        let json: Value = serde_json::from_slice(&example().render(CniVersion::V1_1_0)).unwrap();
        let expected = json!({
            "cniVersion": "1.1.0",
            "interfaces": [
                {"name": "veth1a2b3c4d", "mac": "5e:00:00:00:00:01"},
                {"name": "eth0", "mac": "0a:58:0a:80:02:09", "mtu": 1450, "sandbox": "/run/netns/p"},
            ],
            "ips": [{"address": "10.128.2.9/23", "gateway": "10.128.2.1", "interface": 1}],
            "routes": [{"dst": "0.0.0.0/0", "gw": "10.128.2.1", "mtu": 1400}],
            "dns": {},
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn older_versions_have_what_they_know() {
        for version in CniVersion::ALL {
            let rendered = example().render(version);
            let json: Value = serde_json::from_slice(&rendered).unwrap();
            assert_eq!(json["cniVersion"], version.as_str());
            assert_eq!(json["ips"][0].get("version").is_some(), version < CniVersion::V1_0_0, "{json}");
            assert_eq!(json["interfaces"][1].get("mtu").is_some(), version >= CniVersion::V1_1_0, "{json}");
            assert_eq!(json["routes"][0].get("mtu").is_some(), version >= CniVersion::V1_1_0, "{json}");
            assert_eq!(CniResult::parse(&rendered).unwrap().ips, example().ips);
        }
        assert_eq!(CniResult::parse(&example().render(CniVersion::LATEST)).unwrap(), example());
        assert_eq!(CniResult::parse(b"[").unwrap_err().code, ErrorCode::DECODE_FAILURE);
    }
}
