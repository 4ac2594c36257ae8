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
use synckit_store::{ExportCursor, Store, StoreError, TaskLost};

use crate::platform::compute;

/// Bytes of a page, unless its last line is larger: a batch or a part of a snapshot has up to 4 MiB.
const PAGE_BYTES: usize = 256 * 1024;

/// The reason why an export stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExportError {
    /// The account does not exist, or was deleted during the export.
    #[error("the account no longer exists")]
    AccountGone,
    /// The store failed.
    #[error("the account could not be read")]
    Store(#[from] StoreError),
    /// A line could not be encoded.
    #[error("a line could not be encoded")]
    Encode(#[from] serde_json::Error),
    /// The encoding did not come to its end.
    #[error("the lines could not be encoded")]
    Lost(#[source] TaskLost),
}

/// An export under way.
pub(crate) struct Export<F> {
    store: Arc<dyn Store>,
    user_id: UserId,
    /// Adds data to a blob that the store does not have.
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

    /// The number of lines so far.
    pub(crate) fn lines(&self) -> u64 {
        self.lines
    }

    /// The next lines; `None` after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, ExportError> {
        let mut lines = Vec::new();
        let after = match mem::replace(&mut self.next, Next::Nothing) {
            Next::Begin { created_at } => {
                lines.push(ExportLine::Begin {
                    format: EXPORT_FORMAT,
                    user_id: self.user_id,
                    created_at,
                });
                None
            }
            Next::Page(cursor) => Some(cursor),
            Next::End => {
                let end = ExportLine::End { lines: self.lines };
                return self.encoded(vec![end]).await.map(Some);
            }
            Next::Nothing => return Ok(None),
        };
        let page = self.store.export(self.user_id, after, PAGE_BYTES).await?;
        let page = page.ok_or(ExportError::AccountGone)?;
        for mut line in page.lines {
            if let ExportLine::Blob(blob) = &mut line {
                (self.complete_blob)(blob);
            }
            lines.push(line);
        }
        self.next = page.next.map_or(Next::End, Next::Page);
        self.encoded(lines).await.map(Some)
    }

    /// Off the threads that answer requests: a page is a megabyte of text and more.
    async fn encoded(&mut self, lines: Vec<ExportLine>) -> Result<Bytes, ExportError> {
        self.lines += lines.len() as u64;
        let encoding = compute(move || {
            let mut text = Vec::new();
            for line in &lines {
                serde_json::to_writer(&mut text, line)?;
                text.push(b'\n');
            }
            Ok(text.into())
        });
        encoding.await.map_err(ExportError::Lost)?
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
