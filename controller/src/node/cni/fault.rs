//! Places where tests make the agent die or a step fail.
//!
//! In a debug build the environment variable `SDN_FAULT` names one of [`POINTS`]: `kill:POINT` ends the process there as
//! SIGKILL does, `fail:POINT` makes the step after it fail. A release build has none of this.

use cni_shim::cni::CniError;

/// The places, in the order in which ADD and then DEL come by.
pub const POINTS: [&str; 11] = [
    "add:begin",
    "add:lease-empty",
    "add:leased",
    "add:wired",
    "add:named",
    "add:port",
    "add:flows",
    "del:begin",
    "del:port",
    "del:veth",
    "del:lease",
];

/// Does what `SDN_FAULT` says about this place.
///
/// # Errors
/// If it says `fail`.
#[cfg(debug_assertions)]
pub(super) fn point(place: &'static str) -> Result<(), CniError> {
    use std::sync::OnceLock;
    static FAULT: OnceLock<Option<String>> = OnceLock::new();
    debug_assert!(POINTS.contains(&place), "{place} is not in the list");
    let fault = FAULT.get_or_init(|| std::env::var("SDN_FAULT").ok());
    match fault.as_deref().and_then(|fault| fault.split_once(':')) {
        Some(("kill", here)) if here == place => {
            let own = nix::unistd::Pid::this();
            // SIGKILL can't be caught: nothing after this line is run.
            let _ = nix::sys::signal::kill(own, nix::sys::signal::Signal::SIGKILL);
            std::process::abort();
        }
        Some(("fail", here)) if here == place => {
            Err(CniError::new(cni_shim::cni::ErrorCode::INTERNAL, format!("{place}: a fault was asked for")))
        }
        _ => Ok(()),
    }
}

/// Nothing, in a release build.
#[cfg(not(debug_assertions))]
#[inline]
pub(super) fn point(_place: &'static str) -> Result<(), CniError> {
    Ok(())
}
