//! Pods on the network: ADD, and what all requests need.
//!
//! The steps of ADD are lease, veth, port, flows; whatever fails, the steps before are undone, so that the
//! runtime may simply try again. The lease alone may stay, until the switch has no flows of it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use cni_shim::cni::{
    CniArgs, CniError, CniResult, CniVersion, ErrorCode, Interface, IpConfig, NetConf, Route,
};
use cni_shim::contract::Request;
use flowtables::feature::base::gateway;
use flowtables::feature::pods::mac;
use ipnet::Ipv4Net;
use openflow::{MacAddr, OfPort};
use ovsdb::ovs::{OvsError, PortSpec, PortWriter};
use ovsdb::{Client, TransactError};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::alias::Alias;
use super::bandwidth::{self, Limits};
use super::fault;
use super::ipam::{Ipam, IpamError, Lease};
use super::leave::Served;
use super::sandbox::{self, BlockList, PodRoute, SandboxError, SandboxSpec, host_veth_name, pod_routes};
use super::server::Caller;
use super::undo::Undo;
use crate::cluster::Snapshot;
use crate::node::agent::{Config, USERSPACE};
use crate::node::cri::Unknown;
use crate::node::metrics::{self, Metrics, Part, Step};
use crate::node::netns::NetNs;
use crate::node::ovs::bridge::BRIDGE;
use crate::node::ovs::ports::{Kept, Leg, first_free, is_free, leg, legs, pod_ports};
use crate::node::status::{Network, Status};
use crate::view::{PodPort, annotated_port, vnid_of};

/// How long ADD waits for the VNID of a namespace that was made a moment ago.
const VNID_DEADLINE: Duration = Duration::from_secs(5);
/// How long ADD waits for a pod that was bound to this node a moment ago.
const POD_DEADLINE: Duration = Duration::from_secs(5);
/// How long ADD waits for the switch to confirm the pod's flows, and DEL for it to confirm that they are gone.
pub(super) const FLOWS_DEADLINE: Duration = Duration::from_secs(10);

/// The pods of this node.
pub struct PodNetwork {
    state: watch::Receiver<Arc<Snapshot>>,
    pub(super) ovsdb: Client,
    /// Ports of many pods in one transaction; and those of the node itself.
    pub(in crate::node) ports: PortWriter,
    pub(super) status: watch::Receiver<Status>,
    pub(super) nudge: Arc<Notify>,
    pub(in crate::node) metrics: Metrics,
    lease_dir: PathBuf,
    ipam: Arc<Mutex<Option<Arc<Ipam>>>>,
    pub(super) datapath_is_userspace: bool,
    /// Name of the Node object that stands for this machine.
    pub(super) node: String,
    /// One request at a time for each sandbox; different sandboxes do not wait for each other.
    sandboxes: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
    /// Port numbers given to ports that are being made.
    reserved: Mutex<BTreeSet<OfPort>>,
    /// Addresses given to pods that have no port yet: the lease directory may be removed meanwhile.
    given: Arc<Mutex<BTreeMap<Ipv4Addr, Lease>>>,
    /// The number that each sandbox's port had last: one that is lost gets it again.
    last_ports: Mutex<HashMap<String, OfPort>>,
    pub(super) served: Mutex<Served>,
    /// An address waits until the switch confirms that flows are gone.
    pub(in crate::node) flows_awaited: AtomicBool,
    /// Pods are objects of an API server: an ADD waits until this side knows the pod and with it its annotations.
    pods_are_known: bool,
    /// Where the container runtime is asked.
    pub(super) cri_socket: Option<PathBuf>,
    legs: Kept<Vec<Leg>>,
    pub(super) pod_ports: Kept<Vec<PodPort>>,
    /// Somebody has found that leases, veths and ports may not go together.
    pub(super) look: Notify,
    /// Sandboxes that the runtime did not know when it was asked.
    pub(super) unknown: Mutex<Unknown>,
}

/// A pod's request, parsed once.
pub(super) struct Attachment {
    pub(super) container_id: String,
    pub(super) ifname: String,
    pub(super) netns: PathBuf,
    version: CniVersion,
    pub(super) args: CniArgs,
    pub(super) namespace: String,
    pub(super) name: String,
}

