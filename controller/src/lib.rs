//! Everything of OpenShift SDN that touches the world: API types, cluster sources, the node agent, the
//! cluster controller, the lab and the command line.
//!
//! | module | is |
//! |---|---|
//! | [`api`] | the `network.openshift.io/v1` types |
//! | [`cluster`] | where cluster state comes from: a directory of YAML (later also Kubernetes) |
//! | [`allocator`] | the cluster controller: HostSubnets and VNIDs |
//! | [`view`] | what one node must know, as inputs of the pipeline's features |
//! | [`node`] | the node agent |
//! | [`lab`] | a cluster on one machine |
//! | [`cli`] | the commands of `sdnctl` |

pub mod allocator;
pub mod api;
pub mod cli;
pub mod cluster;
pub mod lab;
pub mod node;
pub mod view;
