//! Network namespaces: opening, making, entering them.
//!
//! A thread that has entered a namespace is never used for anything else, and never goes back: [`run_in`] and
//! [`spawn_in`] start one for each call, so no other work can find itself in the wrong namespace. (Starting a
//! thread takes about 50 µs; a runtime's pool of blocking threads must not be used for this.)
//!
//! This is the one module of the workspace with `unsafe` code: two `ioctl` calls have no safe form.
#![allow(unsafe_code)] // The ioctls NS_GET_NSTYPE and SIOCETHTOOL take raw numbers and pointers.

use std::ffi::CString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use nix::errno::Errno;
use nix::libc;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// Where `ip netns` keeps the namespaces that have a name.
pub const NAMED: &str = "/run/netns";

/// Why something with a network namespace could not be done.
#[derive(Debug, thiserror::Error)]
pub enum NetNsError {
    /// There is nothing at the path.
    #[error(
        "there is no network namespace at {}: its container is gone, or the path is of another mount namespace",
        path.display()
    )]
    NotFound {
        /// The path.
        path: PathBuf,
    },
    /// There is something else at the path.
    #[error("{} is not a network namespace{hint}", path.display())]
    NotANetNs {
        /// The path.
        path: PathBuf,
        /// More about it, with a leading separator.
        hint: &'static str,
    },
    /// A namespace of that name exists.
    #[error("there is a network namespace named {name:?} already; `ip netns delete {name}` removes it")]
    Exists {
        /// The name.
        name: String,
    },
    /// The name can't be a file's name.
    #[error(
        "{name:?} can't name a network namespace: it must be 1 to 255 bytes, without '/', not '.' or '..'"
    )]
    BadName {
        /// The name.
        name: String,
    },
    /// The kernel refused a step.
    #[error("could not {step} {}: {source}{}", path.display(), privilege(source))]
    Step {
        /// What was tried, in words.
        step: &'static str,
        /// On which file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The calling thread can't be moved into the namespace.
    #[error("could not enter a network namespace: {source}{}", privilege(source))]
    Enter {
        /// The kernel's answer.
        source: io::Error,
    },
    /// No thread could be started.
    #[error("could not start a thread to enter a network namespace: {0}")]
    Thread(#[source] io::Error),
    /// The thread ended without a result.
    #[error("the thread in a network namespace ended without a result")]
    Lost,
    /// A netlink socket could not be opened inside.
    #[error("could not open a netlink socket: {0}")]
    Netlink(#[source] io::Error),
}

fn privilege(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => " (this needs root, or the capabilities SYS_ADMIN and NET_ADMIN)",
        _ => "",
    }
}

/// An open network namespace. It exists at least as long as this or a clone of it does.
#[derive(Clone, Debug)]
pub struct NetNs(Arc<OwnedFd>);

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl NetNs {
    /// Opens the namespace at a path, e.g. `/run/netns/NAME` or `/proc/PID/ns/net`.
    ///
    /// # Errors
    /// [`NetNsError::NotFound`], [`NetNsError::NotANetNs`], [`NetNsError::Step`].
    pub fn open(path: impl AsRef<Path>) -> Result<NetNs, NetNsError> {
        let path = path.as_ref();
        // O_NONBLOCK: the path comes from outside, and opening a FIFO must not wait for its other end.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open(path)
            .map_err(|source| match source.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                    NetNsError::NotFound { path: path.into() }
                }
                _ => NetNsError::Step { step: "open the network namespace", path: path.into(), source },
            })?;
        let hint = match namespace_type(file.as_fd()) {
            Ok(libc::CLONE_NEWNET) => return Ok(NetNs(Arc::new(file.into()))),
            Ok(_) => ": it is a namespace of another type",
            Err(_) if path.starts_with(NAMED) => ": nothing is mounted there (left from before a restart?)",
            Err(_) => "",
        };
        Err(NetNsError::NotANetNs { path: path.into(), hint })
    }

    /// The namespace of the calling thread.
    ///
    /// # Errors
    /// [`NetNsError::Step`] if `/proc` can't be read.
    pub fn current() -> Result<NetNs, NetNsError> {
        NetNs::open("/proc/thread-self/ns/net")
    }

    /// The namespace that `ip netns` knows by this name.
    ///
    /// # Errors
    /// As [`NetNs::open`], and [`NetNsError::BadName`].
    pub fn open_named(name: &str) -> Result<NetNs, NetNsError> {
        NetNs::open(named(name)?)
    }

    /// Makes a namespace with a name, as `ip netns add NAME` does: it lives, with its loopback down, until its name
    /// is deleted and nothing else uses it.
    ///
    /// # Errors
    /// [`NetNsError::BadName`], [`NetNsError::Exists`], [`NetNsError::Step`]; nothing is left behind.
    pub fn create_named(name: &str) -> Result<NetNs, NetNsError> {
        let path = named(name)?;
        share_mounts()?;
        let step = |step, source| NetNsError::Step { step, path: path.clone(), source };
        OpenOptions::new().write(true).create_new(true).mode(0o444).open(&path).map_err(
            |source| match source.kind() {
                io::ErrorKind::AlreadyExists => NetNsError::Exists { name: name.into() },
                _ => step("create", source),
            },
        )?;
        let mounted = on_own_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)
                .map_err(|errno| step("make a network namespace for", errno.into()))?;
            mount(Some("/proc/thread-self/ns/net"), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
                .map_err(|errno| step("mount a network namespace on", errno.into()))
        });
        match mounted.and_then(|mounted| mounted).and_then(|()| NetNs::open(&path)) {
            Ok(ns) => Ok(ns),
            Err(error) => {
                let _ = umount2(&path, MntFlags::MNT_DETACH);
                let _ = fs::remove_file(&path);
                Err(error)
            }
        }
    }

    /// Deletes a namespace's name, as `ip netns delete NAME` does. `false` if there was none.
    ///
    /// # Errors
    /// [`NetNsError::BadName`], [`NetNsError::Step`].
    pub fn delete_named(name: &str) -> Result<bool, NetNsError> {
        let path = named(name)?;
        match umount2(&path, MntFlags::MNT_DETACH) {
            // EINVAL: a file that nothing is mounted on, as after a restart of the machine.
            Ok(()) | Err(Errno::EINVAL) => {}
            Err(Errno::ENOENT) => return Ok(false),
            Err(errno) => return Err(NetNsError::Step { step: "unmount", path, source: errno.into() }),
        }
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(NetNsError::Step { step: "remove", path, source }),
        }
    }

    /// The number that identifies the namespace on this machine while it exists, as `ls -L -i` shows it.
    ///
    /// # Errors
    /// [`NetNsError::Enter`], not expected of an open namespace.
    pub fn inode(&self) -> Result<u64, NetNsError> {
        let copy = self.0.try_clone().map_err(|source| NetNsError::Enter { source })?;
        Ok(File::from(copy).metadata().map_err(|source| NetNsError::Enter { source })?.ino())
    }

    /// Moves the calling thread into the namespace, for good. For threads that were started for this; see
    /// [`run_in`].
    ///
    /// # Errors
    /// [`NetNsError::Enter`].
    pub fn enter(&self) -> Result<(), NetNsError> {
        setns(self.0.as_fd(), CloneFlags::CLONE_NEWNET)
            .map_err(|errno| NetNsError::Enter { source: errno.into() })
    }
}

