//! An export of an account as JSON lines, made while it is read.
//!
//! One page of the store is in memory at a time, however much an account holds. Between two pages the account may change:
//! each line is as it was when it was read. An export of an account that is deleted meanwhile ends without its last line.

use std::{fmt, mem, sync::Arc};

use bytes::Bytes;
use synckit_protocol::{
    UserId,
    wire::{
        UnixSeconds,
        export::{EXPORT_FORMAT, ExportLine, ExportedBlob},
    },
};
use synckit_store::{ExportCursor, Store, StoreError};

/// Bytes of a page, unless its last line is larger: a batch or a part of a snapshot has up to 4 MiB.
const PAGE_BYTES: usize = 256 * 1024;

/// Why an export does not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExportError {
    /// There is no such account, or it was deleted meanwhile.
    #[error("the account is not there any more")]
    AccountGone,
    /// The store failed.
    #[error("the account could not be read")]
    Store(#[from] StoreError),
    /// A line could not be encoded.
    #[error("a line could not be encoded")]
    Encode(#[from] serde_json::Error),
}

/// An export under way.
pub(crate) struct Export<F> {
    store: Arc<dyn Store>,
    user_id: UserId,
    /// Adds to a blob what the store cannot know.
    complete_blob: F,
    lines: u64,
    next: Next,
}

enum Next {
    Begin { created_at: UnixSeconds },
    Page(ExportCursor),
    End,
    Nothing,
}

impl<F: Fn(&mut ExportedBlob)> Export<F> {
    pub(crate) fn new(store: Arc<dyn Store>, user_id: UserId, created_at: UnixSeconds, complete_blob: F) -> Self {
        Self {
            store,
            user_id,
            complete_blob,
            lines: 0,
            next: Next::Begin { created_at },
        }
    }

    /// How many lines were made so far.
    pub(crate) fn lines(&self) -> u64 {
        self.lines
    }

    /// The next lines; `None` after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, ExportError> {
        let mut text = Vec::new();
        let after = match mem::replace(&mut self.next, Next::Nothing) {
            Next::Begin { created_at } => {
                let begin = ExportLine::Begin {
                    format: EXPORT_FORMAT,
                    user_id: self.user_id,
                    created_at,
                };
                self.write(&mut text, &begin)?;
                None
            }
            Next::Page(cursor) => Some(cursor),
            Next::End => {
                let lines = self.lines;
                self.write(&mut text, &ExportLine::End { lines })?;
                return Ok(Some(text.into()));
            }
            Next::Nothing => return Ok(None),
        };
        let page = self.store.export(self.user_id, after, PAGE_BYTES).await?;
        let page = page.ok_or(ExportError::AccountGone)?;
        for mut line in page.lines {
            if let ExportLine::Blob(blob) = &mut line {
                (self.complete_blob)(blob);
            }
            self.write(&mut text, &line)?;
        }
        self.next = page.next.map_or(Next::End, Next::Page);
        Ok(Some(text.into()))
    }

    fn write(&mut self, text: &mut Vec<u8>, line: &ExportLine) -> Result<(), ExportError> {
        serde_json::to_writer(&mut *text, line)?;
        text.push(b'\n');
        self.lines += 1;
        Ok(())
    }
}

impl<F> fmt::Debug for Export<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Export")
            .field("user_id", &self.user_id)
            .field("lines", &self.lines)
            .finish_non_exhaustive()
    }
}