impl PodNetwork {
    pub(in crate::node) fn new(
        config: &Config,
        state: watch::Receiver<Arc<Snapshot>>,
        ovsdb: Client,
        status: watch::Receiver<Status>,
        nudge: Arc<Notify>,
        metrics: Metrics,
    ) -> Self {
        Self {
            state,
            ports: PortWriter::new(ovsdb.clone(), BRIDGE),
            ovsdb,
            status,
            nudge,
            metrics,
            lease_dir: config.lease_dir.join("openshift-sdn"),
            ipam: Arc::default(),
            datapath_is_userspace: config.datapath_type == USERSPACE,
            node: config.node.clone(),
            sandboxes: Mutex::default(),
            reserved: Mutex::default(),
            given: Arc::default(),
            last_ports: Mutex::default(),
            served: Mutex::default(),
            flows_awaited: AtomicBool::new(false),
            pods_are_known: config.pods_are_known,
            cri_socket: config.cri_socket.clone(),
            legs: Kept::new(legs),
            pod_ports: Kept::new(pod_ports),
            look: Notify::new(),
            unknown: Mutex::default(),
        }
    }

    /// The legs of all pods on the bridge, as OVSDB has them now.
    pub(in crate::node) fn legs(&self) -> Arc<Vec<Leg>> {
        self.legs.of(&self.ovsdb.replica())
    }

