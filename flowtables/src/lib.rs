//! The OpenShift SDN pipeline as a pure function: tables, features, flow set, diff, packet walker.
