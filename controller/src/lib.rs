//! Everything of OpenShift SDN that touches the world: API types, cluster sources, the node agent, the
//! cluster controller, the lab and the command line.
//!
//! | module | is |
//! |---|---|
//! | [`api`] | the `network.openshift.io/v1` types |
//! | [`cluster`] | where cluster state comes from: a directory of YAML, or a Kubernetes API server |
//! | [`allocator`] | the cluster controller: HostSubnets and VNIDs |
//! | [`view`] | what one node must know, as inputs of the pipeline's features |
//! | [`node`] | the node agent |
//! | [`admin`], [`metrics`] | health, state and metrics of a program that runs, over HTTP |
//! | [`lab`] | a cluster on one machine |
//! | [`cli`] | the commands of `sdnctl` |

pub mod admin;
pub mod allocator;
pub mod api;
pub mod cli;
pub mod cluster;
pub mod lab;
pub mod metrics;
pub mod node;
pub mod view;

/// The error and its causes in one text; a cause that an error above it has quoted already is not said again, and of what an
/// API server answered only its message is.
#[must_use]
pub fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    for cause in std::iter::successors(Some(error), |cause| cause.source()) {
        let said = cause.to_string();
        if let Some(status) = answer(cause) {
            let message = if status.message.is_empty() { &status.reason } else { &status.message };
            text = text.replace(&said, message);
            if !text.contains(message) {
                text = format!("{text}: {message}");
            }
            // What is below says the same once more.
            break;
        }
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
    }
    text
}

/// What an API server answered instead of doing what it was asked for, if that is what this error is about.
fn answer<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a ::kube::core::Status> {
    let boxed = error.downcast_ref::<Box<::kube::Error>>().map(AsRef::as_ref);
    match error.downcast_ref::<::kube::Error>().or(boxed)? {
        ::kube::Error::Api(status) => Some(status),
        _ => None,
    }
}

/// [`causes`] of an error of any type.
#[must_use]
pub fn describe(error: &anyhow::Error) -> String {
    causes(error.as_ref())
}

#[cfg(test)]
mod tests {
    use ::kube::core::Status;

    use super::{causes, describe};
    use crate::allocator::ControllerError;

    #[test]
    fn errors_are_said_once() {
        let error = anyhow::anyhow!("cause").context("step: cause").context("what");
        assert_eq!(describe(&error), "what: step: cause");
    }

    #[test]
    fn an_api_server_is_quoted_without_its_form() {
        let status = || {
            let status = Status {
                code: 404,
                message: "namespaces \"x\" not found".into(),
                reason: "NotFound".into(),
                ..Status::default()
            };
            ::kube::Error::Api(Box::new(status))
        };
        assert_eq!(causes(&status()), "namespaces \"x\" not found");
        // With the error itself as cause, in a box, and quoted by what is above.
        let error = anyhow::Error::new(status()).context("can't list");
        assert_eq!(describe(&error), "can't list: namespaces \"x\" not found");
        let boxed = ControllerError::Request { action: "list".into(), source: Box::new(status()) };
        assert_eq!(causes(&boxed), "can't list: namespaces \"x\" not found");
        let quoted = ::kube::runtime::watcher::Error::WatchFailed(status());
        assert_eq!(causes(&quoted), "watch stream failed: namespaces \"x\" not found");
    }
}