    pub(super) fn current_status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// The cluster as it is known now.
    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        self.state.borrow().clone()
    }

    /// Whether the switch has confirmed a leg's flows, at the port that it has.
    pub(super) fn is_synced(&self, leg: &Leg) -> bool {
        leg.port.is_some_and(|port| self.status.borrow().has_at(&leg.sandbox, port))
    }

    /// Addresses in use, and how many there are; nothing if the lease directory is at work, for which nobody waits here.
    pub(super) fn addresses(&self) -> Option<(usize, usize)> {
        let slot = self.ipam.try_lock().ok()?;
        let ipam = slot.as_ref()?;
        Some((ipam.in_use()?, ipam.size()))
    }

    /// The addresses that are leased to a container.
    pub(super) async fn leases_of(&self, container_id: &str) -> Result<Vec<Ipv4Addr>, CniError> {
        let network = self.status.borrow().network.clone();
        let subnet = {
            let slot = self.ipam.lock().unwrap_or_else(PoisonError::into_inner);
            slot.as_ref().map(|ipam| ipam.subnet()).or_else(|| network.map(|network| network.local_subnet))
        };
        let Some(subnet) = subnet else { return Ok(Vec::new()) };
        let leases = self.ipam(subnet, |ipam| ipam.leases()).await?;
        Ok(leases
            .into_iter()
            .filter(|lease| lease.container_id == container_id)
            .map(|lease| lease.address)
            .collect())
    }

    pub(super) fn last_port(&self, sandbox: &str) -> Option<OfPort> {
        self.last_ports.lock().unwrap_or_else(PoisonError::into_inner).get(sandbox).copied()
    }

    pub(super) fn repaired(&self, part: &Part) {
        self.metrics.repairs.get_or_create(part).inc();
    }

    /// Misses no port any more that neither a port nor one of these leases speaks of.
    pub(super) fn forget_lost_ports(&self, leases: &[Lease]) {
        let legs = self.legs();
        let known: BTreeSet<&str> = (legs.iter().map(|leg| leg.sandbox.as_str()))
            .chain(leases.iter().map(|lease| lease.container_id.as_str()))
            .collect();
        let mut last = self.last_ports.lock().unwrap_or_else(PoisonError::into_inner);
        last.retain(|sandbox, _| known.contains(sandbox.as_str()));
    }

    /// Takes down the ports that there are. Tells whether one is missing that was there before and no DEL took away.
    pub(in crate::node) fn note_ports(&self, ports: &[PodPort]) -> bool {
        let mut last = self.last_ports.lock().unwrap_or_else(PoisonError::into_inner);
        note_ports(&mut last, ports)
    }

    /// CNI ADD: wires the pod and answers once the switch has confirmed its flows.
    ///
    /// # Errors
    /// The step that failed; everything before it is undone ([`Undo`]).
    pub(super) async fn add(&self, request: &Request, caller: &Caller<'_>) -> Result<Vec<u8>, CniError> {
        let attachment = Attachment::of(request)?;
        attachment.args.deny_unknown()?;
        let lock = self.lock(&attachment.container_id);
        let guard = lock.lock().await;
        caller.waits()?;
        let network = self.network(&attachment).await?;
        let netns = attachment.open_netns()?;
        loop {
            let there = match self.leg(&attachment.container_id) {
                None => self.attach_again(&attachment, &network, &netns).await?,
                leg => leg,
            };
            let Some(leg) = there else { break };
            if let Some(answer) = self.repeat(&attachment, &network, &netns, leg).await? {
                return Ok(answer);
            }
        }

        let limits = self.limits(&attachment).await?;
        fault::point("add:begin")?;
        let mut undo = Undo { pods: self, attachment: &attachment, leased: None, veth: None, port: false };
        match self.attach(&attachment, &network, netns, limits, &mut undo).await {
            Ok(json) => Ok(json),
            Err(error) => {
                undo.run().await;
                // A lease may wait for its flows, of this request or one before it.
                self.settle_later(guard);
                Err(error)
            }
        }
    }

    async fn attach(
        &self,
        attachment: &Attachment,
        network: &Network,
        netns: NetNs,
        limits: Limits,
        undo: &mut Undo<'_>,
    ) -> Result<Vec<u8>, CniError> {
        let (container_id, ifname) = (attachment.container_id.clone(), attachment.ifname.clone());
        let (wanted, replica, given) = (attachment.args.ip, self.ovsdb.replica(), Arc::clone(&self.given));
        let lease = self.ipam(network.local_subnet, move |ipam| {
            let mut given = given.lock().unwrap_or_else(PoisonError::into_inner);
            let was_leased = ipam.is_leased(&container_id, &ifname);
            // A lease file that somebody has removed is written again within the half minute, and until then too the pod runs.
            let others = legs(&replica).into_iter().filter(|leg| leg.sandbox != container_id);
            let lease = |leg: Leg| Lease { address: leg.ip, container_id: leg.sandbox, ifname: leg.ifname };
            let others = others.map(|leg| (leg.ip, lease(leg))).chain(given.clone()).collect();
            let address = ipam.allocate(&container_id, &ifname, wanted, &others)?;
            given.insert(address, Lease { address, container_id, ifname });
            Ok((address, was_leased))
        });
        // Some address may be held for nobody, or the disk be in trouble.
        let (ip, was_leased) = self.timed("lease", lease).await.inspect_err(|_| self.look())?;
        let _given = Given { pods: self, ip };
        // What was there before is not this call's to take back.
        undo.leased = (!was_leased).then_some(network.local_subnet);
        fault::point("add:leased")?;
        // Only the answer waits for the disk.
        let persist = self.ipam(network.local_subnet, move |ipam| ipam.persist(ip));
        let (plugged, persisted) =
            tokio::join!(self.plug(attachment, network, netns, limits, ip, undo), persist);
        let answer = plugged?;
        persisted?;
        Ok(answer)
    }

    /// Wires a pod that has its address, and has the switch lead to it.
    async fn plug(
        &self,
        attachment: &Attachment,
        network: &Network,
        netns: NetNs,
        limits: Limits,
        ip: Ipv4Addr,
        undo: &mut Undo<'_>,
    ) -> Result<Vec<u8>, CniError> {
        let host_veth = host_veth_name(&attachment.container_id, &attachment.ifname);
        let address =
            Ipv4Net::new(ip, network.local_subnet.prefix_len()).map_err(|error| step("address", error))?;
        let spec = SandboxSpec {
            netns,
            ifname: attachment.ifname.clone(),
            host_veth: host_veth.clone(),
            mac: mac(ip),
            mtu: network.mtu.into(),
            address,
            gateway: gateway(network.local_subnet),
            routes: routes(network),
            block_list: Some(BlockList::default()),
            userspace_datapath: self.datapath_is_userspace,
            alias: attachment.alias().text(),
        };
        // It undoes itself, and a veth that was there before is not this call's to remove.
        let wired = self.timed("veth", sandbox::wire(&spec)).await.map_err(|error| step("veth", error))?;
        undo.veth = Some(host_veth.clone());
        fault::point("add:named")?;

        let leg = Leg {
            host_veth,
            sandbox: attachment.container_id.clone(),
            ifname: attachment.ifname.clone(),
            ip,
            namespace: attachment.namespace.clone(),
            name: attachment.name.clone(),
            uid: attachment.args.pod_uid.clone().unwrap_or_default(),
            port: None,
        };
        undo.port = true;
        let port = self.timed("port", self.add_port(&leg)).await?;
        if !limits.is_nothing() {
            // Before the answer: until then the pod runs nothing.
            self.limit(&leg, limits).await?;
        }
        fault::point("add:port")?;
        self.timed("flows", self.until(FLOWS_DEADLINE, |status| status.has_at(&leg.sandbox, port))).await?;
        fault::point("add:flows")?;
        info!(pod = %leg.pod(), %ip, "attached");
        Ok(result(attachment, network, &leg, MacAddr(wired.host_mac).to_string()))
    }

    /// Removes a veth pair. The switch may have had a port of its name, whoever removed that.
    pub(super) async fn unwire(&self, host_veth: &str) -> Result<bool, SandboxError> {
        self.ports.may_linger(host_veth);
        sandbox::unwire(host_veth).await
    }

    /// From now on the sandbox's port may be missing.
    pub(super) fn miss_no_more(&self, sandbox: &str) {
        self.last_ports.lock().unwrap_or_else(PoisonError::into_inner).remove(sandbox);
    }

    /// What the pod's annotations limit it to.
    async fn limits(&self, attachment: &Attachment) -> Result<Limits, CniError> {
        let key = (attachment.namespace.clone(), attachment.name.clone());
        let mut state = self.state.clone();
        if self.pods_are_known {
            let known = state.wait_for(|snapshot| snapshot.state.pods.contains_key(&key));
            if !matches!(timeout(POD_DEADLINE, known).await, Ok(Ok(_))) {
                let (namespace, name) = key;
                return Err(CniError::new(
                    ErrorCode::TRY_AGAIN_LATER,
                    format!("the API server has not told of pod {namespace}/{name} on this node yet"),
                ));
            }
        }
        self.annotated_limits(&key)
    }

    fn annotated_limits(&self, pod: &(String, String)) -> Result<Limits, CniError> {
        let pod = self.state.borrow().state.pods.get(pod).cloned();
        let annotations = pod.as_ref().and_then(|pod| pod.metadata.annotations.as_ref());
        annotations
            .map_or(Ok(Limits::default()), Limits::of)
            .map_err(|error| CniError::new(ErrorCode::INVALID_CONFIG, format!("bandwidth: {error}")))
    }

    /// Makes the port again of a pod that is wired, and with it its limits.
    pub(super) async fn add_port_again(&self, leg: &Leg) -> Result<(), CniError> {
        self.add_port(leg).await?;
        let limits = self.annotated_limits(&(leg.namespace.clone(), leg.name.clone()))?;
        if !limits.is_nothing() {
            self.limit(leg, limits).await?;
        }
        warn!(pod = %leg.pod(), "its port was missing: made again");
        self.repaired(&metrics::PORT);
        Ok(())
    }

    async fn limit(&self, leg: &Leg, limits: Limits) -> Result<(), CniError> {
        let done = bandwidth::apply(&self.ovsdb, leg, limits).await;
        done.map_err(|error| switch_step("bandwidth", error))
    }

    pub(super) fn lock(&self, sandbox: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut sandboxes = self.sandboxes.lock().unwrap_or_else(PoisonError::into_inner);
        sandboxes.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = sandboxes.get(sandbox).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::default();
        sandboxes.insert(sandbox.to_owned(), Arc::downgrade(&lock));
        lock
    }

    /// The one leg of a sandbox.
    pub(super) fn leg(&self, sandbox: &str) -> Option<Leg> {
        leg(&self.ovsdb.replica(), sandbox)
    }

    pub(super) fn host_mac(&self, host_veth: &str) -> String {
        let interface = ovsdb::ovs::interface(&self.ovsdb.replica(), host_veth);
        interface.and_then(|interface| interface.mac_in_use).unwrap_or_default()
    }

    /// Does something with the leases. It waits for the disk, so on a thread where that holds up nobody.
    pub(super) async fn ipam<T: Send + 'static>(
        &self,
        subnet: Ipv4Net,
        work: impl FnOnce(&Ipam) -> Result<T, IpamError> + Send + 'static,
    ) -> Result<T, CniError> {
        let (dir, slot) = (self.lease_dir.clone(), Arc::clone(&self.ipam));
        let metrics = self.metrics.clone();
        let done = tokio::task::spawn_blocking(move || {
            let ipam = {
                let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
                match slot.as_ref().filter(|ipam| ipam.subnet() == subnet) {
                    Some(ipam) => Arc::clone(ipam),
                    None => Arc::clone(slot.insert(Arc::new(Ipam::open(&dir, subnet)?))),
                }
            };
            let done = work(&ipam);
            let gauge = |count| i64::try_from(count).unwrap_or(i64::MAX);
            if let Some(in_use) = ipam.in_use() {
                metrics.leases.set(gauge(in_use));
            }
            metrics.addresses.set(gauge(ipam.size()));
            done
        });
        let done = done.await.map_err(|error| step("address", error))?;
        done.map_err(|error| {
            let passes = matches!(error, IpamError::Io { .. } | IpamError::Exhausted { .. });
            let code = if passes { ErrorCode::TRY_AGAIN_LATER } else { ErrorCode::INTERNAL };
            CniError::new(code, format!("address: {error}"))
        })
    }

    /// Why no lease can be written, if so.
    pub(super) async fn lease_problem(&self) -> Option<String> {
        let network = self.current_status().network?;
        self.ipam(network.local_subnet, |ipam| ipam.writable()).await.err().map(|error| error.msg)
    }

    pub(super) async fn release(
        &self,
        subnet: Ipv4Net,
        container_id: &str,
        ifname: &str,
    ) -> Result<(), CniError> {
        let (container_id, ifname) = (container_id.to_owned(), ifname.to_owned());
        let ifname_given = move |ipam: &Ipam| {
            let ifname = Some(ifname.as_str()).filter(|ifname| !ifname.is_empty());
            ipam.release(&container_id, ifname)
        };
        self.ipam(subnet, ifname_given).await.map(|_| ())
    }

    /// The networks to wire for, once the pod's namespace has its VNID.
    async fn network(&self, attachment: &Attachment) -> Result<Arc<Network>, CniError> {
        let network = self.status.borrow().network.clone().ok_or_else(|| {
            CniError::new(ErrorCode::TRY_AGAIN_LATER, "the node's network is not set up yet")
        })?;
        let mut state = self.state.clone();
        let known = state
            .wait_for(|snapshot| vnid_of(&snapshot.state, network.plugin, &attachment.namespace).is_some());
        match timeout(VNID_DEADLINE, known).await {
            Ok(Ok(_)) => Ok(network),
            _ => {
                self.metrics.without_vnid.inc();
                Err(CniError::new(
                    ErrorCode::TRY_AGAIN_LATER,
                    format!(
                        "namespace {} has no NetNamespace, so its VNID is not known: is sdn-controller running?",
                        attachment.namespace
                    ),
                ))
            }
        }
    }

    /// Measures a step.
    pub(super) async fn timed<T>(&self, step: &'static str, work: impl Future<Output = T>) -> T {
        let start = Instant::now();
        let done = work.await;
        self.metrics.steps.get_or_create(&Step { step }).observe(start.elapsed().as_secs_f64());
        done
    }

    /// Makes a port; its number.
    pub(super) async fn add_port(&self, leg: &Leg) -> Result<OfPort, CniError> {
        let number = self.reserve(leg)?;
        let made = self.write_port(leg, Some(number)).await;
        self.reserved.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
        made
    }

    /// Makes a port, or one that is there be as it shall be; its number.
    pub(super) async fn write_port(&self, leg: &Leg, number: Option<OfPort>) -> Result<OfPort, CniError> {
        let spec = PortSpec {
            ofport_request: number.and_then(|number| u16::try_from(number.0).ok()),
            external_ids: leg.external_ids(),
            ..PortSpec::new(&leg.host_veth)
        };
        let number = self.ports.ensure(&spec).await.map_err(|error| switch_step("port", error))?;
        Ok(OfPort(number.into()))
    }

    /// A number for a new port: the one that the pod's annotation asks for, or it had before, or the first free one. Flows
    /// go to the switch for it at once, so it is nobody else's.
    fn reserve(&self, leg: &Leg) -> Result<OfPort, CniError> {
        let key = (leg.namespace.clone(), leg.name.clone());
        let asked = self.state.borrow().state.pods.get(&key).and_then(|pod| annotated_port(pod));
        let before = leg.port;
        let mut reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        // Read under the lock: a port leaves the reserved ones only when the replica has it.
        let replica = self.ovsdb.replica();
        let free = |port: &OfPort| is_free(&replica, &reserved, *port);
        let number = asked.filter(free).or(before.filter(free)).or_else(|| first_free(&replica, &reserved));
        let none = "port: br0 has no free port number";
        let number = number.ok_or_else(|| CniError::new(ErrorCode::TRY_AGAIN_LATER, none))?;
        reserved.insert(number);
        Ok(number)
    }

    /// Waits for the reconcile that makes `done` true.
    pub(super) async fn until(
        &self,
        patience: Duration,
        done: impl Fn(&Status) -> bool,
    ) -> Result<(), CniError> {
        let mut status = self.status.clone();
        let reached = timeout(patience, status.wait_for(|status| done(status))).await;
        match reached {
            Ok(Ok(_)) => Ok(()),
            _ => {
                let reason = self.status.borrow().problem.clone().unwrap_or_else(|| "no answer".to_owned());
                Err(CniError::new(
                    ErrorCode::TRY_AGAIN_LATER,
                    format!("flows: the switch has not confirmed them: {reason}"),
                ))
            }
        }
    }
}

