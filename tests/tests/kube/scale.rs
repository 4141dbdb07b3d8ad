//! A large cluster on one machine: how long until everybody has a number, and what that takes.

use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use controller::api::Kind;
use controller::cluster::Interest;
use controller::cluster::kube::{KubeSource, resource};
use futures::TryStreamExt;
use kube::Client;
use kube::api::{Api, DynamicObject, ListParams, PostParams};
use serde_json::{Value, json};
use tests::kube::{Caller, ControlPlane};

use super::Test;
use super::agents::Agents;
use super::allocation::{Controller, NETWORK};

pub(crate) const TESTS: &[Test] = &[("scale::a_large_cluster", a_large_cluster)];

/// Nodes, Namespaces and Pods of the whole; `OSDN_SCALE` in the environment says how many percent are made, else ten.
const WHOLE: [usize; 3] = [2_000, 10_000, 50_000];

/// What the whole must keep to: time of allocation and memory of the controller, start and memory of an agent, a namespace's way.
const ALLOCATED: Duration = Duration::from_secs(60);
const CONTROLLER_KIB: u64 = 150 * 1024;
const READY: Duration = Duration::from_secs(5);
const AGENT_KIB: u64 = 80 * 1024;
const ON_ITS_WAY: Duration = Duration::from_millis(50);

/// Requests under way at the same time.
const IN_PARALLEL: usize = 32;

const ACCOUNT: Caller<'static> = Caller::ServiceAccount("openshift-sdn", "sdn");

/// The most memory that a process has had in use, in KiB.
fn most_memory(process: &Child) -> anyhow::Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{}/status", process.id()))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

pub(crate) async fn create(
    client: &Client,
    kind: Kind,
    namespace: Option<&str>,
    objects: Vec<Value>,
) -> anyhow::Result<()> {
    let resource = resource(kind);
    futures::stream::iter(objects.into_iter().map(anyhow::Ok))
        .try_for_each_concurrent(IN_PARALLEL, |mut object| {
            let api: Api<DynamicObject> = match namespace {
                Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
                None => Api::all_with(client.clone(), &resource),
            };
            object["apiVersion"] = json!(kind.api_version());
            object["kind"] = json!(kind.as_str());
            async move {
                api.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
                Ok(())
            }
        })
        .await
}

/// How many objects of a kind there are, without reading them all.
pub(crate) async fn count(client: &Client, kind: Kind) -> anyhow::Result<usize> {
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource(kind));
    let list = api.list(&ListParams::default().limit(1)).await?;
    Ok(list.items.len() + usize::try_from(list.metadata.remaining_item_count.unwrap_or_default())?)
}

fn a_large_cluster(_: &ControlPlane) -> anyhow::Result<()> {
    let percent: usize = std::env::var("OSDN_SCALE").ok().and_then(|text| text.parse().ok()).unwrap_or(10);
    let [nodes, namespaces, pods] = WHOLE.map(|whole| whole * percent / 100);
    // One of its own: what the other tests have left is no part of it.
    let plane = super::install::installed()?;
    plane.apply(
        NETWORK
            .replace("hostSubnetLength: 9", "hostSubnetLength: 7")
            .replace("hostsubnetlength: 9", "hostsubnetlength: 7")
            .as_str(),
    )?;
    let runtime = tokio::runtime::Runtime::new()?;
    let client = runtime.block_on(plane.client(Caller::Admin))?;
    let began = Instant::now();
    runtime.block_on(async {
        let named =
            |prefix: &'static str| move |n: usize| json!({"metadata": {"name": format!("{prefix}{n}")}});
        create(&client, Kind::Namespace, None, (0..namespaces).map(named("tenant-")).collect()).await?;
        let node = |n: usize| {
            let mut node = named("worker-")(n);
            let ip = format!("172.16.{}.{}", n / 250, n % 250 + 1);
            node["status"] = json!({"addresses": [{"type": "InternalIP", "address": ip}]});
            node
        };
        create(&client, Kind::Node, None, (0..nodes).map(node).collect()).await?;
        let pod = |n: usize| {
            let mut pod = named("pod-")(n);
            pod["spec"] = json!({
                "nodeName": format!("worker-{}", n % nodes), "containers": [{"name": "c", "image": "none"}],
            });
            pod
        };
        create(&client, Kind::Pod, Some("tenant-0"), (0..pods).map(pod).collect()).await
    })?;
    println!(
        "{nodes} Nodes, {namespaces} Namespaces and {pods} Pods made in {:.1} s",
        began.elapsed().as_secs_f64()
    );

    let began = Instant::now();
    let controller = Controller::start(&plane, "scale")?;
    runtime.block_on(async {
        loop {
            let (subnets, vnids) =
                (count(&client, Kind::HostSubnet).await?, count(&client, Kind::NetNamespace).await?);
            if subnets >= nodes && vnids >= namespaces {
                return anyhow::Ok(());
            }
            let patience = ALLOCATED * 4;
            ensure!(began.elapsed() < patience, "{subnets} subnets and {vnids} VNIDs after {patience:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })?;
    let (allocated, memory) = (began.elapsed(), most_memory(controller.process())?);
    println!("all allocated in {:.1} s; sdn-controller took {} MiB", allocated.as_secs_f64(), memory / 1024);
    ensure!(allocated < ALLOCATED && memory < CONTROLLER_KIB);

    // A real agent on real Open vSwitch, with tunnels to all of them.
    let agents = Agents::of(&plane, 1)?;
    let ready = agents.knows(0, nodes)?;
    let memory = most_memory(agents.process(0)?)?;
    println!("an agent is ready in {:.2} s; sdn-node took {} MiB", ready.as_secs_f64(), memory / 1024);
    ensure!(ready < READY && memory < AGENT_KIB);
    drop(agents);

    // The same code as in an agent, with an agent's rights.
    let mut times = runtime.block_on(async {
        let agent = plane.client(ACCOUNT).await?;
        let source = KubeSource::open(&agent, &Interest::Node("worker-1".to_owned())).await;
        let mut snapshots = source.watch();
        let mut times = Vec::new();
        for n in 0..25 {
            let name = format!("late-{n}");
            let began = Instant::now();
            create(&client, Kind::Namespace, None, vec![json!({"metadata": {"name": name}})]).await?;
            let seen = snapshots.wait_for(|snapshot| snapshot.state.net_namespaces.contains_key(&name));
            tokio::time::timeout(Duration::from_secs(30), seen).await.context("no VNID")??;
            times.push(began.elapsed());
        }
        anyhow::Ok(times)
    })?;
    times.sort();
    let median = times[times.len() / 2];
    println!("a namespace made -> its VNID at an agent: median {:.1} ms", median.as_secs_f64() * 1e3);
    // A machine that does other things as well is no reason to fail.
    ensure!(median < ON_ITS_WAY * 10, "{times:?}");
    Ok(())
}
