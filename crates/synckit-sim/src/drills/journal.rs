//! A client's records before and after each action: on the disk before anything else happens, so that a SIGKILL at any
//! moment leaves the truth behind.
//!
//! One JSON record a line. A line that was cut off by a kill was not written.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, Write as _},
    path::Path,
};

use serde::{Deserialize, Serialize};
use synckit_client::{BatchId, Cursor};

use super::books::Batch;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// A batch is about to be pushed, under this id.
    Pushing {
        /// The id that every attempt carries.
        id: BatchId,
        /// The batch.
        batch: Batch,
    },
    /// The batch was acknowledged.
    Pushed {
        /// The batch.
        batch: Batch,
    },
    /// A page was applied, together with its cursor.
    Applied {
        /// The cursor to continue from.
        cursor: Cursor,
        /// The ids of the rows, in the order of the log.
        rows: Vec<String>,
    },
    /// So many changes of the key were done.
    KeysChanged {
        /// Their number, including this one.
        count: u32,
    },
    /// A file was acknowledged.
    Stored,
}

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    file: File,
}

impl Journal {
    /// Opens a journal, or starts one, and returns its records.
    ///
    /// # Errors
    /// If it cannot be read, or holds records that no client wrote.
    pub fn open(path: &Path) -> io::Result<(Self, Vec<Record>)> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        file.set_len(whole as u64)?;
        file.seek(io::SeekFrom::End(0))?;
        let records = text[..whole]
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<_, _>>()?;
        Ok((Self { file }, records))
    }

    /// Reads a journal whose client has ended.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn read(path: &Path) -> io::Result<Vec<Record>> {
        Ok(Self::open(path)?.1)
    }

    /// Adds a record; it is on the disk when this returns.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&mut self, record: &Record) -> io::Result<()> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        self.file.write_all(&line)?;
        self.file.sync_data()
    }
}
