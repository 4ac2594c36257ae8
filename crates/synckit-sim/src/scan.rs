//! Looking for what must not be there: in files, in a log, and in the memory of another process.
//!
//! Memory is read from `/proc`, so on Linux only. What was freed and not yet written over is found, too: a core dump
//! would hold it as well.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom},
    path::Path,
};

use memchr::memmem::Finder;

/// Bytes of a process that are looked at together.
const WINDOW_BYTES: usize = 1 << 20;

/// Something to look for.
#[derive(Debug)]
pub struct Needle {
    /// What it is, for the report.
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

/// The names of the needles that are in the writable memory of a process. Returns them with how many bytes were read.
///
/// # Errors
/// If the process is gone, or its memory may not be read.
pub fn found_in_memory(process_id: u32, needles: &[Needle]) -> io::Result<(Vec<String>, u64)> {
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
    for (start, end) in maps.lines().filter_map(writable_region) {
        let mut at = start;
        while at < end {
            let wanted = usize::try_from(end - at).unwrap_or(WINDOW_BYTES).min(WINDOW_BYTES);
            memory.seek(SeekFrom::Start(at))?;
            // A region may go away while it is read.
            let Ok(length) = memory.read(&mut window[..wanted]) else {
                break;
            };
            if length == 0 {
                break;
            }
            read_bytes += length as u64;
            found.extend(found_in(&window[..length], needles));
            // What lies across two windows is in the second one whole.
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

/// Start and end of a region that the process can write to: `7f12-7f34 rw-p …`.
fn writable_region(line: &str) -> Option<(u64, u64)> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    rest.starts_with("rw").then_some(())?;
    Some((u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?))
}
