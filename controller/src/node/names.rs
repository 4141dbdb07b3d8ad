//! The addresses of the DNS names in EgressNetworkPolicies, as the node's own resolver gives them, kept up to date.
//!
//! When to ask again follows from the answers' TTLs ([`schedule`], which does no I/O); [`Names`] asks. What was found is
//! kept with the bridge in OVSDB too, so that an agent that starts again has the addresses at once, and the rules about
//! them stay as they are.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::ResolveHosts;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use hickory_resolver::system_conf::parse_resolv_conf;
use ovsdb::ovs::{OvsError, ensure_external_ids};
use ovsdb::{Client, Datum, Replica};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep_until;
use tracing::{debug, info, warn};

use super::ovs::bridge::BRIDGE;
use crate::view::Names as Addresses;
use schedule::{Answer, Schedule};

pub mod schedule;

/// Time for one question to one server.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Questions that are open at the same time.
const AT_ONCE: usize = 16;
/// Key of the bridge's `external_ids`.
const KEY: &str = "egress-dns-names";

/// The running task; it ends when this is dropped.
pub struct Names {
    wanted: watch::Sender<BTreeSet<String>>,
    found: watch::Receiver<Arc<Addresses>>,
    _task: AbortOnDrop,
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Names {
    /// Starts with the addresses that were known last. `resolv_conf` names the servers; it is read again for every
    /// question, as it may change under a running agent.
    #[must_use]
    pub fn start(resolv_conf: PathBuf, known: Addresses) -> Self {
        let (wanted, wants) = watch::channel(BTreeSet::new());
        let (publish, found) = watch::channel(Arc::new(known.clone()));
        let resolver = Resolver { resolv_conf, made: None };
        let task = tokio::spawn(run(Schedule::knowing(known), resolver, wants, publish));
        Self { wanted, found, _task: AbortOnDrop(task) }
    }

    /// Says which names are of interest from now on.
    pub fn want(&self, names: BTreeSet<String>) {
        self.wanted.send_if_modified(|wanted| {
            let changed = *wanted != names;
            *wanted = names;
            changed
        });
    }

    /// The addresses known now.
    pub fn found(&mut self) -> Arc<Addresses> {
        self.found.borrow_and_update().clone()
    }

    /// Resolves when they have changed since [`Names::found`]. Cancel-safe.
    pub async fn changed(&mut self) {
        if self.found.changed().await.is_err() {
            // The task has ended, which it does only when the agent does.
            std::future::pending::<()>().await;
        }
    }
}

async fn run(
    mut schedule: Schedule,
    mut resolver: Resolver,
    mut wants: watch::Receiver<BTreeSet<String>>,
    publish: watch::Sender<Arc<Addresses>>,
) {
    let mut asked: JoinSet<(String, Answer)> = JoinSet::new();
    loop {
        for name in schedule.due(Instant::now(), AT_ONCE.saturating_sub(asked.len())) {
            let resolver = resolver.current();
            asked.spawn(async move {
                let answer = match resolver {
                    Ok(resolver) => ask(&resolver, &name).await,
                    Err(reason) => Answer::Failed(reason),
                };
                (name, answer)
            });
        }
        // Each arm takes what it waited for at once, or only waits: any may be cancelled.
        let next = schedule.next().filter(|_| asked.len() < AT_ONCE);
        tokio::select! {
            changed = wants.changed() => {
                if changed.is_err() {
                    return;
                }
                schedule.want(&wants.borrow_and_update(), Instant::now());
            }
            Some(answer) = asked.join_next() => {
                if let Ok((name, answer)) = answer {
                    note(&schedule, &name, &answer);
                    schedule.answered(&name, answer, Instant::now());
                }
            }
            () = sleep_until(next.unwrap_or_else(Instant::now).into()), if next.is_some() => {}
        }
        let found = schedule.addresses();
        publish.send_if_modified(|published| {
            let changed = **published != found;
            if changed {
                *published = Arc::new(found);
            }
            changed
        });
    }
}

/// One line for what an operator wants to know: new addresses, and the first of several failures.
fn note(schedule: &Schedule, name: &str, answer: &Answer) {
    let before = schedule.known(name);
    match answer {
        Answer::Addresses { addresses, ttl } if before != Some(addresses) => {
            info!(name, ?addresses, ttl = ttl.as_secs(), "addresses of a name in an EgressNetworkPolicy");
        }
        Answer::Addresses { .. } => debug!(name, "addresses unchanged"),
        Answer::None { .. } if before.is_some_and(|known| !known.is_empty()) => {
            warn!(name, "has no addresses any more: the last ones stay in force");
        }
        Answer::None { .. } => debug!(name, "has no addresses"),
        Answer::Failed(reason) if !schedule.is_failing(name) => {
            warn!(name, "could not be resolved, what was known stays in force: {reason}");
        }
        Answer::Failed(reason) => debug!(name, "still not resolved: {reason}"),
    }
}

/// The resolver that the file asks for.
struct Resolver {
    resolv_conf: PathBuf,
    /// Text of the file and what was made of it.
    made: Option<(Vec<u8>, Arc<TokioResolver>)>,
}

impl Resolver {
    fn current(&mut self) -> Result<Arc<TokioResolver>, String> {
        let file = self.resolv_conf.display();
        let text = std::fs::read(&self.resolv_conf).map_err(|error| format!("{file}: {error}"))?;
        if let Some((_, resolver)) = self.made.as_ref().filter(|(of, _)| *of == text) {
            return Ok(Arc::clone(resolver));
        }
        let (config, mut options) = parse_resolv_conf(&text).map_err(|error| format!("{file}: {error}"))?;
        options.timeout = TIMEOUT;
        // The schedule keeps answers as long as they are good; a cache behind it would only make them older.
        options.cache_size = 0;
        // What the node's own hosts file says, pods do not see.
        options.use_hosts_file = ResolveHosts::Never;
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        let resolver = Arc::new(builder.build().map_err(|error| format!("{file}: {error}"))?);
        self.made = Some((text, Arc::clone(&resolver)));
        Ok(resolver)
    }
}

async fn ask(resolver: &TokioResolver, name: &str) -> Answer {
    let asked = Instant::now();
    // With the dot at its end the name is whole: no search domains.
    match resolver.ipv4_lookup(format!("{name}.")).await {
        Ok(lookup) => {
            let address = |data: &RData| match data {
                RData::A(address) => Some(address.0),
                _ => None,
            };
            let addresses: BTreeSet<Ipv4Addr> =
                lookup.answers().iter().filter_map(|record| address(&record.data)).collect();
            let ttl = lookup.valid_until().saturating_duration_since(asked);
            match addresses.is_empty() {
                true => Answer::None { ttl },
                false => Answer::Addresses { addresses, ttl },
            }
        }
        Err(error) if error.is_nx_domain() => Answer::None { ttl: schedule::LONGEST },
        Err(error) => Answer::Failed(error.to_string()),
    }
}

/// What an earlier agent, or the running one, has found.
#[must_use]
pub fn recorded(replica: &Replica) -> Addresses {
    let ids =
        replica.named("Bridge", BRIDGE).and_then(|row| row.get("external_ids").map(Datum::to_string_map));
    let text = ids.and_then(|ids| ids.get(KEY).cloned());
    // What is not ours to read is as good as nothing: the names are asked for again.
    text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

/// Keeps what was found with the bridge.
///
/// # Errors
/// When the database refuses or does not answer.
pub async fn record(client: &Client, found: &Addresses) -> Result<(), OvsError> {
    if recorded(&client.replica()) == *found {
        return Ok(());
    }
    let text =
        Some(found).filter(|found| !found.is_empty()).and_then(|found| serde_json::to_string(found).ok());
    ensure_external_ids(client, "Bridge", BRIDGE, &BTreeMap::from([(KEY.to_owned(), text)])).await
}
