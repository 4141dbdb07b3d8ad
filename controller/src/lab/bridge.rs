//! What a lab does in a node's OVSDB: the bridge `br-phy` that holds the node's address, and reading port numbers.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;

use ovsdb::ovs::{self, BridgeSpec, FailMode, PortSpec};
use ovsdb::unixctl::{self, UnixctlError};
use ovsdb::{Client, Datum, Endpoint, Monitored, Mutation};

use super::LabError;
use super::state::Datapath;
use super::underlay::UPLINK;

/// The bridge that holds a node's uplink and address. The tunnels of a user space datapath only find their way
/// through an address on a bridge of the same datapath.
pub(super) const BR_PHY: &str = "br-phy";

/// A lab's switches share one machine: one thread of each kind is plenty for each.
const THREADS: [(&str, &str); 2] = [("n-handler-threads", "1"), ("n-revalidator-threads", "1")];

/// Makes [`BR_PHY`] with the uplink, and waits until the switch has done it.
///
/// # Errors
/// [`LabError::Ovs`].
pub(super) async fn make_br_phy(
    node: &str,
    socket: &Path,
    ip: Ipv4Addr,
    datapath: Datapath,
) -> Result<(), LabError> {
    let failed =
        |error: &dyn std::error::Error| LabError::Ovs { node: node.to_owned(), reason: error.to_string() };
    let client = connect(node, socket, ovs::monitored()).await?;

    let mut bridge = BridgeSpec::new(BR_PHY);
    bridge.datapath_type = datapath.as_str().to_owned();
    bridge.fail_mode = Some(FailMode::Standalone);
    bridge.other_config.insert("hwaddr".to_owned(), mac(ip));
    ovs::ensure_bridge(&client, &bridge).await.map_err(|error| failed(&error))?;
    ovs::ensure_port(&client, BR_PHY, &PortSpec::new(UPLINK)).await.map_err(|error| failed(&error))?;

    let mut transaction = client.transaction();
    transaction.mutate("Open_vSwitch", [], [Mutation::insert("other_config", Datum::map(THREADS))]);
    client.transact(transaction).await.map_err(|error| failed(&error))?;
    Ok(())
}

/// Tells the node's switch the Ethernet addresses of the other nodes. It would ask for them itself, but drop the
/// first packet to each and keep the pod that sent it waiting for a second.
///
/// # Errors
/// [`LabError::Ovs`].
pub(super) async fn introduce(
    node: &str,
    run_dir: &Path,
    others: impl IntoIterator<Item = Ipv4Addr>,
) -> Result<(), LabError> {
    let failed = |error: UnixctlError| LabError::Ovs { node: node.to_owned(), reason: error.to_string() };
    let control = unixctl::control_socket(run_dir, "ovs-vswitchd").map_err(failed)?;
    for other in others {
        let arguments = [BR_PHY, &other.to_string(), &mac(other)];
        unixctl::call(&control, "tnl/neigh/set", &arguments).await.map_err(failed)?;
    }
    Ok(())
}

/// The Ethernet address of a node's [`BR_PHY`]: the same after each start, so that what others remember stays true.
fn mac(ip: Ipv4Addr) -> String {
    let [a, b, c, d] = ip.octets();
    format!("02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

/// The OpenFlow port numbers of the node's interfaces by name; those that the switch has not numbered are missing.
///
/// # Errors
/// [`LabError::Ovs`].
pub(super) async fn port_numbers(node: &str, socket: &Path) -> Result<BTreeMap<String, u16>, LabError> {
    let client = connect(node, socket, Monitored::new().table("Interface", ["name", "ofport"])).await?;
    let replica = client.replica();
    Ok(replica
        .rows("Interface")
        .filter_map(|row| Some((row.str("name")?.to_owned(), u16::try_from(row.i64("ofport")?).ok()?)))
        .collect())
}

async fn connect(node: &str, socket: &Path, monitored: Monitored) -> Result<Client, LabError> {
    Client::connect(&Endpoint::Unix(socket.to_owned()), ovs::DATABASE, monitored)
        .await
        .map_err(|error| LabError::Ovs { node: node.to_owned(), reason: error.to_string() })
}
