//! One call of the plugin, from the environment and standard input to what is printed.

use std::ffi::OsString;
use std::io::Read;

use cni_shim::cni::{CniError, CniVersion, Command, ErrorCode, NetConf, validate, version_answer};
use cni_shim::contract::Request;

use crate::{VERSION, agent};

/// The longest network configuration that is read, in bytes. With it a request stays below the contract's limit.
const MAX_CONFIG: usize = 512 << 10;

/// Why a call failed, and in which version of the specification to say so.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: CniError,
    pub(crate) version: String,
}

impl From<CniError> for Failure {
    /// For errors before the configuration was read.
    fn from(error: CniError) -> Failure {
        Failure { error, version: CniVersion::LATEST.to_string() }
    }
}

/// Carries out the call that the variables and the configuration describe. Gives back what to print.
pub(crate) fn run(
    variable: impl Fn(&str) -> Option<OsString>,
    configuration: impl Read,
) -> Result<Vec<u8>, Failure> {
    let command = command(&variable)?;
    if command == Command::Version {
        return Ok(version(configuration)?);
    }
    let request = request(command, &variable)?;
    let config = read(configuration)?;
    let conf = NetConf::parse_unchecked(&config)?;
    let failed = |error| Failure { error, version: conf.cni_version.clone() };
    conf.version()?.allows(command).map_err(failed)?;
    conf.check().map_err(failed)?;
    if command == Command::Check && conf.prev_result.is_none() {
        let problem = "prevResult is missing in the network configuration: CHECK compares with it";
        return Err(failed(CniError::new(ErrorCode::INVALID_CONFIG, problem)));
    }
    let answer = agent::ask(&conf, Request { config, ..request });
    let printed = match (command, answer) {
        // An agent that can't be asked can't serve an ADD, which is all that the runtime wants to know (section 2,
        // "STATUS").
        (Command::Status, Err(error)) if error.code == ErrorCode::TRY_AGAIN_LATER => {
            return Err(failed(CniError { code: ErrorCode::NOT_AVAILABLE, ..error }));
        }
        (_, answer) => answer.map_err(failed)?,
    };
    if command == Command::Add && printed.is_empty() {
        let error = CniError::new(ErrorCode::INTERNAL, "the node agent answered ADD without a result");
        return Err(failed(error));
    }
    Ok(printed)
}

fn command(variable: &impl Fn(&str) -> Option<OsString>) -> Result<Command, CniError> {
    const VARIABLE: &str = "CNI_COMMAND";
    let name = text(variable, VARIABLE)?;
    if name.is_empty() {
        let problem = format!("required environment variables missing: {VARIABLE}");
        return Err(CniError::new(ErrorCode::INVALID_ENVIRONMENT, problem)
            .with_details("this program is run by container runtimes; openshift-sdn --help says more"));
    }
    Command::parse(&name).ok_or_else(|| {
        CniError::invalid_environment(VARIABLE, format!("{name:?} is no verb of the CNI specification"))
    })
}

/// The request as far as the environment decides it.
fn request(command: Command, variable: &impl Fn(&str) -> Option<OsString>) -> Result<Request, CniError> {
    let request = Request {
        command: command.into(),
        container_id: text(variable, validate::CONTAINERID)?,
        netns: text(variable, validate::NETNS)?,
        ifname: text(variable, validate::IFNAME)?,
        args: text(variable, validate::ARGS)?,
        path: text(variable, validate::PATH)?,
        config: Vec::new(),
        plugin_version: VERSION.to_owned(),
    };
    request.validate()?;
    Ok(request)
}

/// A variable's value; empty if it isn't set.
fn text(variable: &impl Fn(&str) -> Option<OsString>, name: &str) -> Result<String, CniError> {
    let value = variable(name).unwrap_or_default();
    value.into_string().map_err(|_| CniError::invalid_environment(name, "it is not UTF-8 text"))
}

fn read(configuration: impl Read) -> Result<Vec<u8>, CniError> {
    let mut config = Vec::new();
    let bound = u64::try_from(MAX_CONFIG).unwrap_or(u64::MAX).saturating_add(1);
    configuration.take(bound).read_to_end(&mut config).map_err(|error| {
        CniError::new(ErrorCode::IO_FAILURE, format!("can't read the network configuration: {error}"))
    })?;
    if config.len() > MAX_CONFIG {
        return Err(CniError::new(
            ErrorCode::INVALID_CONFIG,
            format!("the network configuration on standard input is longer than {MAX_CONFIG} bytes"),
        ));
    }
    Ok(config)
}

/// VERSION: the configuration has a `cniVersion` only, and may be missing.
fn version(configuration: impl Read) -> Result<Vec<u8>, CniError> {
    let config = read(configuration)?;
    if config.trim_ascii().is_empty() {
        return Ok(version_answer(""));
    }
    Ok(version_answer(&NetConf::parse_unchecked(&config)?.cni_version))
}
