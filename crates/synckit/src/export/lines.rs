//! An export as JSON lines: one change per line, in the order of the log.
//!
//! `{"table": text, "op": "insert" | "update" | "delete", "row_id": text, "timestamp": microseconds since 1970, "data": ...}`,
//! without `data` where the change has none.

use std::{
    fs::File,
    io::{BufWriter, Seek as _, SeekFrom, Write as _},
    path::Path,
};

use anyhow::{Context as _, bail};
use synckit_client::{ChangeEntry, Cursor};

use super::place::{Saved, open_private_file};

/// The growing file.
#[derive(Debug)]
pub(super) struct Lines {
    file: BufWriter<File>,
    written: Saved,
}

impl Lines {
    /// Continues after the saved part, and removes later bytes.
    pub(super) fn open(path: &Path, saved: Saved) -> anyhow::Result<Self> {
        let mut file = open_private_file(path).with_context(|| format!("cannot write {}", path.display()))?;
        if file.metadata()?.len() < saved.bytes {
            bail!(
                "{} is shorter than the data written to it: use --force to start again",
                path.display()
            );
        }
        file.set_len(saved.bytes)?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self {
            file: BufWriter::with_capacity(1 << 18, file),
            written: saved,
        })
    }

    /// The number of written lines and bytes.
    pub(super) fn written(&self) -> Saved {
        self.written
    }

    pub(super) fn write(&mut self, changes: &[ChangeEntry], next: Cursor) -> anyhow::Result<()> {
        for change in changes {
            let mut line = serde_json::to_vec(change)?;
            line.push(b'\n');
            self.file.write_all(&line)?;
            self.written.bytes += line.len() as u64;
        }
        self.written.changes += changes.len() as u64;
        self.written.cursor = next;
        Ok(())
    }

    /// Makes the written data durable.
    pub(super) fn save(&mut self) -> anyhow::Result<Saved> {
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        Ok(self.written)
    }
}
