//! `sdnctl join-projects`, `isolate-projects` and `make-projects-global`: which namespaces may talk to which, as `oc adm
//! pod-network` does it: by an annotation of the NetNamespace, which the controller removes when it is done.

mod selector;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

use anyhow::{Context, bail};
use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::core::SelectorExt;
use serde_json::json;
use tokio::time::Instant;

use super::output::print;
use super::target::ClusterArgs;
use super::{Exit, WrongUse};
use crate::allocator::ChangeNetwork;
use crate::api::{
    CHANGE_NETWORK_ANNOTATION, CLUSTER_NETWORK_NAME, ClusterNetwork, GLOBAL_NAMESPACE, Kind, NetNamespace,
    NetworkConfig, PluginMode, Vnid,
};
use crate::cluster::dir::{self, DirWriter};
use crate::cluster::{ClusterLocation, kube as api_server};

/// How long the controller has, as with the original.
const PATIENCE: Duration = Duration::from_secs(14);

/// Pauses between two looks: the first, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Which projects
#[derive(Debug, clap::Args)]
struct ProjectArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Names of the projects (namespaces)
    #[arg(value_name = "PROJECT")]
    projects: Vec<String>,
    /// Instead of names: labels of the projects, as `env=prod,tier in (a,b)`
    #[arg(long, short = 'l')]
    selector: Option<String>,
}

/// Let the pods of projects reach those of another and be reached: they share its VNID
#[derive(Debug, clap::Args)]
pub struct JoinArgs {
    #[command(flatten)]
    projects: ProjectArgs,
    /// The project that they join
    #[arg(long, value_name = "PROJECT")]
    to: String,
}

/// Give projects a VNID of their own again
#[derive(Debug, clap::Args)]
pub struct IsolateArgs {
    #[command(flatten)]
    projects: ProjectArgs,
}

/// Let the pods of projects reach every pod and be reached by every pod
#[derive(Debug, clap::Args)]
pub struct GlobalArgs {
    #[command(flatten)]
    projects: ProjectArgs,
}

/// Runs `sdnctl join-projects`.
///
/// # Errors
/// As [`isolate`].
pub async fn join(args: JoinArgs) -> anyhow::Result<Exit> {
    args.projects.request(ChangeNetwork::Join(args.to)).await
}

/// Runs `sdnctl isolate-projects`.
///
/// # Errors
/// The plugin is not multitenant, a project is missing or must stay as it is, or the controller does not do it in time.
pub async fn isolate(args: IsolateArgs) -> anyhow::Result<Exit> {
    args.projects.request(ChangeNetwork::Isolate).await
}

/// Runs `sdnctl make-projects-global`.
///
/// # Errors
/// As [`isolate`].
pub async fn make_global(args: GlobalArgs) -> anyhow::Result<Exit> {
    args.projects.request(ChangeNetwork::Global).await
}

impl ProjectArgs {
    async fn request(self, request: ChangeNetwork) -> anyhow::Result<Exit> {
        let selector = match (&self.selector, self.projects.is_empty()) {
            (Some(text), true) => Some(selector::parse(text).map_err(WrongUse)?),
            (None, false) => None,
            _ => return Err(WrongUse("name the projects, or give a --selector, not both".to_owned()).into()),
        };
        let cluster = Cluster::open(&self.cluster.location()?).await?;
        let namespaces = cluster.namespaces().await?;
        let mut projects: Vec<String> = match &selector {
            Some(selector) => {
                let matching = namespaces.iter().filter(|(_, labels)| selector.matches(labels));
                matching.map(|(name, _)| name.clone()).collect()
            }
            None => self.projects.clone(),
        };
        projects.sort();
        projects.dedup();
        let selected = projects.len();
        if let ChangeNetwork::Join(to) = &request {
            projects.retain(|project| project != to);
        }

        // All that is wrong at once, before anything is changed.
        let mut wrong = Vec::new();
        if let Err(error) = cluster.plugin().await {
            wrong.push(crate::describe(&error));
        }
        let target = match &request {
            ChangeNetwork::Join(to) => Some(to),
            _ => None,
        };
        for missing in projects.iter().chain(target).filter(|name| !namespaces.contains_key(*name)) {
            wrong.push(format!("there is no project {missing}"));
        }
        let global = projects.iter().any(|project| project == GLOBAL_NAMESPACE);
        if global && request != ChangeNetwork::Global {
            wrong.push(format!("project {GLOBAL_NAMESPACE} is always global"));
        }
        if !wrong.is_empty() {
            bail!("{}", wrong.join("; "));
        }
        if selected == 0 {
            bail!("no project is selected");
        }
        if let (Some(to), true) = (target, projects.is_empty()) {
            // Who joins itself shares its own VNID already.
            print(&format!("NetNamespace {to}: VNID {}", cluster.net_namespace(to).await?.netid))?;
            return Ok(Exit::Done);
        }
        cluster.carry_out(&request, &projects).await
    }
}

/// Where the projects are.
enum Cluster {
    Dir(std::path::PathBuf),
    Kube(Client),
}

impl Cluster {
    async fn open(location: &ClusterLocation) -> anyhow::Result<Self> {
        Ok(match location {
            ClusterLocation::Dir(dir) => Self::Dir(dir.clone()),
            ClusterLocation::Kube => Self::Kube(api_server::connect().await?),
        })
    }