/// Runs a function inside a namespace and waits for it, on a thread of its own. A child process that it starts
/// inherits the namespace. A panic of the function goes on in the caller.
///
/// # Errors
/// [`NetNsError::Enter`], [`NetNsError::Thread`]; the function was not run then.
pub fn run_in<T: Send>(ns: &NetNs, f: impl FnOnce() -> T + Send) -> Result<T, NetNsError> {
    on_own_thread(|| {
        ns.enter()?;
        Ok(f())
    })?
}

/// As [`run_in`], for async callers: the runtime's thread does not wait. If the future is dropped the function
/// still runs to its end.
///
/// # Errors
/// As [`run_in`]; [`NetNsError::Lost`] if the function panicked.
pub async fn spawn_in<T: Send + 'static>(
    ns: &NetNs,
    f: impl FnOnce() -> T + Send + 'static,
) -> Result<T, NetNsError> {
    let ns = ns.clone();
    let (send, result) = tokio::sync::oneshot::channel();
    thread::Builder::new()
        .name("netns".into())
        .spawn(move || {
            let _ = send.send(ns.enter().map(|()| f()));
        })
        .map_err(NetNsError::Thread)?;
    result.await.map_err(|_| NetNsError::Lost)?
}

/// An rtnetlink handle whose socket lives in the namespace. Its connection runs as a task of the current tokio
/// runtime and ends with the last clone of the handle.
///
/// # Errors
/// [`NetNsError::Enter`], [`NetNsError::Thread`], [`NetNsError::Netlink`].
///
/// # Panics
/// Outside a tokio runtime.
pub fn netlink_in(ns: &NetNs) -> Result<rtnetlink::Handle, NetNsError> {
    let runtime = tokio::runtime::Handle::current();
    let (connection, handle, _) = run_in(ns, || {
        let _entered = runtime.enter();
        rtnetlink::new_connection()
    })?
    .map_err(NetNsError::Netlink)?;
    runtime.spawn(connection);
    Ok(handle)
}

