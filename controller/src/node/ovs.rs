//! The Open vSwitch side of the agent: bridge set-up and the flow syncer.
