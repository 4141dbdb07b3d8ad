//! The cluster controller: gives nodes their HostSubnet and namespaces their VNID.
