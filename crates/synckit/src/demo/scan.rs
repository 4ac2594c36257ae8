//! The search for plaintext: every value of the data, in every file of the server.
//!
//! A needle is a value of 8 bytes or more, or 32 bytes of a longer value, taken after a run of equal bytes: a file that
//! contains the value contains each part of it. Needles that also occur in an empty server's files (`SQLite format 3`,
//! zeros) prove nothing. They are listed and set aside before anything is pushed.
//!
//! Files are read once, in overlapping pieces, and memory does not grow with their size.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use indicatif::ProgressBar;

use super::dataset::{Cell, Dataset, DatasetFile};

/// The shortest value to search for: shorter ones occur in random bytes by chance.
pub(super) const NEEDLE_BYTES_MIN: usize = 8;
/// The most bytes of a needle.
const NEEDLE_BYTES_MAX: usize = 32;
/// Samples per file, spread over it.
const SAMPLES_PER_FILE: u64 = 16;
/// The fewest distinct bytes of a sample; a sample with fewer is padding.
const SAMPLE_VARIETY_MIN: usize = 8;
/// The fewest distinct bytes among the first 8 bytes of a needle, if possible.
const START_VARIETY_MIN: usize = 4;
/// The part of a value that is searched for such a beginning.
const BEGIN_MAX: usize = 4096;
/// Bytes per read of a file.
const PIECE_BYTES: usize = 1 << 20;

/// The most needles, so that a large dataset fits into memory; the demo reports how many were left out.
const NEEDLES_MAX: usize = 2_000_000;

/// The byte strings to search for.
#[derive(Debug, Default)]
pub(super) struct Needles {
    values: BTreeSet<Box<[u8]>>,
    /// Number of values past the limit.
    left_out: u64,
}

impl Needles {
    /// Adds a value, if it is long enough.
    pub(super) fn add(&mut self, value: &[u8]) {
        if value.len() < NEEDLE_BYTES_MIN {
            return;
        }
        // Every database contains runs of zeros; a needle that begins with one would be compared in all of them.
        let varied = |start: &[u8]| start.iter().collect::<BTreeSet<_>>().len() >= START_VARIETY_MIN;
        let begin = value
            .windows(NEEDLE_BYTES_MIN)
            .take(BEGIN_MAX)
            .position(varied)
            .unwrap_or(0);
        let needle = &value[begin..value.len().min(begin + NEEDLE_BYTES_MAX)];
        if self.values.len() < NEEDLES_MAX {
            self.values.insert(needle.into());
        } else if !self.values.contains(needle) {
            self.left_out += 1;
        }
    }

    /// Adds all plaintext of a dataset.
    pub(super) fn add_dataset(&mut self, dataset: &Dataset) -> anyhow::Result<()> {
        for table in &dataset.tables {
            self.add(table.name.as_bytes());
            table.columns.iter().for_each(|column| self.add(column.as_bytes()));
        }
        dataset.visit(&mut |_, row| {
            self.add(row.id.as_bytes());
            row.cells
                .iter()
                .filter_map(Cell::payload)
                .for_each(|value| self.add(value));
            Ok(())
        })?;
        dataset.files.iter().try_for_each(|file| self.add_file(file))
    }

    fn add_file(&mut self, file: &DatasetFile) -> anyhow::Result<()> {
        self.add(&file.name);
        let samples = || -> io::Result<()> {
            let mut source = File::open(&file.path)?;
            let last = file.size.saturating_sub(NEEDLE_BYTES_MAX as u64);
            for sample in 0..SAMPLES_PER_FILE {
                source.seek(SeekFrom::Start(last * sample / (SAMPLES_PER_FILE - 1)))?;
                let mut bytes = Vec::with_capacity(NEEDLE_BYTES_MAX);
                source.by_ref().take(NEEDLE_BYTES_MAX as u64).read_to_end(&mut bytes)?;
                if bytes.iter().collect::<BTreeSet<_>>().len() >= SAMPLE_VARIETY_MIN {
                    self.add(&bytes);
                }
            }
            Ok(())
        };
        let mut samples = samples;
        samples().with_context(|| format!("cannot read {}", file.path.display()))
    }

    /// Removes needles that were found before any data could leak, and returns them.
    pub(super) fn set_aside(&mut self, found: &Findings) -> Vec<String> {
        found
            .needles
            .keys()
            .filter(|needle| self.values.remove(*needle))
            .map(|needle| shown(needle))
            .collect()
    }

