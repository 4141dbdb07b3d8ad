//! Whether the server serves the database: what the database `_server` says (ovsdb-server(5)), where there is one.

use std::sync::Arc;

use serde::de::DeserializeSeed;
use serde_json::value::RawValue;

use super::{Core, Pending, SessionError};
use crate::monitor::Monitored;
use crate::replica::{Form, Layout, Replica, UpdatesSeed};

/// Names our monitor of `_server`.
pub(super) const ID: &str = "_server";

/// The columns in use, which every `_server` has had since there is one (2.9).
const SCHEMA: &str = r#"{"name": "_server", "version": "1.0.0", "tables": {"Database": {"columns": {
    "name": {"type": "string"}, "model": {"type": "string"},
    "connected": {"type": "boolean"}, "leader": {"type": "boolean"}}}}}"#;

impl Core {
    /// Asks to be told of a schema change instead of being cut off, and what the server serves. Older servers refuse
    /// both, which does no harm.
    pub(super) fn ask_about_serving(&mut self) {
        self.request("set_db_change_aware", &[true], Pending::Aside);
        let columns = ["connected", "leader", "model", "name"];
        let tables = serde_json::json!({"Database": [{"columns": columns}]});
        self.request("monitor_cond", &("_server", ID, tables), Pending::Serving);
    }

    pub(super) fn handle_serving(
        &mut self,
        result: Result<&RawValue, &RawValue>,
    ) -> Result<(), SessionError> {
        let Ok(result) = result else { return Ok(()) };
        let Ok(schema) = serde_json::from_str(SCHEMA) else { return Ok(()) };
        let layout = Arc::new(Layout::new(&schema, &Monitored::new().all_columns("Database")));
        let mut server = Replica::empty(layout.clone());
        let updates = UpdatesSeed { layout: &layout, form: Form::V2 }
            .deserialize(&mut serde_json::Deserializer::from_str(result.get()))
            .map_err(|error| SessionError::Message(error.to_string()))?;
        server.resync(layout, updates)?;
        self.server = Some(server);
        self.check_serving()
    }

    /// An update of `_server`.
    pub(super) fn handle_serving_update(
        &mut self,
        updates: crate::replica::Updates,
    ) -> Result<(), SessionError> {
        if let Some(server) = &mut self.server {
            server.apply(updates)?;
        }
        self.check_serving()
    }

    pub(super) fn serving_layout(&self) -> Option<Arc<Layout>> {
        self.server.as_ref().map(|server| server.layout().clone())
    }

    /// A member of a cluster that lost touch with it has only old data; one that is not the leader can't commit by
    /// itself.
    fn check_serving(&self) -> Result<(), SessionError> {
        let database = self.config.database.as_str();
        let Some(row) = self.server.as_ref().and_then(|server| server.named("Database", database)) else {
            return Ok(());
        };
        let no = |what: &'static str| Err(SessionError::NotServing { database: database.to_owned(), what });
        match (row.str("model"), row.bool("connected"), row.bool("leader")) {
            (Some("clustered"), Some(false), _) => no("has lost touch with its cluster"),
            (Some("clustered"), _, Some(false)) if self.config.leader_only => no("is not its leader"),
            _ => Ok(()),
        }
    }
}
