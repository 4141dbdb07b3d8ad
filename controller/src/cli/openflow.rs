//! `sdnctl openflow`: the protocol by hand, and what `ovs-ofctl --bundle` does through our own client.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use bytes::BytesMut;
use flowtables::flowset::FlowSet;
use flowtables::flowset::diff::diff;
use flowtables::pipeline::cookie::Owner;
use openflow::{
    Endpoint, Envelope, Flow, FlowMod, FlowModCommand, FlowStatsRequest, Message, Modification, Switch,
    SwitchOptions, Tls, parse_actions,
};

use super::Exit;
use super::output::print;
use super::tls::TlsArgs;

/// The OpenFlow protocol: read messages, read flow texts, change and dump a switch's flows
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    tls: TlsArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print messages readably, in the words of ovs-ofctl ofp-print: one in hex, or one a line
    Decode {
        /// The message in hex; `-` reads one a line from standard input
        #[arg(default_value = "-")]
        hex: String,
    },
    /// Decode messages, encode them again and print them in hex
    Reencode {
        /// The message in hex; `-` reads one a line from standard input
        #[arg(default_value = "-")]
        hex: String,
    },
    /// Read a flow as ovs-ofctl add-flow does and print its normal form
    ParseFlow {
        /// The flow; `-` reads one a line from standard input
        text: String,
        /// Print the encoded flow modification in hex instead
        #[arg(long)]
        hex: bool,
    },
    /// Read actions as ovs-ofctl does and print their normal form
    ParseActions {
        /// The actions; `-` reads a list a line from standard input
        text: String,
    },
    /// Add flows in one bundle: all or none
    AddFlows {
        /// unix:PATH, tcp:HOST:PORT, ssl:HOST:PORT or the name of a bridge
        switch: String,
        /// Flows, one a line; `-` is standard input
        file: PathBuf,
    },
    /// Make the switch hold just these flows, by a bundle with the difference
    ReplaceFlows {
        /// unix:PATH, tcp:HOST:PORT, ssl:HOST:PORT or the name of a bridge
        switch: String,
        /// Flows, one a line; `-` is standard input
        file: PathBuf,
    },
    /// Print a switch's flows
    DumpFlows {
        /// unix:PATH, tcp:HOST:PORT, ssl:HOST:PORT or the name of a bridge
        switch: String,
        /// Only flows that match at least this, as in `table=80,ip`
        flow: Option<String>,
    },
}

/// Runs `sdnctl openflow`.
///
/// # Errors
/// When a message or text cannot be read, or a switch does not answer or refuses.
pub async fn run(args: Args) -> anyhow::Result<Exit> {
    let tls = args.tls;
    match args.command {
        Command::Decode { hex } => each(&hex, |text| Ok(envelope(text)?.to_string().trim_end().to_owned())),
        Command::Reencode { hex } => each(&hex, |text| {
            let mut bytes = BytesMut::new();
            envelope(text)?.encode(&mut bytes)?;
            Ok(to_hex(&bytes))
        }),
        Command::ParseFlow { text, hex } => each(&text, |text| {
            let flow_mod = FlowMod::parse(FlowModCommand::Add, text).map_err(|error| wrong(&error))?;
            if !hex {
                return Ok(flow_mod.flow.to_string().trim().to_owned());
            }
            let mut bytes = BytesMut::new();
            Envelope::new(0, Message::FlowMod(flow_mod)).encode(&mut bytes)?;
            Ok(to_hex(&bytes))
        }),
        Command::ParseActions { text } => each(&text, |text| {
            let instructions = parse_actions(text).map_err(|error| wrong(&error))?;
            let flow = Flow { instructions, ..Flow::default() }.to_string();
            Ok(flow.split_once("actions=").map_or(flow.clone(), |(_, actions)| actions.to_owned()))
        }),
        Command::AddFlows { switch, file } => {
            let flows = flow_mods(&file)?;
            connect(&switch, &tls).await?.bundle(flows.into_iter().map(Modification::Flow).collect()).await?;
            Ok(Exit::Done)
        }
        Command::ReplaceFlows { switch, file } => replace_flows(&switch, &tls, &file).await,
        Command::DumpFlows { switch, flow } => dump_flows(&switch, &tls, flow.as_deref()).await,
    }
}

/// An error of the text syntax in several lines: the text, the wrong word pointed at, what was expected.
fn wrong(error: &openflow::ParseError) -> anyhow::Error {
    anyhow::anyhow!("{error}")
}

/// Prints what `convert` makes of one text, or of each line of standard input. Lines that cannot be read are
/// reported, the rest is printed all the same.
fn each(text: &str, convert: impl Fn(&str) -> anyhow::Result<String>) -> anyhow::Result<Exit> {
    if text != "-" {
        print(&convert(text)?)?;
        return Ok(Exit::Done);
    }
    let mut failed = 0;
    for (number, line) in std::io::stdin().lock().lines().enumerate() {
        let line = line.context("standard input")?;
        if line.trim().is_empty() {
            continue;
        }
        match convert(line.trim()) {
            Ok(converted) => print(&converted)?,
            Err(error) => {
                failed += 1;
                eprintln!("sdnctl: line {}: {}", number + 1, crate::describe(&error));
            }
        }
    }
    if failed > 0 {
        bail!("{failed} lines could not be read");
    }
    Ok(Exit::Done)
}