impl Attachment {
    /// The pod's namespace, which is never the node's own.
    fn open_netns(&self) -> Result<NetNs, CniError> {
        let wrong = |error: String| CniError::invalid_environment("CNI_NETNS", error);
        let netns = NetNs::open(&self.netns).map_err(|error| wrong(error.to_string()))?;
        let own = NetNs::current().and_then(|own| own.inode()).map_err(|error| wrong(error.to_string()))?;
        if netns.inode().map_err(|error| wrong(error.to_string()))? == own {
            return Err(wrong("is the node's own network namespace: name the pod's".to_owned()));
        }
        Ok(netns)
    }

    fn alias(&self) -> Alias {
        Alias {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            uid: self.args.pod_uid.clone().unwrap_or_default(),
        }
    }

    fn of(request: &Request) -> Result<Self, CniError> {
        let config = NetConf::parse(&request.config)?;
        if config.prev_result.is_some() {
            return Err(CniError::new(
                ErrorCode::INVALID_CONFIG,
                "prevResult is set: openshift-sdn makes the interface, so it must be the first plugin of the chain",
            ));
        }
        let args = CniArgs::parse(&request.args)?;
        let (namespace, name) = args.pod()?;
        Ok(Self {
            container_id: request.container_id.clone(),
            ifname: request.ifname.clone(),
            netns: PathBuf::from(&request.netns),
            version: config.version()?,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            args,
        })
    }
}

