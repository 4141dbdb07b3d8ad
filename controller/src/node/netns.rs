//! Work inside other network namespaces.
