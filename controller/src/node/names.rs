//! The addresses of the DNS names in EgressNetworkPolicies, as the node's own resolver gives them, kept up to date.
//!
//! When to ask again follows from the answers' TTLs ([`schedule`], which does no I/O); [`Names`] asks.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::ResolveHosts;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use hickory_resolver::system_conf::parse_resolv_conf;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep_until;
use tracing::{debug, info, warn};

use super::inquiry::{Inquiry, publish};
use crate::view::Names as Addresses;
use schedule::{Answer, Schedule};

pub mod schedule;

/// Time for one question to one server.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Questions that are open at the same time.
const AT_ONCE: usize = 16;
/// Key of what was found in the bridge's `external_ids`.
pub const KEY: &str = "egress-dns-names";

/// Who asks; what it is told are names, and what it finds their addresses.
pub type Names = Inquiry<BTreeSet<String>, Addresses>;

/// Starts with the addresses that were known last. `resolv_conf` names the servers; it is read again for every question, as
/// it may change under a running agent.
#[must_use]
pub fn start(resolv_conf: PathBuf, known: Addresses) -> Names {
    let resolver = Resolver { resolv_conf, made: None };
    Inquiry::start(known.clone(), |wants, found| run(Schedule::knowing(known), resolver, wants, found))
}

async fn run(
    mut schedule: Schedule,
    mut resolver: Resolver,
    mut wants: watch::Receiver<BTreeSet<String>>,
    found: watch::Sender<Arc<Addresses>>,
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
        publish(&found, schedule.addresses());
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
