//! `CNI_ARGS`: what Kubernetes' runtimes and people add to a call.

use std::net::Ipv4Addr;

use super::validate::{self, shown};
use super::{CniError, ErrorCode};

/// The parsed `CNI_ARGS`, e.g. `IgnoreUnknown=1;K8S_POD_NAMESPACE=blue;K8S_POD_NAME=web-0`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CniArgs {
    /// `K8S_POD_NAMESPACE`: the pod's namespace.
    pub pod_namespace: Option<String>,
    /// `K8S_POD_NAME`: the pod's name.
    pub pod_name: Option<String>,
    /// `K8S_POD_INFRA_CONTAINER_ID`: the sandbox; runtimes set it to `CNI_CONTAINERID`.
    pub infra_container_id: Option<String>,
    /// `K8S_POD_UID`: the pod's UID.
    pub pod_uid: Option<String>,
    /// `IP`: the address that the pod asks for. A prefix length behind it is accepted and not used: the node's
    /// subnet decides it.
    pub ip: Option<Ipv4Addr>,
    /// `IgnoreUnknown`: keys that the plugin does not know are no error.
    pub ignore_unknown: bool,
    /// Keys that this plugin does not know, in order.
    pub unknown: Vec<(String, String)>,
}

impl CniArgs {
    /// Parses `KEY=VALUE;KEY=VALUE`. Empty elements are skipped, an empty value counts as not set, of a key that
    /// appears twice the last counts. Unknown keys are kept; see [`CniArgs::deny_unknown`].
    ///
    /// # Errors
    /// Code 4 naming `CNI_ARGS` and the element.
    pub fn parse(raw: &str) -> Result<CniArgs, CniError> {
        let mut args = CniArgs::default();
        for element in raw.split(';').filter(|element| !element.is_empty()) {
            let (key, value) = element
                .split_once('=')
                .ok_or_else(|| invalid(format!("{} is not of the form KEY=VALUE", shown(element))))?;
            let text = || (!value.is_empty()).then(|| value.to_owned());
            match key {
                "K8S_POD_NAMESPACE" => args.pod_namespace = object_name(key, text())?,
                "K8S_POD_NAME" => args.pod_name = object_name(key, text())?,
                "K8S_POD_INFRA_CONTAINER_ID" => args.infra_container_id = text(),
                "K8S_POD_UID" => args.pod_uid = object_name(key, text())?,
                "IP" if value.is_empty() => args.ip = None,
                "IP" => args.ip = Some(address(value)?),
                "IgnoreUnknown" => args.ignore_unknown = boolean(value)?,
                _ => args.unknown.push((key.to_owned(), value.to_owned())),
            }
        }
        Ok(args)
    }

    /// Refuses unknown keys unless `IgnoreUnknown` is set. For ADD: a key that was meant to change the attachment
    /// must not be lost silently.
    ///
    /// # Errors
    /// Code 4 naming `CNI_ARGS` and the keys.
    pub fn deny_unknown(&self) -> Result<(), CniError> {
        if self.ignore_unknown || self.unknown.is_empty() {
            return Ok(());
        }
        let keys: Vec<String> = self.unknown.iter().map(|(key, _)| shown(key)).collect();
        Err(invalid(format!("unknown keys {}; add IgnoreUnknown=1 to accept them", keys.join(", "))))
    }

    /// The pod's namespace and name.
    ///
    /// # Errors
    /// Code 4 naming what is missing.
    pub fn pod(&self) -> Result<(&str, &str), CniError> {
        match (&self.pod_namespace, &self.pod_name) {
            (Some(namespace), Some(name)) => Ok((namespace, name)),
            (None, _) => Err(invalid("K8S_POD_NAMESPACE is missing".to_owned())),
            (_, None) => Err(invalid("K8S_POD_NAME is missing".to_owned())),
        }
    }
}

/// What an API server takes as a name or UID, and somewhat more.
fn object_name(key: &str, value: Option<String>) -> Result<Option<String>, CniError> {
    match value {
        Some(value) if !validate::is_object_name(&value) => {
            Err(invalid(format!("{key}={} can't be of an object of Kubernetes", shown(&value))))
        }
        value => Ok(value),
    }
}

