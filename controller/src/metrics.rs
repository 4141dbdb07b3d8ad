//! What all programs' metrics have in common.
//!
//! Names start with `sdn_` and end in a base unit; no label has values that grow with the number of pods. `docs/metrics.md`
//! is made from what the programs register.

use std::fmt;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

mod process;

/// The media type of [`text`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// One label.
macro_rules! label {
    ($name:ident, $key:ident) => {
        #[derive(Clone, Debug, PartialEq, Eq, Hash, prometheus_client::encoding::EncodeLabelSet)]
        pub(crate) struct $name {
            pub(crate) $key: &'static str,
        }
    };
}
pub(crate) use label;

/// How long things took, by label.
pub(crate) type Durations<L> = Family<L, Histogram, fn() -> Histogram>;

/// Buckets for what takes from half a millisecond to 16 seconds.
pub(crate) fn durations() -> Histogram {
    Histogram::new(exponential_buckets(0.0005, 2.0, 16))
}

/// A registry with what every program shows: its version and what the kernel knows of it.
pub(crate) fn of_a_program(prefix: &str, program: &str) -> Registry {
    let mut registry = Registry::default();
    let build = Info::new([("version", crate::cli::VERSION.to_owned())]);
    registry.sub_registry_with_prefix(prefix).register(
        "build",
        format!("The version of {program} that runs"),
        build,
    );
    registry.register_collector(Box::new(process::Process));
    registry
}

/// The exposition of a registry.
///
/// # Errors
/// Not expected: text does not fail to be written.
pub fn text(registry: &Registry) -> Result<String, fmt::Error> {
    let mut text = String::new();
    encode(&mut text, registry)?;
    Ok(text)
}

#[cfg(test)]
mod tests;
