//! A cluster on one machine: network namespaces as nodes and pods, one real Open vSwitch a node.