    pub(super) fn len(&self) -> u64 {
        self.values.len() as u64
    }

    /// The number of values that did not fit into memory.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }

    /// A needle, to be planted.
    pub(super) fn any(&self) -> Option<&[u8]> {
        // The longest one is the least likely to occur by chance.
        self.values.iter().max_by_key(|needle| needle.len()).map(AsRef::as_ref)
    }
}

/// The result of a search.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// Each needle that was found, and a file that contains it.
    needles: BTreeMap<Box<[u8]>, PathBuf>,
}

impl Findings {
    pub(super) fn is_empty(&self) -> bool {
        self.needles.is_empty()
    }

    /// Whether this file contains the needle, and no other file contains any. A value may contain others, so this file
    /// may contain more needles.
    pub(super) fn is_only_in(&self, needle: &[u8], path: &Path) -> bool {
        self.needles.contains_key(needle) && self.needles.values().all(|found| found == path)
    }

    /// The first few, for display.
    pub(super) fn shown(&self) -> Vec<String> {
        self.needles
            .iter()
            .take(5)
            .map(|(needle, path)| format!("{} in {}", shown(needle), path.display()))
            .collect()
    }
}

/// A search for many needles at once.
#[derive(Debug)]
pub(super) struct Search<'a> {
    /// Needles by their first 8 bytes.
    by_start: HashMap<u64, Vec<&'a [u8]>>,
    /// A bit for each hash of a start: one lookup here dismisses almost every place of a file.
    starts: Vec<u64>,
}

/// Bits in the filter: 2 MiB, enough to dismiss nearly all places with a million needles.
const FILTER_BITS_LOG2: u32 = 24;

impl<'a> Search<'a> {
    pub(super) fn new(needles: &'a Needles) -> Self {
        let mut by_start: HashMap<u64, Vec<&[u8]>> = HashMap::new();
        let mut starts = vec![0; 1 << (FILTER_BITS_LOG2 - 6)];
        for needle in &needles.values {
            if let Some(start) = needle.first_chunk() {
                let start = u64::from_be_bytes(*start);
                by_start.entry(start).or_default().push(needle);
                let (word, bit) = filter_place(start);
                starts[word] |= bit;
            }
        }
        Self { by_start, starts }
    }

    /// Searches every file below a directory. The bar shows the bytes read.
    pub(super) fn directory(&self, directory: &Path, bar: &ProgressBar) -> anyhow::Result<Findings> {
        let mut findings = Findings::default();
        let mut directories = vec![directory.to_owned()];
        let mut buffer = Vec::with_capacity(PIECE_BYTES + NEEDLE_BYTES_MAX);
        while let Some(directory) = directories.pop() {
            let failed = || format!("cannot search {}", directory.display());
            for entry in fs::read_dir(&directory).with_context(failed)? {
                let entry = entry.with_context(failed)?;
                let kind = entry.file_type().with_context(failed)?;
                if kind.is_dir() {
                    directories.push(entry.path());
                } else if kind.is_file() {
                    let path = entry.path();
                    self.file(&path, &mut buffer, &mut findings, bar)
                        .with_context(|| format!("cannot search {}", path.display()))?;
                }
            }
        }
        Ok(findings)
    }

    fn file(&self, path: &Path, buffer: &mut Vec<u8>, findings: &mut Findings, bar: &ProgressBar) -> io::Result<()> {
        let mut file = File::open(path)?;
        buffer.clear();
        findings.files += 1;
        loop {
            let read = file.by_ref().take(PIECE_BYTES as u64).read_to_end(buffer)?;
            findings.bytes += read as u64;
            bar.inc(read as u64);
            self.piece(buffer, |needle| {
                findings.needles.entry(needle.into()).or_insert_with(|| path.to_owned());
            });
            if read == 0 {
                return Ok(());
            }
            // A needle may begin in this piece and end in the next.
            let keep = buffer.len().min(NEEDLE_BYTES_MAX - 1);
            buffer.drain(..buffer.len() - keep);
        }
    }

