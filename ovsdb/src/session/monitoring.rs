//! The monitor of a session: starting it, its updates, falling back where the server is old.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::de::{self, DeserializeSeed, Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{CallError, Core, Event, Pending, RequestId, SessionError, refused};
use crate::replica::{Form, Layout, Replica, UpdatesSeed};
use crate::transaction::Condition;
use crate::value::NUL;
use crate::value::{Uuid, UuidText};

/// The three generations of monitors, the newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Method {
    /// ovsdb-server(7), since 2.12: resumes after the last transaction seen.
    #[default]
    CondSince,
    /// ovsdb-server(7), since 2.6: differences, conditions.
    Cond,
    /// RFC 7047 §4.1.5.
    Plain,
}

impl Method {
    pub(super) const BEST: Method = Method::CondSince;

    fn name(self) -> &'static str {
        match self {
            Method::CondSince => "monitor_cond_since",
            Method::Cond => "monitor_cond",
            Method::Plain => "monitor",
        }
    }

    fn form(self) -> Form {
        match self {
            Method::CondSince | Method::Cond => Form::V2,
            Method::Plain => Form::V1,
        }
    }

    fn older(self) -> Option<Method> {
        match self {
            Method::CondSince => Some(Method::Cond),
            Method::Cond => Some(Method::Plain),
            Method::Plain => None,
        }
    }
}

/// The state of the monitor.
#[derive(Debug, Default)]
pub(super) struct Monitoring {
    method: Method,
    /// Names the monitor; a new one for each attempt, so that late updates of an earlier one are recognized.
    id: String,
    attempts: u64,
    layout: Option<Arc<Layout>>,
    /// The reply has come.
    running: bool,
}

impl Monitoring {
    pub(super) fn is_running(&self) -> bool {
        self.running
    }
}

/// `<monitor-request>` with the `where` of ovsdb-server(7).
#[derive(Serialize)]
struct Request<'a> {
    columns: Vec<&'a str>,
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    conditions: Option<&'a [Condition]>,
}

