//! A search for secrets: in files, in a log, and in the memory of another process.
//!
//! Memory is read from `/proc`, so on Linux only. Freed memory that is not yet overwritten is searched, too: a core dump
//! would hold it as well.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom},
    path::Path,
    process::Child,
};

use memchr::memmem::Finder;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

/// Bytes of a process that are looked at together.
const WINDOW_BYTES: usize = 1 << 20;

/// Something to look for.
#[derive(Debug)]
pub struct Needle {
    /// Its name in the report.
    pub name: String,
    finder: Finder<'static>,
}

impl Needle {
    /// Bytes, at least eight: fewer turn up by chance.
    #[must_use]
    pub fn new(name: impl Into<String>, bytes: &[u8]) -> Self {
        Self {
            name: name.into(),
            finder: Finder::new(bytes).into_owned(),
        }
    }

    fn is_in(&self, bytes: &[u8]) -> bool {
        self.finder.find(bytes).is_some()
    }
}

/// The names of the needles that are in some bytes.
#[must_use]
pub fn found_in(bytes: &[u8], needles: &[Needle]) -> Vec<String> {
    let found = needles.iter().filter(|needle| needle.is_in(bytes));
    found.map(|needle| needle.name.clone()).collect()
}

/// The names of the needles that are in the files of a folder, or in their names, with the file.
///
/// # Errors
/// If a file cannot be read.
pub fn found_in_folder(folder: &Path, needles: &[Needle]) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let in_name = found_in(path.to_string_lossy().as_bytes(), needles);
        let inside = if path.is_dir() {
            found_in_folder(&path, needles)?
        } else {
            found_in(&fs::read(&path)?, needles)
        };
        let place = path.display();
        found.extend(in_name.iter().chain(&inside).map(|name| format!("{name} in {place}")));
    }
    Ok(found)
}

/// The names of the needles in the memory of a process, in all readable parts: heap, stacks, mapped files, and its
/// program. The process is stopped meanwhile, so that nothing moves past the search. Returns them with the number of
/// bytes read.
///
/// # Errors
/// If the process has ended, is no child of this one, or its memory may not be read. The search skips only memory past
/// the end of a mapped file, which nobody can read, and the kernel's own pages.
pub fn found_in_memory(process: &Child, needles: &[Needle]) -> io::Result<(Vec<String>, u64)> {
    let _stopped = Stopped::now(process)?;
    let process_id = process.id();
    let maps = fs::read_to_string(format!("/proc/{process_id}/maps"))?;
    let mut memory = File::open(format!("/proc/{process_id}/mem"))?;
    let overlap = needles
        .iter()
        .map(|needle| needle.finder.needle().len())
        .max()
        .unwrap_or(0);
    let mut found: Vec<String> = Vec::new();
    let mut read_bytes = 0;
    let mut window = vec![0; WINDOW_BYTES];
    for region in maps.lines().filter_map(Region::readable) {
        let mut at = region.start;
        while at < region.end {
            let wanted = usize::try_from(region.end - at)
                .unwrap_or(WINDOW_BYTES)
                .min(WINDOW_BYTES);
            memory.seek(SeekFrom::Start(at))?;
            let length = match memory.read(&mut window[..wanted]) {
                Ok(length) if length > 0 => length,
                // Behind the end of the file.
                _ if region.is_file => break,
                Ok(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) => return Err(error),
            };
            read_bytes += length as u64;
            found.extend(found_in(&window[..length], needles));
            // A needle across two windows is whole in the second.
            let step = if length == wanted && wanted == WINDOW_BYTES {
                length - overlap
            } else {
                length
            };
            at += step as u64;
        }
    }
    found.sort();
    found.dedup();
    Ok((found, read_bytes))
}

/// A child that is stopped, until this is dropped.
struct Stopped(Pid);

impl Stopped {
    fn now(process: &Child) -> io::Result<Self> {
        let pid = i32::try_from(process.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or(io::ErrorKind::InvalidInput)?;
        kill_process(pid, Signal::STOP)?;
        let stopped = Self(pid);
        // The signal takes its time to reach every thread.
        match waitpid(Some(pid), WaitOptions::UNTRACED)? {
            Some((_, status)) if status.stopped() => Ok(stopped),
            _ => Err(io::Error::other("the process ended before it was stopped")),
        }
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // If it is gone, nothing waits for it.
        let _ = kill_process(self.0, Signal::CONT);
    }
}

/// A part of a process's memory.
struct Region {
    start: u64,
    end: u64,
    is_file: bool,
}

impl Region {
    /// From a line of `maps`, if the process can read there: `7f12-7f34 rw-p 00000000 08:01 42 /some/file`. The pages in
    /// which the kernel shows the time are not readable from outside, and hold nothing of the process.
    fn readable(line: &str) -> Option<Self> {
        let mut columns = line.split_ascii_whitespace();
        let (start, end) = columns.next()?.split_once('-')?;
        let access = columns.next()?;
        let name = columns.nth(3).unwrap_or_default();
        let is_kernels = name.starts_with("[vvar") || name == "[vsyscall]";
        (access.starts_with('r') && !is_kernels).then_some(())?;
        Some(Self {
            start: u64::from_str_radix(start, 16).ok()?,
            end: u64::from_str_radix(end, 16).ok()?,
            is_file: name.starts_with('/'),
        })
    }
}
