//! Cluster state from a Kubernetes API server.
//!
//! [`KubeSource`] watches every kind that its reader is interested in. A kind that must be listed anew (the first time, or
//! after the API server forgot where the watch was) replaces the old picture at once when the list is complete, never bit
//! by bit. Objects are reduced at the edge to the fields that this system reads, so that memory grows with what is used.

pub mod events;
mod picture;

use std::path::PathBuf;
use std::time::Duration;

use futures::Stream;
use futures::stream::{StreamExt, select_all};
use kube::api::{Api, ApiResource, DynamicObject, ListParams};
use kube::config::Kubeconfig;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watcher};
use kube::{Client, Config};
use std::sync::Arc;
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

use self::picture::Picture;
use super::{ClusterState, Snapshot};
use crate::api::{Kind, crd};

/// Pauses between attempts to reach the API server: the first, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// Longest wait for an answer. A watch is silent for as long as nothing changes: it ends itself before this.
const ANSWER: Duration = Duration::from_secs(60);

/// Seconds after which a watch ends and begins anew where it was, so that a dead connection does not go unseen.
const WATCH_SECONDS: u32 = 50;

/// Which objects a program reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Those that a node's agent reads: of the pods only its own.
    Node(String),
    /// Those that the cluster controller reads.
    Controller,
    /// All kinds.
    All,
}

impl Interest {
    /// The kinds, each with a field selector if only some objects are of interest.
    fn kinds(&self) -> Vec<(Kind, Option<String>)> {
        use Kind::{
            ClusterNetwork, EgressNetworkPolicy, HostSubnet, Namespace, NetNamespace, Node, Pod, Service,
        };
        let all = |kinds: &[Kind]| kinds.iter().map(|kind| (*kind, None)).collect::<Vec<_>>();
        match self {
            Self::All => all(&Kind::ALL),
            Self::Controller => all(&[ClusterNetwork, HostSubnet, NetNamespace, Node, Namespace]),
            Self::Node(name) => {
                let mut kinds =
                    all(&[ClusterNetwork, HostSubnet, NetNamespace, EgressNetworkPolicy, Service]);
                kinds.push((Pod, Some(format!("spec.nodeName={name}"))));
                kinds
            }
        }
    }
}

/// The API server can't be used at all.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KubeError {
    /// Nothing says where it is.
    #[error(
        "no API server is configured: run inside a pod with a ServiceAccount, or set KUBECONFIG to a kubeconfig file"
    )]
    NotConfigured(#[source] kube::config::InferConfigError),
    /// Its credentials can't be used.
    #[error("the credentials for the API server can't be used")]
    Credentials(#[source] Box<kube::Error>),
    /// It refused or did not answer.
    #[error("can't list {kind}: {}", advice(*.kind, .source))]
    List {
        /// The kind that was asked for.
        kind: Kind,
        /// What came instead.
        source: Box<kube::Error>,
    },
}

/// What a failure to list or watch means for whoever runs this.
fn advice(kind: Kind, error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.code == 404 && crd::KINDS.contains(&kind) => {
            format!("the API server does not know {}: install manifests/base/crds", kind.plural())
        }
        kube::Error::Api(status) if status.code == 403 => {
            format!("not allowed ({}): install the ClusterRoles of manifests/base", status.message)
        }
        error => crate::causes(error),
    }
}

/// A connection to the API server that the environment names: `KUBECONFIG` or `~/.kube/config`, or the pod's account.
///
/// A token and a certificate authority that are files are read again within a minute after they were replaced, as the kubelet
/// does long before the old ones are no longer accepted. A client certificate of a kubeconfig is read at the start only.
///
/// # Errors
/// There is none, or its credentials can't be used. Whether it answers is not tried.
pub async fn connect() -> Result<Client, KubeError> {
    let mut config = Config::infer().await.map_err(KubeError::NotConfigured)?;
    // The pod's account has one; for a kubeconfig's the client does not see to it.
    config.root_cert_file = config.root_cert_file.or_else(authority_file);
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(ANSWER);
    config.write_timeout = Some(ANSWER);
    Client::try_from(config).map_err(|error| KubeError::Credentials(Box::new(error)))
}

/// The file with the certificate authority that the kubeconfig in use names, if its text is not in the kubeconfig itself.
fn authority_file() -> Option<PathBuf> {
    let file = Kubeconfig::read().ok()?;
    let current = file.current_context?;
    let context = file.contexts.into_iter().find(|context| context.name == current)?.context?;
    let cluster = file.clusters.into_iter().find(|cluster| cluster.name == context.cluster)?.cluster?;
    cluster.certificate_authority.filter(|_| cluster.certificate_authority_data.is_none()).map(PathBuf::from)
}

