//! Uploads of this client that are not confirmed yet.

use std::collections::VecDeque;

use parking_lot::Mutex;
use synckit_crypto::blob::BlobHash;
use synckit_protocol::UploadId;

/// The most uploads between `blob_upload_url` and `blob_confirm`; past it, the oldest is forgotten. A forgotten upload
/// is still confirmed, by its size.
const PENDING_UPLOADS_MAX: usize = 256;

/// The unconfirmed upload of each file.
#[derive(Debug, Default)]
pub(crate) struct PendingUploads(Mutex<VecDeque<(BlobHash, UploadId)>>);

impl PendingUploads {
    pub(crate) fn insert(&self, hash: BlobHash, upload_id: UploadId) {
        let mut pending = self.0.lock();
        pending.retain(|(pending, _)| *pending != hash);
        if pending.len() == PENDING_UPLOADS_MAX {
            pending.pop_front();
        }
        pending.push_back((hash, upload_id));
    }

    pub(crate) fn find(&self, hash: &BlobHash) -> Option<UploadId> {
        let pending = self.0.lock();
        let found = pending.iter().find(|(pending, _)| pending == hash);
        found.map(|(_, upload_id)| *upload_id)
    }

    /// Whether this client began or went on with an upload.
    pub(crate) fn has(&self, upload_id: UploadId) -> bool {
        self.0.lock().iter().any(|(_, pending)| *pending == upload_id)
    }

    pub(crate) fn remove(&self, hash: &BlobHash) {
        self.0.lock().retain(|(pending, _)| pending != hash);
    }
}
