//! What the agent keeps in memory, on every node of a cluster.
//!
//! Two thirds of an agent without pods is its own code. The start runs much of it that nothing runs again (command line,
//! YAML or the first lists of the API server, taking over what there is), and the kernel maps 64 KiB around each function that
//! runs. Some time after the start all of that is given back; what is in use comes again from the page cache, or from the disk
//! where memory is so short that the cache has let go of it.

#![allow(unsafe_code)] // mallopt, malloc_trim and madvise have no safe binding.

use std::ops::Range;
use std::time::Duration;
use std::{fs, io};

use nix::errno::Errno;
use nix::libc;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::debug;

use super::status::Status;

/// After the first flows: pods of before have been brought together by then, and the first probes have asked.
const SETTLED: Duration = Duration::from_secs(10);

/// Has all threads take memory from one place instead of one each: what one frees another can use. To be called before
/// there is a second thread.
pub fn one_arena() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt(3) sets a number of the allocator's, and there is no other thread yet.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Waits for the first flows, and then for a while; gives back what only the start needed.
pub async fn after_the_start(mut status: watch::Receiver<Status>) {
    if status.wait_for(|status| status.ready).await.is_err() {
        return;
    }
    sleep(SETTLED).await;
    match spawn_blocking(give_back).await.map_err(io::Error::from).flatten() {
        Ok(bytes) => debug!(kib = bytes / 1024, "gave back what only the start needed"),
        Err(error) => debug!("what only the start needed stays in memory: {error}"),
    }
}

/// Unmaps the program's code until it is used again, and returns freed memory. Gives back how many bytes of code there are.
fn give_back() -> io::Result<usize> {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) may be called at any time, and touches only what is free.
    unsafe {
        libc::malloc_trim(0);
    }
    let mut bytes = 0;
    for Range { start, end } in unwritten_code(&fs::read_to_string("/proc/self/smaps")?) {
        // SAFETY: a mapping of a file that nobody has written to, of a program or a library, which are not unloaded: the
        // kernel reads its pages again from the file as they are touched.
        let told = unsafe {
            libc::madvise(std::ptr::with_exposed_provenance_mut(start), end - start, libc::MADV_DONTNEED)
        };
        Errno::result(told)?;
        bytes += end - start;
    }
    Ok(bytes)
}

/// The mappings of code, of files and as they are there, and the constants right before each, from proc_pid_smaps(5).
fn unwritten_code(smaps: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    // The last mapping of constants and the one that the lines are about.
    let mut before: Option<Mapping<'_>> = None;
    let mut this: Option<Mapping<'_>> = None;
    for line in smaps.lines() {
        if let Some(mapping) = Mapping::of(line) {
            before = this.replace(mapping).filter(|mapping| mapping.unwritten && mapping.access == "r--p");
        } else if line.strip_prefix("Anonymous:").is_some_and(|size| size.trim() == "0 kB")
            && let Some(this) = &mut this
        {
            this.unwritten = true;
            if this.access == "r-xp" {
                let of_it = |mapping: &Mapping<'_>| {
                    mapping.file == this.file && mapping.range.end == this.range.start
                };
                found.extend(before.take().filter(of_it).map(|mapping| mapping.range));
                found.push(this.range.clone());
            }
        }
    }
    found
}

/// A mapping of a file.
struct Mapping<'a> {
    range: Range<usize>,
    access: &'a str,
    file: &'a str,
    /// All of its pages are the file's.
    unwritten: bool,
}

impl<'a> Mapping<'a> {
    /// `START-END ACCESS OFFSET DEVICE INODE PATH`; of one without a file no access, so that nobody takes it for code.
    fn of(line: &'a str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let number = |text| usize::from_str_radix(text, 16).ok();
        let range = number(start)?..number(end)?;
        let (access, file) = (words.next()?, words.nth(3).unwrap_or_default());
        let access = if file.starts_with('/') { access } else { "" };
        Some(Self { range, access, file, unwritten: false })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn code_of_files_that_nobody_has_written_to() {
        let mapping = |head: &str, anonymous: u32| {
            format!(
                "{head}\nRss:                  12 kB\nAnonymous:            {anonymous} kB\nVmFlags: rd ex\n"
            )
        };
        let smaps = [
            mapping("1000-2000 r--p 00000000 fe:00 7    /usr/bin/sdn-node", 0),
            mapping("2000-5000 r-xp 00001000 fe:00 7    /usr/bin/sdn-node", 0),
            mapping("5000-6000 r--p 00004000 fe:00 7    /usr/bin/sdn-node", 4),
            mapping("6000-7000 rw-p 00005000 fe:00 7    /usr/bin/sdn-node", 4),
            mapping("8000-9000 rw-p 00000000 00:00 0    [heap]", 4),
            mapping("a000-b000 r--p 00000000 fe:00 8    /usr/lib/locale/C.utf8/LC_CTYPE", 0),
            // Constants with a relocation, and code that a debugger has a breakpoint in.
            mapping("b000-c000 r--p 00000000 fe:00 9    /usr/lib/libc.so.6", 4),
            mapping("c000-d000 r-xp 00001000 fe:00 9    /usr/lib/libc.so.6", 0),
            mapping("d000-e000 r-xp 00001000 fe:00 10    /usr/lib/libm.so.6", 4),
            mapping("f000-f800 r-xp 00000000 00:00 0    [vdso]", 0),
            mapping("f800-f900 r-xp 00000000 00:00 0", 0),
        ];
        assert_eq!(unwritten_code(&smaps.concat()), [0x1000..0x2000, 0x2000..0x5000, 0xc000..0xd000]);
        assert!(unwritten_code("no such thing\n\n").is_empty());
    }

    #[test]
    fn everything_goes_on_without_it() {
        let before = std::hint::black_box(vec![1_u8; 1 << 20]);
        assert!(give_back().unwrap() > 1 << 20);
        assert!(before.iter().all(|byte| *byte == 1));
        assert!(give_back().unwrap() > 1 << 20);
    }
}
