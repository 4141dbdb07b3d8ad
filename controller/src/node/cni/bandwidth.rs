//! Bandwidth limits of pods, by the annotations `kubernetes.io/ingress-bandwidth` and `egress-bandwidth`.
//!
//! What goes to the pod is shaped: a queue of type linux-htb on its port. What comes from it is policed where it enters
//! the bridge. The policing goes with the port; the queue is a row of its own, which stays when others delete the port.

use std::collections::BTreeMap;
use std::fmt;

use ovsdb::ovs::{OvsError, QosSpec, ensure_qos, remove_unreferenced_qos};
use ovsdb::transaction::{Columns, Condition};
use ovsdb::{Client, Replica};

use crate::node::ovs::ports::Leg;

const INGRESS: &str = "kubernetes.io/ingress-bandwidth";
const EGRESS: &str = "kubernetes.io/egress-bandwidth";

/// The least and the most that an annotation may ask for, bit/s: as Kubernetes' own bandwidth plugin has it.
const LEAST: u64 = 1_000;
const MOST: u64 = 1_000_000_000_000_000;

/// What a pod is limited to, bit/s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits {
    /// Of what goes to it.
    pub(super) ingress: Option<u64>,
    /// Of what comes from it.
    pub(super) egress: Option<u64>,
}

/// An annotation that can't be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("annotation {annotation} is {value:?}: {reason}")]
pub(super) struct InvalidLimit {
    annotation: &'static str,
    value: String,
    reason: Reason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    NotAQuantity,
    TooSmall,
    TooLarge,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAQuantity => "it must be a quantity of bits per second such as 10M",
            Self::TooSmall => "it must be at least 1k (bits per second)",
            Self::TooLarge => "it must be at most 1P (bits per second)",
        })
    }
}

impl Limits {
    /// What a pod's annotations say.
    pub(super) fn of(annotations: &BTreeMap<String, String>) -> Result<Self, InvalidLimit> {
        let limit = |annotation: &'static str| {
            let Some(value) = annotations.get(annotation) else { return Ok(None) };
            let invalid = |reason| InvalidLimit { annotation, value: value.clone(), reason };
            let bits = quantity(value).ok_or_else(|| invalid(Reason::NotAQuantity))?;
            match bits {
                ..LEAST => Err(invalid(Reason::TooSmall)),
                LEAST..=MOST => Ok(Some(bits)),
                _ => Err(invalid(Reason::TooLarge)),
            }
        };
        Ok(Self { ingress: limit(INGRESS)?, egress: limit(EGRESS)? })
    }

    pub(super) fn is_nothing(self) -> bool {
        self == Self::default()
    }
}

/// A quantity of Kubernetes (resource.Quantity), rounded up to a whole number; larger ones than a `u64` are its
/// greatest. None if it is no quantity, or a negative one.
fn quantity(text: &str) -> Option<u64> {
    let end =
        text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-'))).unwrap_or(text.len());
    let (number, suffix) = text.split_at_checked(end)?;
    let number = number.strip_prefix('+').unwrap_or(number);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || digits.len() > 30 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let mut value: u128 = digits.parse().ok()?;
    let mut places = i32::try_from(fraction.len()).ok()?;
    let mut binary = 0_u32;
    match suffix {
        "n" => places += 9,
        "u" => places += 6,
        "m" => places += 3,
        "" => {}
        "k" => places -= 3,
        "M" => places -= 6,
        "G" => places -= 9,
        "T" => places -= 12,
        "P" => places -= 15,
        "E" => places -= 18,
        "Ki" => binary = 10,
        "Mi" => binary = 20,
        "Gi" => binary = 30,
        "Ti" => binary = 40,
        "Pi" => binary = 50,
        "Ei" => binary = 60,
        other => {
            let exponent: i32 = other.strip_prefix(['e', 'E'])?.parse().ok()?;
            places = places.checked_sub(exponent)?;
        }
    }
    value = value.saturating_mul(1_u128 << binary);
    let power = |places: u32| 10_u128.checked_pow(places);
    value = match u32::try_from(places) {
        Ok(places) => power(places).map_or(u128::from(value > 0), |divisor| value.div_ceil(divisor)),
        Err(_) => power(places.unsigned_abs()).and_then(|by| value.checked_mul(by)).unwrap_or(u128::MAX),
    };
    Some(u64::try_from(value).unwrap_or(u64::MAX))
}