/// An address that is given to a pod which has no port yet, for as long as this lives.
struct Given<'a> {
    pods: &'a PodNetwork,
    ip: Ipv4Addr,
}

impl Drop for Given<'_> {
    fn drop(&mut self) {
        self.pods.given.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.ip);
    }
}

/// Takes down the ports that there are. Tells whether one is missing that was there last.
fn note_ports(last: &mut HashMap<String, OfPort>, ports: &[PodPort]) -> bool {
    for port in ports {
        match last.get_mut(&port.sandbox) {
            Some(number) => *number = port.port,
            None => {
                last.insert(port.sandbox.clone(), port.port);
            }
        }
    }
    // All that are there are in it by now.
    let there: HashSet<&str> = ports.iter().map(|port| port.sandbox.as_str()).collect();
    last.len() > there.len()
}

/// The name of an attachment's veth on the node: its port's, which the replaced system chose otherwise, or the one that it
/// would have.
pub(super) fn host_veth_of(leg: Option<&Leg>, container_id: &str, ifname: &str) -> String {
    leg.map_or_else(|| host_veth_name(container_id, ifname), |leg| leg.host_veth.clone())
}

pub(super) fn step(name: &str, error: impl std::fmt::Display) -> CniError {
    CniError::new(ErrorCode::INTERNAL, format!("{name}: {error}"))
}

