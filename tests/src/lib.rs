//! What crosses crates: real Open vSwitch, packets, faults.