/// The key of `external_ids` that names the sandbox, as the replaced system wrote it too.
const OWNER: &str = "sandbox";

/// Limits a pod's port.
pub(super) async fn apply(client: &Client, leg: &Leg, limits: Limits) -> Result<(), OvsError> {
    let port = leg.host_veth.as_str();
    if let Some(rate) = limits.ingress {
        let spec = QosSpec {
            qos_type: "linux-htb".to_owned(),
            other_config: BTreeMap::from([("max-rate".to_owned(), rate.to_string())]),
            queues: BTreeMap::new(),
            external_ids: BTreeMap::from([(OWNER.to_owned(), leg.sandbox.clone())]),
        };
        ensure_qos(client, port, Some(&spec)).await?;
    }
    if let Some(rate) = limits.egress {
        // In kbit of 1000 bits (ovs-vswitchd.conf.db(5)), of which 0 is no limit. As much again may come at once.
        let rate = i64::try_from(rate / 1000).unwrap_or(i64::MAX).max(1);
        let columns = Columns::new().with("ingress_policing_rate", rate).with("ingress_policing_burst", rate);
        let mut transaction = client.transaction();
        transaction.update("Interface", [Condition::eq("name", port)], columns);
        client.transact(transaction).await?;
    }
    Ok(())
}

/// Takes away a port's queue, which would otherwise stay in the database when the port goes.
pub(super) async fn remove(client: &Client, port: &str) -> Result<(), OvsError> {
    if !has_qos(&client.replica(), port) {
        return Ok(());
    }
    match ensure_qos(client, port, None).await {
        Err(OvsError::NoPort(_)) => Ok(()),
        done => done,
    }
}

/// Takes away the queues of pods' ports that somebody else has deleted. Returns how many.
pub(super) async fn remove_lost(client: &Client) -> Result<usize, OvsError> {
    remove_unreferenced_qos(client, OWNER).await
}

fn has_qos(replica: &Replica, port: &str) -> bool {
    replica.named("Port", port).is_some_and(|row| replica.follow(row, "qos").next().is_some())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn limits(ingress: &str) -> Result<Limits, InvalidLimit> {
        Limits::of(&BTreeMap::from([(INGRESS.to_owned(), ingress.to_owned())]))
    }

    #[test]
    fn quantities() {
        for (text, bits) in [
            ("1000", 1000),
            ("1k", 1000),
            ("10M", 10_000_000),
            ("1.5M", 1_500_000),
            ("1Ki", 1024),
            ("2Gi", 2 << 30),
            ("1e6", 1_000_000),
            ("1.5E3", 1500),
            ("+5k", 5000),
            (".5M", 500_000),
            ("1000001m", 1001),
            ("1P", MOST),
        ] {
            assert_eq!(limits(text).unwrap(), Limits { ingress: Some(bits), egress: None }, "{text}");
        }
    }

    #[test]
    fn what_is_out_of_range_or_no_quantity_names_the_annotation() {
        for (text, reason) in [
            ("999", Reason::TooSmall),
            ("0", Reason::TooSmall),
            ("1m", Reason::TooSmall),
            ("1000000000000001", Reason::TooLarge),
            ("2P", Reason::TooLarge),
            ("1E", Reason::TooLarge),
            ("1e300", Reason::TooLarge),
            ("", Reason::NotAQuantity),
            ("-10M", Reason::NotAQuantity),
            ("10Mbit", Reason::NotAQuantity),
            ("fast", Reason::NotAQuantity),
            ("1.2.3M", Reason::NotAQuantity),
            ("1e", Reason::NotAQuantity),
            ("1\u{b5}", Reason::NotAQuantity),
        ] {
            let error = limits(text).unwrap_err();
            assert_eq!(error.reason, reason, "{text}");
            assert!(error.to_string().contains(INGRESS), "{error}");
        }
        let error = Limits::of(&BTreeMap::from([(EGRESS.to_owned(), "x".to_owned())])).unwrap_err();
        assert!(error.to_string().contains(EGRESS), "{error}");
        assert!(Limits::of(&BTreeMap::new()).unwrap().is_nothing());
    }
}
