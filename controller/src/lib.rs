//! The node agent, the cluster controller, the lab and sdnctl.
