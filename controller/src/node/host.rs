//! The host side of the agent: links, addresses, routes and the firewall.
