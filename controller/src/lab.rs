//! A cluster on one machine: network namespaces as nodes and pods, one real Open vSwitch a node.
//!
//! Nothing but the kernel between the parts is simulated: each node is a network namespace with an `ovsdb-server`,
//! an `ovs-vswitchd` and the `sdn-node` that a cluster would run, each pod a namespace that the CNI plugin has wired.
//! All of it is made by [`up()`] and removed by [`down()`], and all traffic stays in namespaces of the lab; the
//! machine's own network is not touched.
//!
//! ```text
//!  LAB-underlay   sw: ROUTER ── port1 ─┐ port2 ─┐        lo: a host beyond the router
//!  LAB-node1              uplink ──────┘        │        br-phy: node's IP ─ (VXLAN) ─ br0 ─ tun0, pods
//!  LAB-node2              uplink ───────────────┘
//!  LAB.NS.POD             eth0 ── a port of br0
//! ```
//!
//! | module | is |
//! |---|---|
//! | `paths`, [`state`] | names of files and namespaces; the record `lab.json` of what was made |
//! | [`plan`], [`preflight`] | from a cluster to what is to be made; what is checked before anything is |
//! | `up`, `down`, `status` | the whole lab |
//! | `underlay`, `node`, `pod` | its parts |
//! | [`matrix`] | who reaches whom, with real packets |
//! | [`enter`] | the user's commands inside |

mod bridge;
mod cni;
mod down;
pub mod enter;
mod error;
mod link;
pub mod matrix;
mod node;
mod paths;
pub mod plan;
mod pod;
pub mod preflight;
mod probe;
mod process;
mod progress;
pub mod state;
mod status;
mod underlay;
mod up;

pub use down::{Report, down};
pub use error::LabError;
pub use paths::{DEFAULT_PARENT, InvalidLabName, LabDir, LabName, NodeDir, PARENT_VARIABLE};
pub use pod::{NewPod, pod_add, pod_delete};
pub use process::ProcessId;
pub use progress::Progress;
pub use state::{Daemon, Datapath, LabState};
pub use status::{LabStatus, NodeStatus, PodStatus, ProcessStatus, status};
pub use up::{Cluster, Options, plan as plan_for, set_plugin, start, up};
