//! The async client: [`Switch`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::flow::FlowStats;
use crate::group::Group;
use crate::message::{
    self, Features, FlowStatsRequest, Message, MultipartReply, MultipartRequest, PacketOut, PortDesc,
    SwitchConfig, SwitchDesc, VERSION,
};
use crate::session::SessionConfig;
use crate::text::Names;

mod bundle;
mod endpoint;
mod error;
mod events;
mod listener;
mod monitor;
mod reconnect;
mod task;
mod tls;

pub use bundle::Modification;
pub use endpoint::Endpoint;
pub use error::{BundleError, ClientError};
pub use events::{Events, SwitchEvent};
pub use listener::Listener;
pub use monitor::{FlowMonitor, MonitorEvent};
pub use reconnect::{Backoff, Connector};
use task::{Command, Pending, Reply};
pub use tls::{Tls, TlsError};

/// Times and limits of a [`Switch`].
#[derive(Clone, Debug)]
pub struct SwitchOptions {
    /// Keepalive and hello.
    pub session: SessionConfig,
    /// How long connecting (with the hello) may take.
    pub connect_timeout: Duration,
    /// How long the answer to a request may take; for answers in parts, each part. Long, since a switch in the middle
    /// of a large change does not answer at once; a dead one is found by the keepalive.
    pub request_timeout: Duration,
    /// Most entries (flows, groups, ports) that an answer held in memory may have.
    pub max_entries: usize,
    /// How many events wait for a slow reader before it loses the oldest.
    pub event_queue: usize,
    /// Certificates for `ssl:` endpoints.
    pub tls: Option<Tls>,
}

impl Default for SwitchOptions {
    fn default() -> Self {
        SwitchOptions {
            session: SessionConfig::default(),
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(120),
            max_entries: 4_000_000,
            event_queue: 1024,
            tls: None,
        }
    }
}

/// A connection to a switch.
///
/// A handle: clones share the connection, and requests of all of them are in flight at the same time. A task in the
/// background owns the socket, keeps the connection alive and hands out answers by transaction id. The connection
/// ends when the last handle is dropped, or when the peer goes: then every request fails with
/// [`ClientError::Closed`] and [`Switch::closed`] resolves. It is not brought back by itself.
///
/// ```no_run
/// use openflow::{Endpoint, Flow, FlowMod, Modification, Switch};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let switch = Switch::connect(&"unix:/var/run/openvswitch/br0.mgmt".parse::<Endpoint>()?).await?;
/// let flow: Flow = "table=0,priority=100,ip,nw_dst=10.0.0.1 actions=output:2".parse()?;
/// switch.bundle(vec![Modification::Flow(FlowMod::add(flow))]).await?;
/// for stats in switch.dump_flows(Default::default()).await? {
///     println!("{} packets:{}", stats.flow, stats.packets.unwrap_or(0));
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Switch {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    commands: mpsc::Sender<Command>,
    events: broadcast::Sender<SwitchEvent>,
    closed: watch::Receiver<Option<Arc<ClientError>>>,
    next_xid: AtomicU32,
    next_bundle: AtomicU32,
    options: SwitchOptions,
}

impl Switch {
    /// Connects and agrees on OpenFlow 1.3.
    ///
    /// # Errors
    /// If the endpoint cannot be reached, or the peer does not speak OpenFlow 1.3.
    pub async fn connect(endpoint: &Endpoint) -> Result<Switch, ClientError> {
        Switch::connect_with(endpoint, SwitchOptions::default()).await
    }

    /// [`Switch::connect`] with times and limits of one's own.
    ///
    /// # Errors
    /// As [`Switch::connect`].
    pub async fn connect_with(endpoint: &Endpoint, options: SwitchOptions) -> Result<Switch, ClientError> {
        let timeout = options.connect_timeout;
        let connect = async {
            let stream = endpoint.connect(options.tls.as_ref()).await?;
            Switch::over(stream, options).await
        };
        match tokio::time::timeout(timeout, connect).await {
            Ok(result) => result,
            Err(_) => Err(ClientError::ConnectTimeout { endpoint: endpoint.to_string() }),
        }
    }