/// The resource of a kind.
pub fn resource(kind: Kind) -> ApiResource {
    let api_version = kind.api_version();
    let version = api_version.rsplit('/').next().unwrap_or_default();
    ApiResource {
        group: kind.group().to_owned(),
        version: version.to_owned(),
        api_version: api_version.to_owned(),
        kind: kind.as_str().to_owned(),
        plural: kind.plural().to_owned(),
    }
}

/// Lists every object once.
///
/// # Errors
/// The API server refuses, or does not answer.
pub async fn load(client: &Client) -> Result<ClusterState, KubeError> {
    let mut picture = Picture::new(Kind::ALL);
    for kind in Kind::ALL {
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource(kind));
        let list = api.list(&ListParams::default()).await;
        let list = list.map_err(|error| KubeError::List { kind, source: Box::new(error) })?;
        picture.apply(kind, watcher::Event::Init);
        list.items.into_iter().for_each(|object| picture.apply(kind, watcher::Event::InitApply(object)));
        picture.apply(kind, watcher::Event::InitDone);
    }
    Ok(picture.into_state())
}

/// The objects of an API server, watched.
pub struct KubeSource {
    client: Client,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    task: JoinHandle<()>,
}

impl KubeSource {
    /// Starts to watch; returns when the first picture is complete. An API server that does not answer is waited for.
    pub async fn open(client: &Client, interest: &Interest) -> Self {
        let kinds = interest.kinds();
        let picture = Picture::new(kinds.iter().map(|(kind, _)| *kind));
        let (sender, mut snapshots) = watch::channel(None);
        let streams =
            select_all(kinds.into_iter().map(|(kind, fields)| events(client, kind, fields).boxed()));
        let (newest, receiver) = watch::channel(Arc::new(Snapshot::default()));
        let task = tokio::spawn(follow(picture, streams, sender, newest));
        // The sender lives as long as the task, which ends only with this source.
        let _ = snapshots.wait_for(Option::is_some).await;
        Self { client: client.clone(), snapshots: receiver, task }
    }

    /// The connection that it watches through.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The newest picture now and after each change. The channel closes when the source is dropped.
    pub fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.clone()
    }
}

impl std::fmt::Debug for KubeSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubeSource").field("snapshots", &self.snapshots).finish_non_exhaustive()
    }
}

impl Drop for KubeSource {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What happens to the objects of one kind, without end: after a failure the watch begins anew.
fn events(
    client: &Client,
    kind: Kind,
    fields: Option<String>,
) -> impl Stream<Item = (Kind, Result<watcher::Event<DynamicObject>, watcher::Error>)> + Send + use<> {
    let mut config = watcher::Config::default().timeout(WATCH_SECONDS);
    config.field_selector = fields;
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource(kind));
    watcher(api, config).backoff(Pauses::default()).map(move |event| (kind, event))
}

/// Pauses between attempts: twice as long each time, and not the same for everybody who lost the same API server.
#[derive(Default)]
struct Pauses(u32);

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let pause = RETRY.0.saturating_mul(1 << self.0.min(16)).min(RETRY.1);
        self.0 = self.0.saturating_add(1);
        Some(pause.mul_f64(0.5 + rand::random::<f64>() / 2.0))
    }
}

impl kube::runtime::utils::Backoff for Pauses {
    fn reset(&mut self) {
        self.0 = 0;
    }
}

/// Keeps the picture, and shows it after every burst of changes once it is whole. The first change to a table that has been
/// shown copies it, which in a large cluster takes milliseconds: while changes come in without a pause that may take half of the
/// time, and no more.
async fn follow<S>(
    mut picture: Picture,
    mut events: S,
    whole: watch::Sender<Option<()>>,
    newest: watch::Sender<Arc<Snapshot>>,
) where
    S: Stream<Item = (Kind, Result<watcher::Event<DynamicObject>, watcher::Error>)> + Unpin,
{
    let mut not_before = Instant::now();
    while let Some(event) = events.next().await {
        let mut event = Some(event);
        let mut busy = Duration::ZERO;
        // Whatever else has come in meanwhile, or comes in as long as the last copy is paid for, belongs to the same picture.
        while let Some((kind, result)) = event.take() {
            let began = Instant::now();
            match result {
                Ok(change) => {
                    if picture.recovered(kind) {
                        info!("{} are watched again", kind.plural());
                    }
                    picture.apply(kind, change);
                }
                Err(error) => {
                    let text = explain(kind, &error);
                    if picture.failed(kind, &text) {
                        warn!("{} are not watched now: {text}", kind.plural());
                    }
                }
            }
            busy += began.elapsed();
            event = timeout_at(not_before, events.next()).await.ok().flatten();
        }
        if let Some(snapshot) = picture.take_change() {
            newest.send_replace(Arc::new(snapshot));
            whole.send_replace(Some(()));
            not_before = Instant::now() + busy;
        }
    }
}

fn explain(kind: Kind, error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => advice(kind, error),
        error => crate::causes(error),
    }
}
