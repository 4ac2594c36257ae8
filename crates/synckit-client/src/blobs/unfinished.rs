//! The record of uploads in parts that are not confirmed: how the device goes on with them after a restart.
//!
//! Invariant: a nonce is in the record only with the id of the one file that it seals, which is a hash of the file under a
//! secret key. So no other file ever finds it, and a file that changed is another file.

use serde::{Deserialize, Serialize};
use synckit_protocol::{BlobId, KeyId, UploadId};
use zeroize::Zeroizing;

use crate::{
    error::Result,
    secrets::{
        error::CredentialError,
        records::{Record, Secrets},
    },
    stream::handle::Stream,
};

/// The most unfinished uploads; past it, the oldest is forgotten, and begins again if the app goes on with it.
const UNFINISHED_MAX: usize = 32;

/// An upload that a device can go on with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Unfinished {
    pub(super) blob_id: BlobId,
    /// The key and nonce that every part is sealed with.
    pub(super) key_id: KeyId,
    pub(super) nonce: [u8; 24],
    /// The server's name for the upload.
    pub(super) upload_id: UploadId,
    /// Whether the server knows the hash of the sealed bytes, so that another process may confirm.
    pub(super) names_hash: bool,
}

/// The unfinished upload of a file.
pub(super) async fn find(stream: &Stream, blob_id: BlobId) -> Result<Option<Unfinished>> {
    let user_id = stream.scope().user_id;
    let list = stream
        .connection
        .secrets()
        .run(move |secrets| read(secrets, Record::Uploads(user_id)));
    Ok(list.await?.into_iter().find(|one| one.blob_id == blob_id))
}

/// Notes an upload, before its first byte is sent. Replaces an earlier one of the same file, and returns those that were too many.
pub(super) async fn note(stream: &Stream, new: Unfinished) -> Result<Vec<Unfinished>> {
    change(stream, move |list| {
        list.retain(|one| one.blob_id != new.blob_id);
        let too_many = (list.len() + 1).saturating_sub(UNFINISHED_MAX);
        let forgotten = list.drain(..too_many).collect();
        list.push(new);
        forgotten
    })
    .await
}

/// Forgets an upload: it is confirmed, or cannot go on.
pub(super) async fn forget(stream: &Stream, upload_id: UploadId) -> Result<()> {
    change(stream, move |list| list.retain(|one| one.upload_id != upload_id)).await
}

async fn change<T: Send + 'static>(
    stream: &Stream,
    change: impl FnOnce(&mut Vec<Unfinished>) -> T + Send + 'static,
) -> Result<T> {
    let record = Record::Uploads(stream.scope().user_id);
    let _turn = stream.noting.next().await;
    let changed = stream.connection.secrets().run(move |secrets| {
        let before = read(secrets, record)?;
        let mut after = before.clone();
        let changed = change(&mut after);
        if after.is_empty() && !before.is_empty() {
            secrets.delete(record)?;
        } else if after != before {
            let bytes = minicbor_serde::to_vec(&after).map_err(|_| CredentialError::Damaged("uploads"))?;
            secrets.write(record, &Zeroizing::new(bytes))?;
        }
        Ok(changed)
    });
    changed.await
}

/// A damaged record is none: then an upload begins again, under a nonce of its own.
fn read(secrets: &Secrets, record: Record) -> Result<Vec<Unfinished>, CredentialError> {
    let bytes = secrets.read(record)?;
    let list = bytes.and_then(|bytes| minicbor_serde::from_slice(&bytes).ok());
    Ok(list.unwrap_or_default())
}
