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

/// The error and its causes in one text; a cause that an error above it has quoted already is not said again.
#[must_use]
pub fn causes(error: &dyn std::error::Error) -> String {
    let chain = std::iter::successors(error.source(), |cause| cause.source());
    chain.map(ToString::to_string).fold(error.to_string(), |text, cause| {
        if text.contains(&cause) { text } else { format!("{text}: {cause}") }
    })
}

/// [`causes`] of an error of any type.
#[must_use]
pub fn describe(error: &anyhow::Error) -> String {
    causes(error.as_ref())
}

#[cfg(test)]
mod tests {
    use super::describe;

    #[test]
    fn errors_are_said_once() {
        let error = anyhow::anyhow!("cause").context("step: cause").context("what");
        assert_eq!(describe(&error), "what: step: cause");
    }
}