    /// The namespaces and their labels.
    async fn namespaces(&self) -> anyhow::Result<BTreeMap<String, BTreeMap<String, String>>> {
        let namespaces: Vec<Namespace> = match self {
            Self::Dir(dir) => {
                dir::load(dir)?.namespaces.values().map(|namespace| namespace.as_ref().clone()).collect()
            }
            Self::Kube(client) => {
                let list = Api::<Namespace>::all(client.clone()).list(&ListParams::default()).await;
                list.context("can't list the namespaces")?.items
            }
        };
        let labels = |namespace: Namespace| {
            (namespace.metadata.name.unwrap_or_default(), namespace.metadata.labels.unwrap_or_default())
        };
        Ok(namespaces.into_iter().map(labels).collect())
    }

    /// That the plugin is the one with tenants.
    async fn plugin(&self) -> anyhow::Result<()> {
        let network = match self {
            Self::Dir(dir) => dir::load(dir)?.cluster_network.map(|network| (*network).clone()),
            Self::Kube(client) => {
                let found = Api::<ClusterNetwork>::all(client.clone()).get_opt(CLUSTER_NETWORK_NAME).await;
                found.context("can't read ClusterNetwork default")?
            }
        };
        let network = network.context("there is no ClusterNetwork default")?;
        let plugin = NetworkConfig::try_from(&network)?.plugin;
        if plugin != PluginMode::Multitenant {
            bail!(
                "this needs the plugin {}, and the cluster has {}",
                PluginMode::Multitenant.plugin_name(),
                plugin.plugin_name()
            );
        }
        Ok(())
    }

    async fn net_namespace(&self, name: &str) -> anyhow::Result<NetNamespace> {
        let found = match self {
            Self::Dir(dir) => dir::load(dir)?.net_namespaces.get(name).map(|object| (**object).clone()),
            Self::Kube(client) => Api::<NetNamespace>::all(client.clone()).get_opt(name).await?,
        };
        found.with_context(|| format!("there is no NetNamespace {name} yet: is an sdn-controller running?"))
    }

    async fn annotate(&self, name: &str, request: &ChangeNetwork) -> anyhow::Result<()> {
        let patch = json!({"metadata": {"annotations": {CHANGE_NETWORK_ANNOTATION: request.to_string()}}});
        match self {
            Self::Dir(dir) => {
                DirWriter::new(dir).merge_patch(Kind::NetNamespace, None, name, &patch)?;
            }
            Self::Kube(client) => {
                let api = Api::<NetNamespace>::all(client.clone());
                api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
            }
        }
        Ok(())
    }

    /// Asks for each, and waits until each is done. What fails for one does not hold up the others.
    async fn carry_out(&self, request: &ChangeNetwork, projects: &[String]) -> anyhow::Result<Exit> {
        let mut failures = Vec::new();
        let mut fail = |project: &str, error: &dyn Display| failures.push(format!("{project}: {error}"));
        let mut waiting = Vec::new();
        for project in projects {
            let asked = match self.net_namespace(project).await {
                Ok(_) => self.annotate(project, request).await,
                Err(error) => Err(error),
            };
            match asked {
                Ok(()) => waiting.push(project.as_str()),
                Err(error) => fail(project, &crate::describe(&error)),
            }
        }
        let deadline = Instant::now() + PATIENCE;
        let mut pause = PAUSE.0;
        while !waiting.is_empty() {
            let mut left = Vec::new();
            for project in waiting {
                match self.net_namespace(project).await {
                    Ok(object) if is_asking(&object) => left.push(project),
                    Ok(object) => match self.check(request, &object).await {
                        Ok(()) => print(&format!("NetNamespace {project}: VNID {}", object.netid))?,
                        Err(error) => fail(project, &crate::describe(&error)),
                    },
                    Err(error) => fail(project, &crate::describe(&error)),
                }
            }
            waiting = left;
            if !waiting.is_empty() && Instant::now() >= deadline {
                for project in waiting.drain(..) {
                    fail(
                        project,
                        &format!(
                            "not done within {PATIENCE:?}: is an sdn-controller running? If it is, an event of NetNamespace {project} \
                             says what is in the way"
                        ),
                    );
                }
            }
            if !waiting.is_empty() {
                tokio::time::sleep(pause).await;
                pause = pause.mul_f64(1.5).min(PAUSE.1);
            }
        }
        if !failures.is_empty() {
            bail!("{}", failures.join("; "));
        }
        Ok(Exit::Done)
    }

    /// That the VNID is what was asked for: the annotation also goes when the request is refused.
    async fn check(&self, request: &ChangeNetwork, object: &NetNamespace) -> anyhow::Result<()> {
        let vnid = object.netid;
        let met = match request {
            ChangeNetwork::Global => vnid == Vnid::GLOBAL.get(),
            ChangeNetwork::Isolate => vnid >= Vnid::FIRST_ALLOCATABLE.get(),
            ChangeNetwork::Join(to) => vnid == self.net_namespace(to).await?.netid,
        };
        if !met {
            bail!(
                "its VNID is {vnid}, which is not what was asked for: somebody changed it, or refused the request"
            );
        }
        Ok(())
    }
}

fn is_asking(object: &NetNamespace) -> bool {
    let annotations = object.metadata.annotations.as_ref();
    annotations.is_some_and(|annotations| annotations.contains_key(CHANGE_NETWORK_ANNOTATION))
}