    /// Speaks OpenFlow over a stream that is there already: a socket from a listener, a TLS stream, a pipe in a test.
    ///
    /// # Errors
    /// If the peer does not speak OpenFlow 1.3.
    pub async fn over<S>(stream: S, options: SwitchOptions) -> Result<Switch, ClientError>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    {
        let (commands, command_queue) = mpsc::channel(COMMAND_QUEUE);
        let (events, _) = broadcast::channel(options.event_queue.max(1));
        let (closed_sender, closed) = watch::channel(None);
        let (up_sender, up) = oneshot::channel();
        let task =
            task::Task::new(stream, options.session, command_queue, events.clone(), closed_sender, up_sender);
        tokio::spawn(task.run());
        let shared = Shared {
            commands,
            events,
            closed,
            // 0 is the session's own.
            next_xid: AtomicU32::new(1),
            next_bundle: AtomicU32::new(1),
            options,
        };
        let switch = Switch { shared: Arc::new(shared) };
        match up.await {
            Ok(()) => Ok(switch),
            Err(_) => Err(switch.closed().await),
        }
    }

    /// `n` transaction ids in a row, the first of which is returned; none of them is 0.
    fn take_xids(&self, n: u32) -> u32 {
        loop {
            let first = self.shared.next_xid.fetch_add(n, Ordering::Relaxed);
            // 0 would be in the middle if the counter wrapped around.
            if first != 0 && first.checked_add(n).is_some() {
                return first;
            }
        }
    }

    fn encode(&self, xid: u32, message: &Message) -> Result<BytesMut, ClientError> {
        let mut bytes = BytesMut::new();
        message::encode(&mut bytes, VERSION, xid, message)?;
        Ok(bytes)
    }

    /// Hands bytes to the task, waiting while it has more than enough to write.
    async fn submit(&self, command: Command) -> Result<(), ClientError> {
        if self.shared.commands.send(command).await.is_err() {
            return Err(self.closed().await);
        }
        Ok(())
    }