/// A step that the switch's database failed: later it may succeed if the database or ovs-vswitchd was away, or somebody deleted
/// the bridge or the port, which the agent makes anew.
pub(super) fn switch_step(name: &str, error: OvsError) -> CniError {
    let passes = match &error {
        OvsError::DatabaseDeadline { .. }
        | OvsError::SwitchDeadline { .. }
        | OvsError::NoBridge(_)
        | OvsError::NoPort(_)
        | OvsError::Deleted { .. } => true,
        OvsError::Transact(error) => {
            matches!(error, TransactError::NotConnected(_) | TransactError::OutcomeUnknown(_))
        }
        _ => false,
    };
    let code = if passes { ErrorCode::TRY_AGAIN_LATER } else { ErrorCode::INTERNAL };
    CniError::new(code, format!("{name}: {error}"))
}

fn routes(network: &Network) -> Vec<PodRoute> {
    pod_routes(gateway(network.local_subnet), network.service_network, &network.cluster_networks, None)
}

pub(super) fn result(attachment: &Attachment, network: &Network, leg: &Leg, host_mac: String) -> Vec<u8> {
    let mtu = Some(u32::from(network.mtu));
    let host = Interface { name: leg.host_veth.clone(), mac: host_mac, mtu, sandbox: String::new() };
    let container = Interface {
        name: leg.ifname.clone(),
        mac: MacAddr(mac(leg.ip)).to_string(),
        mtu,
        sandbox: attachment.netns.display().to_string(),
    };
    let address = Ipv4Net::new(leg.ip, network.local_subnet.prefix_len()).unwrap_or_else(|_| leg.ip.into());
    let gateway = IpAddr::V4(gateway(network.local_subnet));
    let routes = routes(network)
        .into_iter()
        .map(|route| Route {
            dst: route.dst.into(),
            gw: route.via.map(IpAddr::V4),
            mtu: route.mtu,
            scope: None,
        })
        .collect();
    CniResult {
        interfaces: vec![host, container],
        ips: vec![IpConfig { address: address.into(), gateway: Some(gateway), interface: Some(1) }],
        routes,
        ..CniResult::default()
    }
    .render(attachment.version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_missing_until_it_is_back_or_forgotten() {
        let port = |sandbox: &str, number| PodPort {
            namespace: "shop".to_owned(),
            name: "web".to_owned(),
            sandbox: sandbox.to_owned(),
            ip: Ipv4Addr::new(10, 128, 2, 2),
            port: OfPort(number),
        };
        let (a, b, c) = (port("a", 3), port("b", 4), port("c", 5));
        let mut last = HashMap::new();
        assert!(!note_ports(&mut last, &[]));
        assert!(!note_ports(&mut last, &[a.clone(), b.clone()]));
        assert!(note_ports(&mut last, std::slice::from_ref(&a)));
        assert!(note_ports(&mut last, &[a.clone(), c.clone()]), "as many as before, but not the same");
        assert!(!note_ports(&mut last, &[a.clone(), b, c.clone(), port("a", 9)]), "one sandbox twice");
        assert_eq!(last["a"], OfPort(9));
        last.remove("b");
        assert!(!note_ports(&mut last, &[a, c]));
    }
}