/// Switches transmit checksum offload of a link of the calling thread's namespace on or off. Without it the kernel
/// completes the checksum of every packet before the packet reaches the link; TCP segmentation offload, which
/// depends on it, goes off as well.
///
/// A datapath in user space needs it off on the pod's end of a veth pair: between kernel devices a packet may
/// travel with its checksum left to be completed, and a program that reads the packet from the other end would
/// send it on as it is.
///
/// # Errors
/// The kernel's: `NotFound` (as `ENODEV`) if there is no such link, `Unsupported` if the link can't.
pub fn set_tx_checksum_offload(link: &str, on: bool) -> io::Result<()> {
    const ETHTOOL_STXCSUM: u32 = 0x17;
    ethtool(link, ETHTOOL_STXCSUM, u32::from(on)).map(drop)
}

/// Is transmit checksum offload of a link of the calling thread's namespace on?
///
/// # Errors
/// As [`set_tx_checksum_offload`].
pub fn tx_checksum_offload(link: &str) -> io::Result<bool> {
    const ETHTOOL_GTXCSUM: u32 = 0x16;
    ethtool(link, ETHTOOL_GTXCSUM, 0).map(|value| value != 0)
}

/// `struct ethtool_value` of linux/ethtool.h.
#[repr(C)]
struct EthtoolValue {
    cmd: u32,
    data: u32,
}

fn ethtool(link: &str, cmd: u32, data: u32) -> io::Result<u32> {
    let name = CString::new(link)?;
    let name = name.as_bytes();
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_data: std::ptr::null_mut() },
    };
    if name.len() >= libc::IFNAMSIZ {
        return Err(Errno::ENODEV.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name) {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    let mut value = EthtoolValue { cmd, data };
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    let any = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: `request` is an ifreq whose data points to an ethtool_value, as SIOCETHTOOL with these two commands
    // reads and writes; both outlive the call, and the name ends in a zero byte.
    Errno::result(unsafe { libc::ioctl(any.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) })?;
    Ok(value.data)
}

/// The `CLONE_NEW*` constant of a namespace file (ioctl_ns(2)); `ENOTTY` if the file is something else.
fn namespace_type(file: BorrowedFd<'_>) -> Result<i32, Errno> {
    const NS_GET_NSTYPE: libc::Ioctl = 0xb703;
    // SAFETY: NS_GET_NSTYPE takes no argument and touches no memory of ours.
    Errno::result(unsafe { libc::ioctl(file.as_raw_fd(), NS_GET_NSTYPE) })
}

fn named(name: &str) -> Result<PathBuf, NetNsError> {
    if name.is_empty() || name.len() > 255 || name.contains(['/', '\0']) || matches!(name, "." | "..") {
        return Err(NetNsError::BadName { name: name.into() });
    }
    Ok(Path::new(NAMED).join(name))
}

/// Makes the directory of named namespaces, and makes mounts in it visible in other mount namespaces, as
/// `ip netns add` does.
fn share_mounts() -> Result<(), NetNsError> {
    let step = |step, source| NetNsError::Step { step, path: NAMED.into(), source };
    DirBuilder::new().recursive(true).mode(0o755).create(NAMED).map_err(|source| step("create", source))?;
    // The lock that `ip netns` takes too: two at once would mount the directory on itself twice.
    let directory = File::open(NAMED).map_err(|source| step("open", source))?;
    directory.lock().map_err(|source| step("lock", source))?;
    let none = None::<&str>;
    let share = || mount(none, NAMED, none, MsFlags::MS_SHARED | MsFlags::MS_REC, none);
    match share() {
        Ok(()) => Ok(()),
        // EINVAL: it is no mount point yet.
        Err(Errno::EINVAL) => mount(Some(NAMED), NAMED, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)
            .and_then(|()| share())
            .map_err(|errno| step("mount on itself", errno.into())),
        Err(errno) => Err(step("share the mounts of", errno.into())),
    }
}

/// Runs a function on a thread started for it.
fn on_own_thread<T: Send>(f: impl FnOnce() -> T + Send) -> Result<T, NetNsError> {
    thread::scope(|scope| {
        let thread =
            thread::Builder::new().name("netns".into()).spawn_scoped(scope, f).map_err(NetNsError::Thread)?;
        Ok(thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
