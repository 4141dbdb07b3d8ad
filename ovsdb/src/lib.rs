//! OVSDB (RFC 7047) client with a local replica, and the unixctl client of Open vSwitch daemons.
