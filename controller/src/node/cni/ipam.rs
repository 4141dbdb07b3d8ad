//! Addresses of the node's pods, leased from the node's subnet.
//!
//! The leases are files in a directory, in the form of the `host-local` plugin, so that a node can change from the
//! replaced system to this one, and back, with its pods running: a file is named as the address and holds the
//! container id; the plugin's newer versions add a second line with the interface's name, which is read and, for
//! other interfaces than `eth0`, written. `last_reserved_ip.0` holds the address that was leased last. The directory
//! is the truth: a lease is in it from the start, and on disk, to survive a power failure ([`Ipam::persist`]), before the
//! pod hears of it.
//!
//! An address is not leased again soon after it was released, since neighbours may have it in their ARP caches
//! and connections to it in their tables: addresses that were not in use since the start of the process come first,
//! in order behind the last one leased, then the one whose release is longest ago.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use cni_shim::cni::{CniError, validate};
use ipnet::Ipv4Net;
use nix::errno::Errno;
use nix::libc;
use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, access};
use tracing::warn;

/// The interface of a lease that names none: the replaced system leased for no other.
const DEFAULT_IFNAME: &str = "eth0";
/// More of a file is not read: a container id and an interface have far less, bytes.
const LONGEST: u64 = 4096;
const LAST_RESERVED: &str = "last_reserved_ip.0";
const LOCK: &str = "lock";

/// An address and who has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The address.
    pub address: Ipv4Addr,
    /// The container (sandbox) that has it. Any text if someone else wrote the file.
    pub container_id: String,
    /// The interface in the container that has it.
    pub ifname: String,
}

impl Lease {
    pub(super) fn is_of(&self, container_id: &str, ifname: &str) -> bool {
        self.container_id == container_id && self.ifname == ifname
    }

    /// The content of a lease file. Never fails: what can't be understood still holds the address.
    fn parse(address: Ipv4Addr, content: &[u8]) -> Lease {
        let content = String::from_utf8_lossy(content);
        let mut lines = content.trim().lines().map(str::trim);
        let container_id = lines.next().unwrap_or_default().to_owned();
        let ifname = lines.next().filter(|line| !line.is_empty()).unwrap_or(DEFAULT_IFNAME).to_owned();
        Lease { address, container_id, ifname }
    }

    fn content(&self) -> String {
        if self.ifname == DEFAULT_IFNAME {
            self.container_id.clone()
        } else {
            format!("{}\r\n{}", self.container_id, self.ifname)
        }
    }
}