fn envelope(hex: &str) -> anyhow::Result<Envelope> {
    Ok(Envelope::decode(&from_hex(hex)?)?)
}

fn from_hex(text: &str) -> anyhow::Result<Vec<u8>> {
    let digits: Vec<u8> = text
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .map(|byte| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()
        .context("a message is written in hexadecimal digits")?;
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        bail!("an odd number of hexadecimal digits: a byte has two");
    }
    Ok(pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn connect(switch: &str, tls: &TlsArgs) -> anyhow::Result<Switch> {
    let endpoint = match switch.contains(':') {
        true => switch.parse()?,
        false => {
            let run_dir = std::env::var_os("OVS_RUNDIR").unwrap_or_else(|| "/var/run/openvswitch".into());
            Endpoint::Unix(Path::new(&run_dir).join(format!("{switch}.mgmt")))
        }
    };
    let files = tls.files(matches!(endpoint, Endpoint::Tls(..)))?;
    let mut options = SwitchOptions::default();
    if let Some(files) = files {
        options.tls = Some(Tls::from_files(files.certificate, files.private_key, files.ca_cert)?);
    }
    Ok(Switch::connect_with(&endpoint, options).await?)
}

/// The flow modifications of a file: a flow a line, `#` starts a comment; a word such as `delete` before the flow
/// says what to do with it, as in the files of `ovs-ofctl`.
fn flow_mods(file: &Path) -> anyhow::Result<Vec<FlowMod>> {
    let input: Box<dyn Read> = match file.to_str() {
        Some("-") => Box::new(std::io::stdin()),
        _ => Box::new(std::fs::File::open(file).with_context(|| file.display().to_string())?),
    };
    let mut mods = Vec::new();
    for (number, line) in BufReader::new(input).lines().enumerate() {
        let line = line.with_context(|| file.display().to_string())?;
        let text = line.split('#').next().unwrap_or_default().trim();
        if text.is_empty() {
            continue;
        }
        let (command, flow) = command(text);
        let parsed = FlowMod::parse(command, flow).map_err(|error| wrong(&error));
        mods.push(parsed.with_context(|| format!("{}:{}", file.display(), number + 1))?);
    }
    Ok(mods)
}

fn command(text: &str) -> (FlowModCommand, &str) {
    let commands = [
        ("add", FlowModCommand::Add),
        ("modify_strict", FlowModCommand::ModifyStrict),
        ("modify", FlowModCommand::Modify),
        ("delete_strict", FlowModCommand::DeleteStrict),
        ("delete", FlowModCommand::Delete),
    ];
    match text.split_once(char::is_whitespace) {
        Some((word, rest)) => match commands.iter().find(|(name, _)| *name == word) {
            Some((_, command)) => (*command, rest.trim_start()),
            None => (FlowModCommand::Add, text),
        },
        None => (FlowModCommand::Add, text),
    }
}

async fn replace_flows(switch: &str, tls: &TlsArgs, file: &Path) -> anyhow::Result<Exit> {
    let wanted = flow_mods(file)?;
    if let Some(other) = wanted.iter().find(|flow_mod| flow_mod.command != FlowModCommand::Add) {
        bail!("replace-flows takes flows only, not {other}");
    }
    let switch = connect(switch, tls).await?;
    let actual: Vec<Flow> =
        switch.dump_flows(FlowStatsRequest::default()).await?.into_iter().map(|stats| stats.flow).collect();
    let mut desired = FlowSet::new();
    // Cookies stay as the file has them; whose flows they are does not matter here.
    desired.replace(&Owner::Base, wanted.into_iter().map(|flow_mod| flow_mod.flow).collect::<Vec<_>>());
    let diff = diff(&actual, &desired);
    switch.bundle(diff.modifications().into_iter().map(Modification::Flow).collect()).await?;
    Ok(Exit::Done)
}

async fn dump_flows(switch: &str, tls: &TlsArgs, flow: Option<&str>) -> anyhow::Result<Exit> {
    let request = match flow {
        Some(text) => {
            let filter = FlowMod::parse(FlowModCommand::Delete, text).map_err(|error| wrong(&error))?;
            FlowStatsRequest {
                table: filter.flow.table,
                out_port: filter.out_port,
                out_group: filter.out_group,
                cookie: filter.flow.cookie,
                cookie_mask: filter.cookie_mask,
                fields: filter.flow.fields,
            }
        }
        None => FlowStatsRequest::default(),
    };
    let switch = connect(switch, tls).await?;
    let mut flows = switch.stream_flows(request).await?;
    while let Some(part) = flows.next().await? {
        print(&part.iter().map(|stats| format!("{stats}\n")).collect::<String>())?;
    }
    Ok(Exit::Done)
}
