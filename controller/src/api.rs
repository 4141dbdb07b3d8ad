//! The `network.openshift.io/v1` API types.
