//! The form of the parameters (section 2, "Parameters"; section 1, "Network configuration").

use super::{CniError, Command, ErrorCode};

/// The runtime's name of the container.
pub const CONTAINERID: &str = "CNI_CONTAINERID";
/// The path of its network namespace.
pub const NETNS: &str = "CNI_NETNS";
/// The name of the interface in it.
pub const IFNAME: &str = "CNI_IFNAME";
/// Extra arguments.
pub const ARGS: &str = "CNI_ARGS";
/// Where plugins are found.
pub const PATH: &str = "CNI_PATH";

/// The longest interface name that Linux takes, in bytes.
pub const MAX_IFNAME: usize = 15;

/// The longest container id that is accepted, in bytes: it becomes part of file names and database keys. Runtimes
/// use 64.
pub const MAX_CONTAINERID: usize = 200;

/// The variables that a verb requires besides `CNI_COMMAND`.
pub fn required_by(command: Command) -> &'static [&'static str] {
    match command {
        Command::Add | Command::Check => &[CONTAINERID, NETNS, IFNAME],
        Command::Del => &[CONTAINERID, IFNAME],
        Command::Gc => &[PATH],
        Command::Status | Command::Version | Command::Unspecified => &[],
    }
}

/// Checks that all variables which a verb requires are there.
///
/// # Errors
/// Code 4 naming every variable that is missing.
pub fn required(command: Command, is_set: impl Fn(&str) -> bool) -> Result<(), CniError> {
    let missing: Vec<&str> =
        required_by(command).iter().copied().filter(|variable| !is_set(variable)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(CniError::new(
        ErrorCode::INVALID_ENVIRONMENT,
        format!("required environment variables missing: {}", missing.join(", ")),
    )
    .with_details(format!("{} needs {}", command.name(), required_by(command).join(", "))))
}

/// Checks a container id: a letter or digit, then letters, digits, `_`, `.` and `-`; at most
/// [`MAX_CONTAINERID`] bytes.
///
/// # Errors
/// Code 4.
pub fn container_id(id: &str) -> Result<(), CniError> {
    let problem = if id.len() > MAX_CONTAINERID {
        format!("{} bytes are over the limit of {MAX_CONTAINERID}", id.len())
    } else if !is_identifier(id) {
        format!(
            "{} must start with a letter or digit and may go on with letters, digits, '_', '.' and '-'",
            shown(id)
        )
    } else {
        return Ok(());
    };
    Err(CniError::invalid_environment(CONTAINERID, problem))
}

/// Checks an interface name as Linux does: 1 to [`MAX_IFNAME`] bytes, not `.` or `..`, no `/`, `:` or white space; and no
/// `%`, in whose place Linux would put a number.
///
/// # Errors
/// Code 4.
pub fn ifname(name: &str) -> Result<(), CniError> {
    let problem = if name.len() > MAX_IFNAME {
        format!("the name has {} bytes, Linux takes {MAX_IFNAME}", name.len())
    } else if matches!(name, "" | "." | "..") {
        format!("{} can't name an interface", shown(name))
    } else if name.chars().any(|c| matches!(c, '/' | ':' | '%') || c.is_whitespace() || c.is_control()) {
        format!("{} has a '/', ':', '%', white space or control character", shown(name))
    } else {
        return Ok(());
    };
    Err(CniError::invalid_environment(IFNAME, problem))
}

/// Checks a network's name: as a container id, of any length.
///
/// # Errors
/// Code 7.
pub fn network_name(name: &str) -> Result<(), CniError> {
    if is_identifier(name) {
        return Ok(());
    }
    let problem = if name.is_empty() {
        "name is missing in the network configuration".to_owned()
    } else {
        format!(
            "name {} in the network configuration must start with a letter or digit and may go on with letters, \
             digits, '_', '.' and '-'",
            shown(name)
        )
    };
    Err(CniError::new(ErrorCode::INVALID_CONFIG, problem))
}

/// Whether an object of Kubernetes can have this name or UID: 1 to 253 letters, digits, '_', '.' and '-', of which the
/// first is a letter or digit.
pub(crate) fn is_object_name(text: &str) -> bool {
    text.len() <= 253 && is_identifier(text)
}

fn is_identifier(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

/// The text quoted and cut to what fits an error message.
pub(crate) fn shown(text: &str) -> String {
    const LONGEST: usize = 64;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{:?}...", text.get(..end).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}