/// Why an address could not be leased or released.
#[derive(Debug, thiserror::Error)]
pub enum IpamError {
    /// Someone else has the address that was asked for.
    #[error("address {} is in use by interface {} of container {}; ask for another one", .0.address, .0.ifname, .0.container_id)]
    Taken(Lease),
    /// The container has another address than the one it asks for.
    #[error("interface {} of container {} has address {} already and can't get {wanted} as well", .has.ifname, .has.container_id, .has.address)]
    Other {
        /// What it has.
        has: Lease,
        /// What it asks for.
        wanted: Ipv4Addr,
    },
    /// The address is not one that pods of this node can have.
    #[error(
        "address {address} can't be given to a pod of this node: {reason}; ask for one of {first} to {last}"
    )]
    NotUsable {
        /// The address.
        address: Ipv4Addr,
        /// Why, in words.
        reason: String,
        /// The first that pods can have.
        first: Ipv4Addr,
        /// The last.
        last: Ipv4Addr,
    },
    /// Every address is in use.
    #[error(
        "no address is free in the node's subnet {subnet}: {in_use} of {size} are in use; delete pods, move some to \
         other nodes, or give the cluster larger host subnets"
    )]
    Exhausted {
        /// The node's subnet.
        subnet: Ipv4Net,
        /// Addresses in use.
        in_use: usize,
        /// Addresses that pods can have.
        size: usize,
    },
    /// The subnet has no address for a pod.
    #[error("the node's subnet {0} has no address for pods; its prefix must be /30 or shorter")]
    TooSmall(Ipv4Net),
    /// The container's id or interface can't be written to a lease.
    #[error(transparent)]
    Parameter(#[from] CniError),
    /// The lease directory can't be used.
    #[error("could not {step} {}: {source}", path.display())]
    Io {
        /// What was tried, in words.
        step: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

/// The addresses of the node's subnet.
///
/// All calls do short, synchronous file operations and wait for the disk; an async caller moves them to a blocking
/// thread. Any number of threads may call at once.
#[derive(Debug)]
pub struct Ipam {
    dir: PathBuf,
    subnet: Ipv4Net,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What the directory held when it was last read, and every change of ours since.
    leases: BTreeMap<Ipv4Addr, Held>,
    /// When addresses were released, as a count of releases.
    released: HashMap<Ipv4Addr, u64>,
    releases: u64,
    last: Option<Ipv4Addr>,
}

/// A lease, and how it is known.
#[derive(Debug)]
struct Held {
    lease: Lease,
    /// Of which state of the file it was read: that one need not be read again. None if the file had just been changed, and
    /// for what we have written ourselves.
    stamp: Option<Stamp>,
}

impl From<Lease> for Held {
    fn from(lease: Lease) -> Self {
        Self { lease, stamp: None }
    }
}

/// What changes when a file is written to or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    length: u64,
    /// Seconds and nanoseconds.
    changed: (i64, i64),
}

impl State {
    fn leases(&self) -> impl Iterator<Item = &Lease> {
        self.leases.values().map(|held| &held.lease)
    }

    fn of(&self, address: Ipv4Addr) -> Option<&Lease> {
        self.leases.get(&address).map(|held| &held.lease)
    }
}

impl Stamp {
    /// None if the file has just been changed: the next change may come in the same tick of the kernel's clock.
    fn of(file: &Metadata) -> Option<Self> {
        let changed = (file.ctime(), file.ctime_nsec());
        let stamp = Self { inode: file.ino(), length: file.len(), changed };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
        (u64::try_from(changed.0).ok()? + 2 <= now).then_some(stamp)
    }
}

impl Ipam {
    /// Opens the lease directory, and makes it if it isn't there. Files that are no leases are left alone; an empty
    /// one is what a power failure left of a lease that no ADD had answered with yet, and is removed.
    ///
    /// # Errors
    /// [`IpamError::TooSmall`], [`IpamError::Io`].
    pub fn open(dir: &Path, subnet: Ipv4Net) -> Result<Ipam, IpamError> {
        let subnet = subnet.trunc();
        if subnet.prefix_len() > 30 {
            return Err(IpamError::TooSmall(subnet));
        }
        fs::create_dir_all(dir).map_err(io_error("create", dir))?;
        let ipam = Ipam { dir: dir.to_owned(), subnet, state: Mutex::default() };
        let mut state = ipam.state();
        let _lock = ipam.lock()?;
        ipam.read(&mut state)?;
        let empty: Vec<Ipv4Addr> =
            state.leases().filter(|lease| lease.container_id.is_empty()).map(|lease| lease.address).collect();
        for address in empty {
            warn!(%address, "removing an empty lease file, left by an interrupted ADD");
            ipam.remove(&mut state, address)?;
        }
        drop(state);
        Ok(ipam)
    }

    /// The node's subnet.
    pub fn subnet(&self) -> Ipv4Net {
        self.subnet
    }

    /// The node's own address in the subnet, on tun0: the first.
    pub fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.subnet.network()) | 1)
    }

    /// Addresses that pods can have.
    pub fn size(&self) -> usize {
        self.usable().count()
    }

    /// Leases an address for an interface of a container: the wanted one, or any. An interface that has one already
    /// gets the same again. Nobody gets what `others` have: their files may have been removed by someone else.
    ///
    /// # Errors
    /// Any [`IpamError`]; nothing was leased then.
    pub fn allocate(
        &self,
        container_id: &str,
        ifname: &str,
        wanted: Option<Ipv4Addr>,
        others: &BTreeMap<Ipv4Addr, Lease>,
    ) -> Result<Ipv4Addr, IpamError> {
        validate::container_id(container_id)?;
        validate::ifname(ifname)?;
        if let Some(address) = wanted {
            self.check_usable(address)?;
        }
        let mut state = self.state();
        let _lock = self.lock()?;
        let known = state.leases().find(|lease| lease.is_of(container_id, ifname)).cloned();
        if let Some(has) = known {
            // The file may have been removed or rewritten by someone else, or be of an earlier subnet.
            if self.subnet.contains(&has.address) && self.on_disk(has.address)?.as_ref() == Some(&has) {
                return match wanted {
                    Some(wanted) if wanted != has.address => Err(IpamError::Other { has, wanted }),
                    _ => Ok(has.address),
                };
            }
            self.read(&mut state)?;
        }
        for reread in [false, true] {
            if reread {
                self.read(&mut state)?;
            }
            while let Some(address) = self.candidate(&state, wanted, others)? {
                let lease = Lease { address, container_id: container_id.into(), ifname: ifname.into() };
                match self.create(&lease) {
                    Ok(()) => {
                        self.remember_last(&mut state, address);
                        state.leases.insert(address, lease.into());
                        return Ok(address);
                    }
                    // Leased by someone else since the directory was read.
                    Err(IpamError::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {
                        let holder = self.on_disk(address)?.unwrap_or_else(|| Lease::parse(address, b""));
                        state.leases.insert(address, holder.into());
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        let holder = |address: &Ipv4Addr| state.of(*address).or_else(|| others.get(address));
        if let Some(holder) = wanted.and_then(|wanted| holder(&wanted)) {
            return Err(IpamError::Taken(holder.clone()));
        }
        let in_use = self.usable().filter(|address| holder(address).is_some()).count();
        Err(IpamError::Exhausted { subnet: self.subnet, in_use, size: self.size() })
    }

    /// Has a lease survive a power failure from now on. It waits for the disk, and holds up nobody else meanwhile.
    ///
    /// # Errors
    /// [`IpamError::Io`]: it may not survive one.
    pub fn persist(&self, address: Ipv4Addr) -> Result<(), IpamError> {
        let path = self.path(address);
        open(OpenOptions::new().read(true), &path)
            .and_then(|file| file.sync_all())
            .map_err(io_error("write", &path))?;
        self.sync()
    }

    /// Whether a lease could be written now: the directory is there or can be made, and the disk has room.
    ///
    /// # Errors
    /// [`IpamError::Io`]: what an [`allocate`](Self::allocate) would meet.
    pub fn writable(&self) -> Result<(), IpamError> {
        let failed = |errno: Errno| io_error("write to", &self.dir)(errno.into());
        match access(&self.dir, AccessFlags::W_OK | AccessFlags::X_OK) {
            Err(Errno::ENOENT) => {
                self.lock()?;
            }
            answer => answer.map_err(failed)?,
        }
        let room = statvfs(&self.dir).map_err(failed)?;
        // Some filesystems make inodes as they go, and count none.
        let no_inodes = room.files() > 0 && room.files_free() == 0;
        if room.blocks_free() == 0 || no_inodes { Err(failed(Errno::ENOSPC)) } else { Ok(()) }
    }

    /// Whether an interface of a container has a lease, as far as is known without reading the directory.
    pub fn is_leased(&self, container_id: &str, ifname: &str) -> bool {
        self.state().leases().any(|lease| lease.is_of(container_id, ifname))
    }

    /// Writes the lease of an address that a container is known to have, in place of one that is missing, damaged or
    /// of nobody. `false` if it was there.
    ///
    /// # Errors
    /// [`IpamError::Taken`] if the file names another container; [`IpamError::NotUsable`], [`IpamError::Io`].
    pub fn adopt(&self, container_id: &str, ifname: &str, address: Ipv4Addr) -> Result<bool, IpamError> {
        validate::container_id(container_id)?;
        validate::ifname(ifname)?;
        self.check_usable(address)?;
        let mut state = self.state();
        let _lock = self.lock()?;
        let lease = Lease { address, container_id: container_id.into(), ifname: ifname.into() };
        match self.on_disk(address)? {
            Some(found) if found == lease => return Ok(false),
            Some(found) if validate::container_id(&found.container_id).is_ok() => {
                return Err(IpamError::Taken(found));
            }
            Some(_) => self.remove(&mut state, address)?,
            None => {}
        }
        self.create(&lease)?;
        state.leases.insert(address, lease.into());
        self.persist(address)?;
        Ok(true)
    }

    /// Removes the lease of an address, whoever has it.
    ///
    /// # Errors
    /// [`IpamError::Io`].
    pub fn forget(&self, address: Ipv4Addr) -> Result<(), IpamError> {
        let mut state = self.state();
        let _lock = self.lock()?;
        self.remove(&mut state, address)?;
        self.sync()
    }

    /// Releases what an interface of a container has, or, without a name, what the container has. Gives back the
    /// addresses; that there were none is no error.
    ///
    /// # Errors
    /// [`IpamError::Io`]; what was released before stays released.
    pub fn release(&self, container_id: &str, ifname: Option<&str>) -> Result<Vec<Ipv4Addr>, IpamError> {
        let mut state = self.state();
        let lock = self.lock()?;
        let of_it = |state: &State| -> Vec<Ipv4Addr> {
            let matches = |lease: &&Lease| {
                lease.container_id == container_id && ifname.is_none_or(|ifname| lease.ifname == ifname)
            };
            state.leases().filter(matches).map(|lease| lease.address).collect()
        };
        let mut addresses = of_it(&state);
        if addresses.is_empty() {
            self.read(&mut state)?;
            addresses = of_it(&state);
        }
        for address in &addresses {
            self.remove(&mut state, *address)?;
        }
        drop((state, lock));
        if !addresses.is_empty() {
            self.sync()?;
        }
        Ok(addresses)
    }

    /// Every lease in the directory, by address; also those of other subnets.
    ///
    /// # Errors
    /// [`IpamError::Io`].
    pub fn leases(&self) -> Result<Vec<Lease>, IpamError> {
        let mut state = self.state();
        let _lock = self.lock()?;
        self.read(&mut state)?;
        Ok(state.leases().cloned().collect())
    }

    /// Addresses that pods can have and that are leased, as far as is known without reading the directory; nothing if
    /// somebody is at work on it, who may have to wait for a disk.
    pub fn in_use(&self) -> Option<usize> {
        let state = self.state.try_lock().ok()?;
        Some(self.usable().filter(|address| state.leases.contains_key(address)).count())
    }

    /// Is the address one of this node's subnet?
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        self.subnet.contains(&address)
    }

    /// The addresses that pods can have: not the network's, the gateway's and the broadcast address.
    fn usable(&self) -> impl Iterator<Item = Ipv4Addr> {
        let gateway = self.gateway();
        self.subnet.hosts().filter(move |address| *address != gateway)
    }

    fn check_usable(&self, address: Ipv4Addr) -> Result<(), IpamError> {
        let reason = if !self.contains(address) {
            format!("it is not in the node's subnet {}", self.subnet)
        } else if address == self.gateway() {
            "it is the node's own".to_owned()
        } else if address == self.subnet.network() {
            "it is the subnet's own".to_owned()
        } else if address == self.subnet.broadcast() {
            "it is the subnet's broadcast address".to_owned()
        } else {
            return Ok(());
        };
        let first = self.usable().next().unwrap_or(address);
        let last = Ipv4Addr::from(u32::from(self.subnet.broadcast()).saturating_sub(1));
        Err(IpamError::NotUsable { address, reason, first, last })
    }

    /// The address to try next; none if all, or the wanted one, are in use.
    fn candidate(
        &self,
        state: &State,
        wanted: Option<Ipv4Addr>,
        others: &BTreeMap<Ipv4Addr, Lease>,
    ) -> Result<Option<Ipv4Addr>, IpamError> {
        let is_free =
            |address: &Ipv4Addr| !state.leases.contains_key(address) && !others.contains_key(address);
        if wanted.is_some() {
            return Ok(wanted.filter(is_free));
        }
        let last = state.last.unwrap_or(self.gateway());
        Ok(self
            .usable()
            .filter(is_free)
            .min_by_key(|address| (state.released.get(address), *address <= last, *address)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A thread that panicked leaves no half-made change in memory that reading the directory would not mend.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps other processes out, as `host-local` does, until the file is dropped.
    fn lock(&self) -> Result<File, IpamError> {
        let path = self.dir.join(LOCK);
        let open = || open(OpenOptions::new().write(true).create(true).truncate(false).mode(0o600), &path);
        let file = match open() {
            // Somebody has removed the directory.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(&self.dir).map_err(io_error("create", &self.dir))?;
                open()
            }
            opened => opened,
        };
        let file = file.map_err(io_error("open", &path))?;
        file.lock().map_err(io_error("lock", &path))?;
        Ok(file)
    }

    /// Reads the directory into memory.
    fn read(&self, state: &mut State) -> Result<(), IpamError> {
        let failed = |source| IpamError::Io { step: "read", path: self.dir.clone(), source };
        let (mut found, mut there) = (Vec::new(), HashSet::with_capacity(state.leases.len()));
        for entry in fs::read_dir(&self.dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Some(address) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let stamp = match entry.metadata() {
                Ok(metadata) => Stamp::of(&metadata),
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(error)),
            };
            let is_known =
                stamp.is_some() && state.leases.get(&address).is_some_and(|held| held.stamp == stamp);
            if !is_known {
                let Some(lease) = self.on_disk(address)? else { continue };
                found.push((address, Held { lease, stamp }));
            }
            there.insert(address);
        }
        state.leases.retain(|address, _| there.contains(address));
        state.leases.extend(found);
        let mut last = String::new();
        let read = open(OpenOptions::new().read(true), &self.dir.join(LAST_RESERVED))
            .and_then(|file| file.take(LONGEST).read_to_string(&mut last));
        state.last = read.ok().and_then(|_| last.trim().parse().ok()).filter(|last| self.contains(*last));
        Ok(())
    }

    /// The lease of an address. What is there but can't be read as one holds the address as well.
    fn on_disk(&self, address: Ipv4Addr) -> Result<Option<Lease>, IpamError> {
        let path = self.path(address);
        let odd = |what: &str| Ok(Some(Lease::parse(address, format!("({what}, not a lease)").as_bytes())));
        let file = match open(OpenOptions::new().read(true), &path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.raw_os_error() == Some(libc::ELOOP) => return odd("a symbolic link"),
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => return odd("a socket"),
            Err(source) => return Err(IpamError::Io { step: "read", path, source }),
        };
        let mut content = Vec::new();
        let read = file.metadata().and_then(|metadata| match metadata.is_file() {
            true => file.take(LONGEST).read_to_end(&mut content).map(|_| true),
            false => Ok(false),
        });
        match read {
            Ok(true) => Ok(Some(Lease::parse(address, &content))),
            Ok(false) => odd("no file"),
            Err(source) => Err(IpamError::Io { step: "read", path, source }),
        }
    }

    /// Puts a lease into the directory; it is an error if there is one.
    fn create(&self, lease: &Lease) -> Result<(), IpamError> {
        let path = self.path(lease.address);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(io_error("create", &path))?;
        let written = super::fault::point("add:lease-empty")
            .map_err(IpamError::from)
            .and_then(|()| file.write_all(lease.content().as_bytes()).map_err(io_error("write", &path)));
        if written.is_err() {
            let _ = fs::remove_file(&path);
        }
        written
    }

    fn remove(&self, state: &mut State, address: Ipv4Addr) -> Result<(), IpamError> {
        let path = self.path(address);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(IpamError::Io { step: "remove", path, source });
            }
            _ => {}
        }
        state.leases.remove(&address);
        state.releases += 1;
        state.released.insert(address, state.releases);
        Ok(())
    }

    /// Makes the directory's entries survive a power failure.
    fn sync(&self) -> Result<(), IpamError> {
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(io_error("sync", &self.dir))
    }

    /// Notes where the next search starts. Only a hint, so it may get lost.
    fn remember_last(&self, state: &mut State, address: Ipv4Addr) {
        state.last = Some(address);
        let path = self.dir.join(LAST_RESERVED);
        let text = address.to_string();
        // Cut afterwards: a file that is made empty first has its block freed, for which some disks have the writer wait.
        let noted = open(OpenOptions::new().write(true).create(true).truncate(false).mode(0o600), &path)
            .and_then(|mut file| {
                file.write_all(text.as_bytes()).and_then(|()| file.set_len(text.len() as u64))
            });
        if let Err(error) = noted {
            warn!(%error, "could not note the last leased address in {}", self.dir.display());
        }
    }

    fn path(&self, address: Ipv4Addr) -> PathBuf {
        self.dir.join(address.to_string())
    }
}

/// Opens a file that may be something else by now: nobody waits for a pipe, and no link is followed.
fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    options.custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW).open(path)
}

fn io_error(step: &'static str, path: &Path) -> impl Fn(io::Error) -> IpamError {
    move |source| IpamError::Io { step, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests;