fn address(value: &str) -> Result<Ipv4Addr, CniError> {
    let (address, prefix) = value.split_once('/').unwrap_or((value, "32"));
    match (address.parse(), prefix.parse::<u8>()) {
        (Ok(address), Ok(0..=32)) => Ok(address),
        _ => Err(invalid(format!("IP={} is not an IPv4 address", shown(value)))),
    }
}

fn boolean(value: &str) -> Result<bool, CniError> {
    match value.to_ascii_lowercase().as_str() {
        "1" | "true" => Ok(true),
        "0" | "false" | "" => Ok(false),
        _ => Err(invalid(format!("IgnoreUnknown={} is neither 1/true nor 0/false", shown(value)))),
    }
}

fn invalid(problem: String) -> CniError {
    CniError::new(
        ErrorCode::INVALID_ENVIRONMENT,
        format!("invalid environment variable {}: {problem}", validate::ARGS),
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_a_runtime_sends() {
        let args = CniArgs::parse(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=blue;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=4f1e;\
             K8S_POD_UID=7b0a;COLOR=a=b",
        )
        .unwrap();
        assert_eq!(args.pod().unwrap(), ("blue", "web-0"));
        assert_eq!(args.infra_container_id.as_deref(), Some("4f1e"));
        assert_eq!(args.pod_uid.as_deref(), Some("7b0a"));
        assert_eq!(args.unknown, [("COLOR".to_owned(), "a=b".to_owned())]);
        args.deny_unknown().unwrap();
    }

    #[test]
    fn empty_elements_and_values_are_not_set() {
        assert_eq!(CniArgs::parse("").unwrap(), CniArgs::default());
        assert_eq!(CniArgs::parse(";;K8S_POD_UID=;IP=;").unwrap(), CniArgs::default());
    }

    #[test]
    fn wanted_address() {
        let wanted = Some(Ipv4Addr::new(10, 128, 2, 9));
        assert_eq!(CniArgs::parse("IP=10.128.2.9").unwrap().ip, wanted);
        assert_eq!(CniArgs::parse("IP=10.128.2.9/23").unwrap().ip, wanted);
        for bad in ["IP=10.128.2", "IP=fd00::1", "IP=10.128.2.9/33", "IP=10.128.2.9/", "IP=x"] {
            let error = CniArgs::parse(bad).unwrap_err();
            assert_eq!(error.code, ErrorCode::INVALID_ENVIRONMENT);
            assert!(error.msg.contains("CNI_ARGS") && error.msg.contains("IP="), "{error}");
        }
    }

    #[test]
    fn problems_name_the_variable_and_the_element() {
        let error = CniArgs::parse("K8S_POD_NAME").unwrap_err();
        assert_eq!(
            error.msg,
            "invalid environment variable CNI_ARGS: \"K8S_POD_NAME\" is not of the form KEY=VALUE"
        );
        let error = CniArgs::parse("IgnoreUnknown=perhaps").unwrap_err();
        assert!(error.msg.contains("IgnoreUnknown=\"perhaps\""), "{error}");
        let error = CniArgs::parse("COLOR=red").unwrap().deny_unknown().unwrap_err();
        assert!(error.msg.contains("\"COLOR\"; add IgnoreUnknown=1"), "{error}");
        let error = CniArgs::parse("K8S_POD_NAME=web").unwrap().pod().unwrap_err().msg;
        assert!(error.ends_with("K8S_POD_NAMESPACE is missing"), "{error}");
        let error = CniArgs::parse("K8S_POD_NAMESPACE=blue").unwrap().pod().unwrap_err().msg;
        assert!(error.ends_with("K8S_POD_NAME is missing"), "{error}");
    }

    #[test]
    fn names_that_no_object_has_are_refused() {
        let long = "a".repeat(254);
        for name in ["a/b", "a b", "-a", "é", &long] {
            for key in ["K8S_POD_NAMESPACE", "K8S_POD_NAME", "K8S_POD_UID"] {
                let error = CniArgs::parse(&format!("{key}={name}")).unwrap_err().to_string();
                assert!(error.contains(key), "{error}");
            }
        }
        let pod = CniArgs::parse("K8S_POD_NAMESPACE=blue;K8S_POD_NAME=web-0.a;K8S_POD_UID=9d3ee1c4").unwrap();
        assert_eq!(pod.pod().unwrap(), ("blue", "web-0.a"));
    }
}
