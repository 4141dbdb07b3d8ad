//! The CNI side of the agent: server, address management, sandbox wiring.