impl Core {
    /// Starts the monitor in the given form, with what the schema has of what is wanted.
    pub(super) fn start_monitor(&mut self, method: Method) {
        let Some(schema) = &self.schema else { return };
        let config = self.config.clone();
        let layout = Layout::new(schema, &config.monitored);
        // The same layout as before keeps old rows comparable, and their names shared.
        let layout =
            if layout == **self.replica.layout() { self.replica.layout().clone() } else { Arc::new(layout) };
        let attempts = self.monitoring.attempts.wrapping_add(1);
        let id = format!("{}-{attempts}", config.database);
        let requests: BTreeMap<&str, [Request<'_>; 1]> = layout
            .tables()
            .iter()
            .map(|table| {
                let wanted = config.monitored.wanted(&table.name);
                let conditions =
                    wanted.and_then(|wanted| wanted.conditions()).filter(|_| method != Method::Plain);
                (&*table.name, [Request { columns: table.column_names().collect(), conditions }])
            })
            .collect();
        let pending = Pending::Monitor(method);
        match method {
            Method::CondSince => {
                // A replica of another layout is no basis for differences.
                let known =
                    self.replica.last_transaction().filter(|_| Arc::ptr_eq(&layout, self.replica.layout()));
                let known = known.unwrap_or(Uuid::ZERO).to_string();
                self.request(method.name(), &(&config.database, &id, &requests, known), pending)
            }
            _ => self.request(method.name(), &(&config.database, &id, &requests), pending),
        };
        self.monitoring = Monitoring { method, id, attempts, layout: Some(layout.clone()), running: false };
    }

    pub(super) fn handle_monitor_reply(
        &mut self,
        method: Method,
        result: Result<&RawValue, &RawValue>,
    ) -> Result<(), SessionError> {
        let result = match (result, method.older()) {
            (Ok(result), _) => result,
            (Err(error), Some(older)) if error.get().contains("unknown method") => {
                tracing::debug!(method = method.name(), "the server is older: falling back");
                self.start_monitor(older);
                return Ok(());
            }
            (Err(error), _) => return Err(refused(method.name(), error)),
        };
        let Some(layout) = self.monitoring.layout.clone() else { return Ok(()) };
        let seed = UpdatesSeed { layout: &layout, form: method.form() };
        let mut json = serde_json::Deserializer::from_str(result.get());
        let (resumed, transaction, updates) = match method {
            Method::CondSince => {
                let since = Tuple(seed).deserialize(&mut json).map_err(not_understood)?;
                (since.found, since.transaction, since.updates)
            }
            _ => (false, None, seed.deserialize(&mut json).map_err(not_understood)?),
        };
        self.change(|replica| {
            let changes = if resumed { replica.apply(updates) } else { replica.resync(layout, updates) }?;
            replica.set_last_transaction(transaction);
            Ok(changes)
        })
        .map(|changes| {
            self.monitoring.running = true;
            self.events.push_back(Event::Synced { changes, resumed });
        })
    }

    pub(super) fn handle_notification(
        &mut self,
        method: &str,
        params: &RawValue,
    ) -> Result<(), SessionError> {
        let (form, head) = match method {
            "update" => (Form::V1, 1),
            "update2" => (Form::V2, 1),
            "update3" => (Form::V2, 2),
            "monitor_canceled" => return self.handle_canceled(params),
            "locked" | "stolen" => {
                let (lock,): (String,) = serde_json::from_str(params.get()).map_err(not_understood)?;
                self.events.push_back(Event::Lock { lock, held: method == "locked" });
                return Ok(());
            }
            _ => {
                tracing::debug!(method, "notification ignored");
                return Ok(());
            }
        };
        if let (Form::V2, 1, Some(layout)) = (form, head, self.serving_layout()) {
            let seed = UpdatesSeed { layout: &layout, form };
            let mut json = serde_json::Deserializer::from_str(params.get());
            let named = Named { id: super::serving::ID, head, seed };
            if let Some(update) = named.deserialize(&mut json).map_err(not_understood)? {
                return self.handle_serving_update(update.updates);
            }
        }
        let (id, layout) = (self.monitoring.id.clone(), self.monitoring.layout.clone());
        let Some(layout) =
            layout.filter(|_| self.monitoring.running && form == self.monitoring.method.form())
        else {
            return Err(SessionError::Message(format!("{method} although no such monitor runs")));
        };
        let seed = UpdatesSeed { layout: &layout, form };
        let mut json = serde_json::Deserializer::from_str(params.get());
        let update = Named { id: &id, head, seed }.deserialize(&mut json).map_err(not_understood)?;
        let Some(Since { transaction, updates, .. }) = update else {
            tracing::debug!(method, "update of another monitor ignored");
            return Ok(());
        };
        let changes = self.change(|replica| {
            let changes = replica.apply(updates)?;
            if head == 2 {
                replica.set_last_transaction(transaction);
            }
            Ok(changes)
        })?;
        if !changes.is_empty() {
            self.events.push_back(Event::Changed(changes));
        }
        Ok(())
    }

    /// ovsdb-server(7), "monitor_canceled": the database went away or its schema changes. Starts again with the schema.
    fn handle_canceled(&mut self, params: &RawValue) -> Result<(), SessionError> {
        let (id,): (String,) = serde_json::from_str(params.get()).map_err(not_understood)?;
        // Said again while the next monitor is on its way it means nothing.
        if id == self.monitoring.id && self.monitoring.running {
            self.monitoring.running = false;
            self.ask_for_schema();
        }
        Ok(())
    }

    /// Changes the conditions of one table. The server sends what the change makes visible or hides before it answers.
    pub(super) fn change_conditions(
        &mut self,
        table: &str,
        conditions: Option<Vec<Condition>>,
    ) -> Option<RequestId> {
        let known = self.monitoring.layout.as_ref()?.position(table).is_some();
        if !known || !self.monitoring.running || self.monitoring.method == Method::Plain {
            return None;
        }
        #[derive(Serialize)]
        struct Change<'a> {
            #[serde(rename = "where")]
            conditions: &'a [Condition],
        }
        let id = self.monitoring.id.clone();
        let all = [Condition::Always(true)];
        let change = Change { conditions: conditions.as_deref().unwrap_or(&all) };
        let changes = BTreeMap::from([(table, [change])]);
        let pending = Pending::Conditions(table.to_owned(), conditions.clone());
        Some(self.request_or("monitor_cond_change", &(&id, &id, changes), pending, |id| {
            Event::ConditionsSet(id, Err(CallError::Impossible(NUL.to_owned())))
        }))
    }