    /// Hands bytes to the task from a destructor, where nothing can wait: if the queue is full, a task of its own does
    /// the waiting.
    fn submit_later(&self, command: Command) {
        if let Err(mpsc::error::TrySendError::Full(command)) = self.shared.commands.try_send(command)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let commands = self.shared.commands.clone();
            runtime.spawn(async move { commands.send(command).await });
        }
    }

    /// Sends a message that has no answer.
    ///
    /// An error that the switch answers to it arrives as [`SwitchEvent::Error`] with the transaction id that is
    /// returned here.
    ///
    /// # Errors
    /// If the message is too long or the connection is gone.
    pub async fn send(&self, message: &Message) -> Result<u32, ClientError> {
        let xid = self.take_xids(1);
        let bytes = self.encode(xid, message)?;
        self.submit(Command { bytes, pending: None, watch: None }).await?;
        Ok(xid)
    }

    /// Sends a message and waits for the message that answers it.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if the switch answers with an error.
    pub async fn request(&self, message: &Message) -> Result<Message, ClientError> {
        let xid = self.take_xids(1);
        let bytes = self.encode(xid, message)?;
        let (sender, receiver) = oneshot::channel();
        self.submit(Command { bytes, pending: Some((xid, Pending::One(sender))), watch: None }).await?;
        self.await_reply(receiver).await
    }

    async fn await_reply(&self, receiver: oneshot::Receiver<Reply>) -> Result<Message, ClientError> {
        match tokio::time::timeout(self.shared.options.request_timeout, receiver).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(_)) => Err(self.closed().await),
            Err(_) => Err(ClientError::Timeout),
        }
    }

    /// Sends a multipart request and hands out the parts of its answer as they come; a slow reader slows the switch
    /// down instead of filling the memory.
    async fn multipart(&self, request: MultipartRequest) -> Result<Parts, ClientError> {
        let xid = self.take_xids(1);
        let mut bytes = BytesMut::new();
        let mut requests = message::split_request(request).into_iter().peekable();
        while let Some(request) = requests.next() {
            let more = requests.peek().is_some();
            message::encode(&mut bytes, VERSION, xid, &Message::MultipartRequest { more, request })?;
        }
        let (sender, receiver) = mpsc::channel(PARTS_QUEUE);
        self.submit(Command { bytes, pending: Some((xid, Pending::Parts(sender))), watch: None }).await?;
        Ok(Parts { switch: self.clone(), receiver, done: false })
    }

    /// Sends a multipart request and puts its answer together.
    ///
    /// # Errors
    /// If the switch refuses, or the answer has more than [`SwitchOptions::max_entries`] entries.
    pub async fn multipart_request(&self, request: MultipartRequest) -> Result<MultipartReply, ClientError> {
        let mut parts = self.multipart(request).await?;
        let mut reassembly = crate::session::Reassembly::new(self.shared.options.max_entries);
        while let Some((more, part)) = parts.next().await? {
            if let Some(whole) = reassembly.add(more, part)? {
                return Ok(whole);
            }
        }
        Err(ClientError::UnexpectedReply)
    }

    /// What the switch is and can do.
    ///
    /// # Errors
    /// If the connection is gone or the answer is no such thing.
    pub async fn features(&self) -> Result<Features, ClientError> {
        match self.request(&Message::FeaturesRequest).await? {
            Message::FeaturesReply(features) => Ok(features),
            _ => Err(ClientError::UnexpectedReply),
        }
    }

    /// Sets how fragments are treated and how much of a packet comes to the controller.
    ///
    /// Open vSwitch sends events (port status, removed flows, packets) over a management socket (`br0.mgmt`) only
    /// once `miss_send_len` is not 0.
    ///
    /// # Errors
    /// If the connection is gone.
    pub async fn set_config(&self, config: SwitchConfig) -> Result<(), ClientError> {
        self.send(&Message::SetConfig(config)).await.map(|_| ())
    }

    /// How fragments are treated and how much of a packet comes to the controller.
    ///
    /// # Errors
    /// If the connection is gone or the answer is no such thing.
    pub async fn get_config(&self) -> Result<SwitchConfig, ClientError> {
        match self.request(&Message::GetConfigRequest).await? {
            Message::GetConfigReply(config) => Ok(config),
            _ => Err(ClientError::UnexpectedReply),
        }
    }

    /// All ports.
    ///
    /// # Errors
    /// If the connection is gone or the switch refuses.
    pub async fn port_desc(&self) -> Result<Vec<PortDesc>, ClientError> {
        match self.multipart_request(MultipartRequest::PortDesc).await? {
            MultipartReply::PortDesc(ports) => Ok(ports),
            _ => Err(ClientError::UnexpectedReply),
        }
    }

    /// What the switch's ports and tables are called, for text with names.
    ///
    /// # Errors
    /// If the connection is gone or the switch refuses.
    pub async fn names(&self) -> Result<Names, ClientError> {
        let ports = self.port_desc().await?;
        match self.multipart_request(MultipartRequest::TableFeatures(Vec::new())).await? {
            MultipartReply::TableFeatures(tables) => Ok(Names::new(&ports, &tables)),
            _ => Err(ClientError::UnexpectedReply),
        }
    }

    /// Who made the switch.
    ///
    /// # Errors
    /// If the connection is gone or the switch refuses.
    pub async fn desc(&self) -> Result<SwitchDesc, ClientError> {
        match self.multipart_request(MultipartRequest::Desc).await? {
            MultipartReply::Desc(desc) => Ok(desc),
            _ => Err(ClientError::UnexpectedReply),
        }
    }

    /// Waits until the switch has carried out everything sent before.
    ///
    /// # Errors
    /// If the connection is gone.
    pub async fn barrier(&self) -> Result<(), ClientError> {
        match self.request(&Message::BarrierRequest).await? {
            Message::BarrierReply => Ok(()),
            _ => Err(ClientError::UnexpectedReply),
        }
    }

    /// All flows that a request covers, with their counters. For very many, use [`Switch::stream_flows`].
    ///
    /// # Errors
    /// If the connection is gone, the switch refuses, or there are more than [`SwitchOptions::max_entries`].
    pub async fn dump_flows(&self, request: FlowStatsRequest) -> Result<Vec<FlowStats>, ClientError> {
        match self.multipart_request(MultipartRequest::Flow(request)).await? {
            MultipartReply::Flow(flows) => Ok(flows),
            _ => Err(ClientError::UnexpectedReply),
        }
    }

    /// All flows that a request covers, a few hundred at a time: memory does not grow with their number.
    ///
    /// # Errors
    /// If the connection is gone.
    pub async fn stream_flows(&self, request: FlowStatsRequest) -> Result<FlowStream, ClientError> {
        Ok(FlowStream { parts: self.multipart(MultipartRequest::Flow(request)).await? })
    }

    /// All groups.
    ///
    /// # Errors
    /// If the connection is gone or the switch refuses.
    pub async fn dump_groups(&self) -> Result<Vec<Group>, ClientError> {
        match self.multipart_request(MultipartRequest::GroupDesc).await? {
            MultipartReply::GroupDesc(groups) => Ok(groups),
            _ => Err(ClientError::UnexpectedReply),
        }
    }

    /// Sends a packet.
    ///
    /// # Errors
    /// If the connection is gone.
    pub async fn packet_out(&self, packet: PacketOut) -> Result<(), ClientError> {
        self.send(&Message::PacketOut(packet)).await.map(|_| ())
    }

    /// Events from now on. Each stream gets all of them.
    ///
    /// What comes over a management socket of Open vSwitch has to be asked for first, see [`Switch::set_config`].
    pub fn events(&self) -> Events {
        Events::new(self.shared.events.subscribe())
    }

    /// Resolves, with the reason, when the connection is gone.
    pub async fn closed(&self) -> ClientError {
        let mut closed = self.shared.closed.clone();
        match closed.wait_for(Option::is_some).await {
            Ok(reason) => match &*reason {
                Some(reason) => ClientError::Closed(reason.clone()),
                None => ClientError::TaskGone,
            },
            Err(_) => ClientError::TaskGone,
        }
    }
}