    fn piece(&self, piece: &[u8], mut found: impl FnMut(&[u8])) {
        let mut start = 0_u64;
        for (end, byte) in piece.iter().enumerate() {
            start = start << 8 | u64::from(*byte);
            let (word, bit) = filter_place(start);
            if end + 1 < NEEDLE_BYTES_MIN || self.starts[word] & bit == 0 {
                continue;
            }
            let rest = &piece[end + 1 - NEEDLE_BYTES_MIN..];
            for needle in self.by_start.get(&start).into_iter().flatten() {
                if rest.starts_with(needle) {
                    found(needle);
                }
            }
        }
    }
}

/// The sizes of all files below a directory.
pub(super) fn size_of_files(directory: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() {
            size_of_files(&entry.path())?
        } else {
            metadata.len()
        };
    }
    Ok(bytes)
}

fn filter_place(start: u64) -> (usize, u64) {
    // Fibonacci hashing: the high bits of the product depend on all bits of the start.
    let hash = start.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (64 - FILTER_BITS_LOG2);
    ((hash >> 6) as usize, 1 << (hash & 63))
}

fn shown(needle: &[u8]) -> String {
    match std::str::from_utf8(needle) {
        Ok(text) => format!("{text:?}"),
        Err(_) => needle.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needles(values: &[&[u8]]) -> Needles {
        let mut needles = Needles::default();
        values.iter().for_each(|value| needles.add(value));
        needles
    }

    #[test]
    fn value_is_found_also_across_two_pieces() {
        let value = b"Europe/Zurich (and a long tail of more than 32 bytes)";
        let needles = needles(&[value, b"12345678", b"short"]);
        assert_eq!(needles.len(), 2);
        let search = Search::new(&needles);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        for offset in [
            0,
            1,
            PIECE_BYTES - 40,
            PIECE_BYTES - 31,
            PIECE_BYTES - 8,
            PIECE_BYTES - 1,
            PIECE_BYTES,
            3 * PIECE_BYTES - 5,
        ] {
            let mut content = vec![b'.'; offset];
            content.extend_from_slice(value);
            fs::write(&path, &content).unwrap();
            let findings = search.directory(directory.path(), &ProgressBar::hidden()).unwrap();
            assert!(
                findings.is_only_in(&value[..NEEDLE_BYTES_MAX], &path),
                "at {offset}: {findings:?}"
            );
            assert_eq!(findings.bytes, content.len() as u64);
        }
    }

    #[test]
    fn a_value_that_is_not_there_is_not_found() {
        let needles = needles(&[b"Europe/Zurich", b"Europe/Berlin"]);
        let directory = tempfile::tempdir().unwrap();
        fs::write(
            directory.path().join("file"),
            b"Europe/Zuric Europe/ Berlin EUROPE/ZURICH",
        )
        .unwrap();
        assert!(
            Search::new(&needles)
                .directory(directory.path(), &ProgressBar::hidden())
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn a_value_within_another_is_found_with_it() {
        let needles = needles(&[b"Europe/Zurich", b"near Europe/Zurich"]);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, b"it is near Europe/Zurich.").unwrap();
        let findings = Search::new(&needles)
            .directory(directory.path(), &ProgressBar::hidden())
            .unwrap();
        assert!(findings.is_only_in(b"near Europe/Zurich", &path) && findings.needles.len() == 2);
        fs::write(directory.path().join("other"), b"Europe/Zurich").unwrap();
        fs::remove_file(&path).unwrap();
        let findings = Search::new(&needles)
            .directory(directory.path(), &ProgressBar::hidden())
            .unwrap();
        assert!(!findings.is_only_in(b"Europe/Zurich", &path));
    }

    #[test]
    fn value_with_leading_zeros_is_found() {
        let value = [[0; 100].as_slice(), b"and then words"].concat();
        let needles = needles(&[&value, &[0; 20]]);
        // Five zeros and the first three letters are varied enough.
        assert_eq!(
            needles.values.iter().map(AsRef::as_ref).collect::<Vec<_>>(),
            [&[0; 20][..], &value[95..]]
        );
    }

    #[test]
    fn what_an_empty_server_holds_is_set_aside() {
        let mut needles = needles(&[b"SQLite format 3\0", b"Europe/Zurich"]);
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("file"), b"SQLite format 3\0").unwrap();
        let findings = Search::new(&needles)
            .directory(directory.path(), &ProgressBar::hidden())
            .unwrap();
        assert_eq!(needles.set_aside(&findings), [r#""SQLite format 3\0""#]);
        assert_eq!(needles.any(), Some(b"Europe/Zurich".as_slice()));
    }
}
