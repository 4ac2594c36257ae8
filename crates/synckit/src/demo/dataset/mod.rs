//! The dataset of the demo: the rows of a SQLite database and some files, or the files of a folder.
//!
//! Invariant: a dataset is only read. Its rows are visited twice: to load them into the first device, and to compare
//! them with the rows that arrived at the second.

mod cell;
mod folder;
mod sqlite;

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use anyhow::{Context as _, anyhow};
use synckit_protocol::limits::BLOB_BYTES_MAX;

pub(crate) use self::cell::Cell;
use self::sqlite::Database;
pub(crate) use self::sqlite::{Unreadable, open_without_a_trace, quoted, row_count, row_id};
use crate::{failure::Failure, units};

/// A table of a dataset, as both devices keep it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) columns: Vec<String>,
    /// The column that the devices edit: the last one outside the key, or the last of all.
    pub(crate) edited: usize,
}

/// A row, with a value for each column of its table.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    /// The name of the row within its table, made of its key.
    pub(crate) id: String,
    pub(crate) cells: Vec<Cell>,
}

impl Row {
    /// The size of the row's data in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.cells.iter().map(Cell::size).sum()
    }
}

#[derive(Debug, Clone)]
pub(crate) struct DatasetFile {
    pub(crate) path: PathBuf,
    /// Its path within the dataset, with slashes.
    pub(crate) name: Vec<u8>,
    pub(crate) size: u64,
    /// Microseconds since 1970.
    pub(crate) modified_us: i64,
}

/// The rows and files that the demo syncs.
#[derive(Debug)]
pub(crate) struct Dataset {
    pub(crate) title: String,
    database: Option<Database>,
    pub(crate) tables: Vec<Table>,
    pub(crate) files: Vec<DatasetFile>,
    /// The parts that are not synced, with the reasons.
    pub(crate) left_out: Vec<String>,
}

const TIMEZONES: &[u8] = include_bytes!("../../../../../examples/timezones.sqlite");
const ZONE_TAB: &[u8] = include_bytes!("../../../../../examples/zone1970.tab");
const COUNTRY_TAB: &[u8] = include_bytes!("../../../../../examples/iso3166.tab");

impl Dataset {
    /// The built-in dataset, which is part of the program, written to a directory of the demo first.
    pub(crate) fn built_in(directory: &Path) -> Result<Self, Failure> {
        fs::create_dir_all(directory)?;
        let files = [
            ("timezones.sqlite", TIMEZONES),
            ("zone1970.tab", ZONE_TAB),
            ("iso3166.tab", COUNTRY_TAB),
        ];
        let paths = files.map(|(name, _)| directory.join(name));
        for ((_, content), path) in files.iter().zip(&paths) {
            fs::write(path, content)?;
        }
        let mut dataset = Self::of_database(&paths[0], &paths, directory)?;
        dataset.title = "the IANA time zone tables".to_owned();
        Ok(dataset)
    }

    /// A SQLite database or a folder. `scratch` takes the copies that reading needs.
    pub(crate) fn open(path: &Path, scratch: &Path) -> Result<Self, Failure> {
        let metadata = fs::metadata(path)
            .with_context(|| format!("cannot read {}", path.display()))
            .map_err(|error| {
                Failure::new(
                    error,
                    "give a SQLite database or a folder, or nothing for the built-in dataset",
                )
            })?;
        if metadata.is_dir() {
            return Ok(Self::of_folder(path)?);
        }
        let mut magic = Vec::new();
        fs::File::open(path)
            .and_then(|file| file.take(16).read_to_end(&mut magic))
            .with_context(|| format!("cannot read {}", path.display()))?;
        if magic != b"SQLite format 3\0" {
            return Err(Failure::new(
                anyhow!("{} is neither a SQLite database nor a folder", path.display()),
                "put other files into a folder and give that, or give nothing for the built-in dataset",
            ));
        }
        Self::of_database(path, &[path.to_owned()], scratch)
    }

    fn of_database(path: &Path, files: &[PathBuf], scratch: &Path) -> Result<Self, Failure> {
        let (database, mut left_out) = Database::open(path, scratch)?;
        let files = files
            .iter()
            .map(|path| DatasetFile::of(path, path))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let files = leave_out_large(files, &mut left_out);
        let tables = database.tables();
        Ok(Self {
            title: path.display().to_string(),
            database: Some(database),
            tables,
            files,
            left_out,
        })
    }

    fn of_folder(path: &Path) -> anyhow::Result<Self> {
        let (files, mut left_out) = folder::walk(path)?;
        let files = leave_out_large(files, &mut left_out);
        Ok(Self {
            title: path.display().to_string(),
            database: None,
            tables: Vec::new(),
            files,
            left_out,
        })
    }

    /// The number of rows in all tables.
    pub(crate) fn row_count(&self) -> anyhow::Result<u64> {
        self.database.as_ref().map_or(Ok(0), Database::row_count)
    }

    /// Calls `visit` for every row of every table.
    pub(crate) fn visit(&self, visit: &mut dyn FnMut(&Table, Row) -> anyhow::Result<()>) -> anyhow::Result<()> {
        match &self.database {
            Some(database) => database.visit(visit),
            None => Ok(()),
        }
    }

    /// The table for the devices' records of files; its name is that of no table in the dataset.
    pub(crate) fn file_table(&self) -> Table {
        let mut name = "file".to_owned();
        while self.tables.iter().any(|table| table.name.eq_ignore_ascii_case(&name)) {
            name.push('_');
        }
        let columns = ["path", "size", "sha256", "modified_us"].map(str::to_owned).to_vec();
        Table {
            name,
            edited: columns.len() - 1,
            columns,
        }
    }
}

impl DatasetFile {
    /// A file, named by its path below `root`; if it is `root` itself, by its own name.
    fn of(path: &Path, root: &Path) -> anyhow::Result<Self> {
        let metadata = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
        let relative = match path.strip_prefix(root) {
            Ok(relative) if !relative.as_os_str().is_empty() => relative,
            _ => Path::new(path.file_name().unwrap_or_default()),
        };
        let mut name = Vec::new();
        for (index, part) in relative.components().enumerate() {
            if index > 0 {
                name.push(b'/');
            }
            name.extend_from_slice(part.as_os_str().as_encoded_bytes());
        }
        let modified = metadata
            .modified()
            .ok()
            .and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let modified_us = modified
            .and_then(|since| i64::try_from(since.as_micros()).ok())
            .unwrap_or(0);
        Ok(Self {
            path: path.to_owned(),
            name,
            size: metadata.len(),
            modified_us,
        })
    }

    /// The name for people.
    pub(crate) fn shown_name(&self) -> String {
        String::from_utf8_lossy(&self.name).into_owned()
    }
}

/// Skips files that exceed the limit of a blob.
fn leave_out_large(files: Vec<DatasetFile>, left_out: &mut Vec<String>) -> Vec<DatasetFile> {
    let (files, large): (Vec<_>, Vec<_>) = files.into_iter().partition(|file| file.size <= BLOB_BYTES_MAX);
    left_out.extend(large.iter().map(|file| {
        let limit = units::bytes(BLOB_BYTES_MAX);
        format!(
            "the file {}: it has {}, a blob may have {limit}",
            file.shown_name(),
            units::bytes(file.size)
        )
    }));
    files
}