/// How many commands wait for the task. Each holds at most a few messages, and the task takes none while its write
/// buffer is full: this is the back-pressure.
const COMMAND_QUEUE: usize = 8;
/// How many parts of an answer wait for their reader.
const PARTS_QUEUE: usize = 4;

/// The parts of an answer.
#[derive(Debug)]
struct Parts {
    switch: Switch,
    receiver: mpsc::Receiver<Result<(bool, MultipartReply), ClientError>>,
    done: bool,
}

impl Parts {
    async fn next(&mut self) -> Result<Option<(bool, MultipartReply)>, ClientError> {
        if self.done {
            return Ok(None);
        }
        let timeout = self.switch.shared.options.request_timeout;
        let part = match tokio::time::timeout(timeout, self.receiver.recv()).await {
            Ok(Some(part)) => part,
            Ok(None) => Err(self.switch.closed().await),
            Err(_) => Err(ClientError::Timeout),
        };
        self.done = !matches!(part, Ok((true, _)));
        part.map(Some)
    }
}

/// Flows as the switch sends them, see [`Switch::stream_flows`].
#[derive(Debug)]
pub struct FlowStream {
    parts: Parts,
}

impl FlowStream {
    /// The next flows, `None` after the last. May be empty.
    ///
    /// # Errors
    /// If the connection is gone or the switch refuses.
    pub async fn next(&mut self) -> Result<Option<Vec<FlowStats>>, ClientError> {
        match self.parts.next().await? {
            None => Ok(None),
            Some((_, MultipartReply::Flow(flows))) => Ok(Some(flows)),
            Some(_) => Err(ClientError::UnexpectedReply),
        }
    }
}
