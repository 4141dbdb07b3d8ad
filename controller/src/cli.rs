//! The commands of `sdnctl`, one file a command.
