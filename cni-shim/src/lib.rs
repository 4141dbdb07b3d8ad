//! CNI contract.