    /// Nothing can be resumed from the replica as it is.
    pub(super) fn forget_last_transaction(&mut self) {
        let mut same = (*self.replica).clone();
        same.set_last_transaction(None);
        self.replica = Arc::new(same);
    }

    /// Makes the next replica. After an error the old one stays, but is no basis for a resume any more.
    fn change<T>(
        &mut self,
        change: impl FnOnce(&mut Replica) -> Result<T, crate::replica::ReplicaError>,
    ) -> Result<T, SessionError> {
        let mut next = (*self.replica).clone();
        let done = change(&mut next);
        match done {
            Ok(done) => {
                next.set_generation(self.replica.generation().wrapping_add(1));
                self.replica = Arc::new(next);
                Ok(done)
            }
            Err(error) => {
                self.forget_last_transaction();
                Err(error.into())
            }
        }
    }
}

fn not_understood(error: serde_json::Error) -> SessionError {
    SessionError::Message(error.to_string())
}

/// What comes with updates.
struct Since {
    found: bool,
    transaction: Option<Uuid>,
    updates: crate::replica::Updates,
}

/// `[found, last-txn-id, updates2]`, the reply to `monitor_cond_since`.
struct Tuple<'l>(UpdatesSeed<'l>);

/// `[monitor id, updates]` or `[monitor id, last-txn-id, updates2]`; `None` if the monitor is another one.
struct Named<'l> {
    id: &'l str,
    head: u8,
    seed: UpdatesSeed<'l>,
}

fn missing<E: de::Error>() -> E {
    E::custom("the array is too short")
}

impl<'de> DeserializeSeed<'de> for Tuple<'_> {
    type Value = Since;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Since, D::Error> {
        struct Walk<'l>(Tuple<'l>);
        impl<'de> Visitor<'de> for Walk<'_> {
            type Value = Since;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of found, last transaction and updates")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Since, A::Error> {
                let found = seq.next_element()?.ok_or_else(missing)?;
                let UuidText(transaction) = seq.next_element()?.ok_or_else(missing)?;
                let updates = seq.next_element_seed(self.0.0)?.ok_or_else(missing)?;
                let transaction = Some(transaction).filter(|id| *id != Uuid::ZERO);
                Ok(Since { found, transaction, updates })
            }
        }
        deserializer.deserialize_seq(Walk(self))
    }
}

impl<'de> DeserializeSeed<'de> for Named<'_> {
    type Value = Option<Since>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<Since>, D::Error> {
        struct Walk<'l>(Named<'l>);
        impl<'de> Visitor<'de> for Walk<'_> {
            type Value = Option<Since>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of a monitor's id and updates")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Option<Since>, A::Error> {
                let id: &RawValue = seq.next_element()?.ok_or_else(missing)?;
                if serde_json::from_str::<String>(id.get()).ok().as_deref() != Some(self.0.id) {
                    while seq.next_element::<de::IgnoredAny>()?.is_some() {}
                    return Ok(None);
                }
                let mut transaction = None;
                if self.0.head == 2 {
                    let UuidText(id) = seq.next_element()?.ok_or_else(missing)?;
                    transaction = Some(id).filter(|id| *id != Uuid::ZERO);
                }
                let updates = seq.next_element_seed(self.0.seed)?.ok_or_else(missing)?;
                Ok(Some(Since { found: true, transaction, updates }))
            }
        }
        deserializer.deserialize_seq(Walk(self))
    }
}
