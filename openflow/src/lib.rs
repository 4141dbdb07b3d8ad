//! OpenFlow 1.3 with the Nicira and ONF extensions of Open vSwitch: codec, ovs-ofctl text, client.
