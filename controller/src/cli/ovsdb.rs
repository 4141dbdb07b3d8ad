//! `sdnctl ovsdb`: an OVSDB server by hand, through our own client.

use anyhow::{Context, bail};
use ovsdb::{Client, ClientEvent, Endpoint, Monitored, Options, Tls, text};
use serde_json::Value;

use super::output::print;
use super::tls::TlsArgs;
use super::{Exit, WrongUse};

/// OVSDB: transactions, dumps, changes as they come
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The server: unix:PATH, tcp:HOST:PORT or ssl:HOST:PORT
    #[arg(long, global = true, value_name = "SERVER", default_value = "unix:/var/run/openvswitch/db.sock")]
    db: Endpoint,
    #[command(flatten)]
    tls: TlsArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Run a transaction and print the reply; exit status 1 if an operation failed
    Transact {
        /// The database, for example Open_vSwitch
        database: String,
        /// The operations, a JSON array as in RFC 7047 section 4.1.3, without the database's name
        operations: String,
    },
    /// Print a database, or one table of it, as ovsdb-client dump does
    Dump {
        /// The database
        database: String,
        /// Only this table
        table: Option<String>,
    },
    /// Print the rows of a table, then each change until interrupted
    Monitor {
        /// The database
        database: String,
        /// The table
        table: String,
    },
}

/// Runs `sdnctl ovsdb`.
///
/// # Errors
/// When the server does not answer or there is no such database or table.
pub async fn run(args: Args) -> anyhow::Result<Exit> {
    let server = Server { endpoint: args.db, tls: args.tls };
    match args.command {
        Command::Transact { database, operations } => transact(&server, &database, &operations).await,
        Command::Dump { database, table } => {
            let monitored = match &table {
                Some(table) => Monitored::new().all_columns(table),
                None => Monitored::everything(),
            };
            let client = server.connect(&database, monitored).await?;
            if let Some(table) = &table {
                expect_table(&client, table)?;
            }
            print(&text::dump(&client.replica(), table.as_deref()))?;
            Ok(Exit::Done)
        }
        Command::Monitor { database, table } => monitor(&server, &database, &table).await,
    }
}

/// Where the server is, and how it is reached.
struct Server {
    endpoint: Endpoint,
    tls: TlsArgs,
}

impl Server {
    async fn connect(&self, database: &str, monitored: Monitored) -> anyhow::Result<Client> {
        let files = self.tls.files(matches!(self.endpoint, Endpoint::Tls { .. }))?;
        let mut options = Options::new([self.endpoint.clone()], database, monitored);
        if let Some(files) = files {
            options.tls = Some(Tls::from_files(files.private_key, files.certificate, files.ca_cert)?);
        }
        Ok(Client::connect_with(options).await?)
    }
}

/// Says so if the database has no such table: its replica would merely be empty, and nothing would ever happen in it.
fn expect_table(client: &Client, table: &str) -> anyhow::Result<()> {
    let Some(schema) = client.schema() else { return Ok(()) };
    if !schema.tables.contains_key(table) {
        let known: Vec<&str> = schema.tables.keys().map(String::as_str).collect();
        bail!("database {} has no table {table}; it has {}", schema.name, known.join(", "));
    }
    Ok(())
}

async fn transact(server: &Server, database: &str, operations: &str) -> anyhow::Result<Exit> {
    let operations: Value = serde_json::from_str(operations)
        .map_err(|error| WrongUse(format!("OPERATIONS is no JSON: {error}")))?;
    let Value::Array(operations) = operations else {
        return Err(WrongUse("OPERATIONS is no JSON array".to_owned()).into());
    };
    let client = server.connect(database, Monitored::new()).await?;
    let parameters: Vec<Value> = [Value::from(database)].into_iter().chain(operations).collect();
    let reply = client.call("transact", &parameters).await?;
    print(reply.get())?;
    let results: Value = serde_json::from_str(reply.get()).context("the server's reply")?;
    let failed = results.as_array().is_some_and(|results| {
        results.iter().any(|result| result.get("error").is_some_and(|error| !error.is_null()))
    });
    Ok(if failed { Exit::No } else { Exit::Done })
}

async fn monitor(server: &Server, database: &str, table: &str) -> anyhow::Result<Exit> {
    let client = server.connect(database, Monitored::new().all_columns(table)).await?;
    expect_table(&client, table)?;
    let mut events = client.events();
    print(&text::dump(&client.replica(), Some(table)))?;
    loop {
        match events.recv().await {
            Ok(ClientEvent::Changed(changes, _)) => {
                for change in changes.iter() {
                    print(&text::change(change))?;
                }
            }
            Ok(ClientEvent::Connected) => eprintln!("sdnctl: connected again"),
            Ok(ClientEvent::Disconnected) => eprintln!("sdnctl: the server is away; waiting for it"),
            Err(error) => bail!("events were lost: {error}"),
        }
    }
}
