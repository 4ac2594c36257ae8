//! The blocking loops of a transfer: read, hash and seal; and open, hash and write.
//!
//! They run on threads of their own and talk to the network side through a short channel, which bounds the memory.

use std::{
    io::{self, Read, Write},
    sync::Arc,
};

use bytes::Bytes;
use rand::rngs::OsRng;
use sha2::{Digest as _, Sha256};
use synckit_crypto::{
    StreamKeys,
    blob::{BlobDecryptor, BlobEncryptor, BlobHash},
};
use synckit_protocol::{BlobId, SealedHash};
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use crate::{
    error::{Error, Result},
    tampering::Tampering,
};

/// Bytes of a file that are read and sealed at once.
const CHUNK_BYTES: usize = 256 * 1024;
/// Chunks between the sealing thread and the network.
pub(super) const CHUNKS_WAITING: usize = 4;

/// The file to seal, and its expected hash and size.
#[derive(Clone, Copy)]
pub(super) struct Plan {
    pub(super) hash: BlobHash,
    pub(super) blob_id: BlobId,
    pub(super) size: u64,
}

/// The reason why sealing stopped early.
#[derive(Debug)]
pub(super) enum SealStop {
    /// The file is not the hashed one.
    Changed,
    /// The file could not be read.
    Io(io::Error),
    /// The receiver ended.
    Cancelled,
}

impl SealStop {
    /// The error of an upload that stopped for this reason; `None` if the network was the cause.
    pub(super) fn error(&self) -> Option<Error> {
        match self {
            Self::Changed => Some(Error::FileChanged),
            Self::Io(error) => Some(Error::Io(io::Error::new(error.kind(), error.to_string()))),
            Self::Cancelled => None,
        }
    }
}

/// How a file is sealed in one attempt: the key and a fresh nonce.
pub(super) struct Sealing {
    keys: Arc<StreamKeys>,
    nonce: [u8; 24],
}

impl Sealing {
    pub(super) fn new(keys: &Arc<StreamKeys>, plan: &Plan) -> Self {
        let (_, nonce) = BlobEncryptor::new(&keys.blob, &keys.key_id, &plan.blob_id, &mut OsRng);
        Self {
            keys: Arc::clone(keys),
            nonce,
        }
    }

    /// Seals a file only to hash the result, which is the only part that leaves the device. Whether the file is still the
    /// hashed one is checked when it is sent.
    pub(super) fn hash(&self, plan: &Plan, file: impl Read) -> Result<SealedHash, SealStop> {
        self.seal(plan, file, Check::Later, |_| Ok(()))
    }

    /// Seals the file into `chunks`, to the same bytes as [`Sealing::hash`], and returns their hash. A sealing is sent once:
    /// a second attempt needs another, because a file that changed in between must not meet the same key stream.
    pub(super) fn send(
        self,
        plan: &Plan,
        file: impl Read,
        chunks: &mpsc::Sender<io::Result<Bytes>>,
    ) -> Result<SealedHash, SealStop> {
        self.seal(plan, file, Check::Now, |sealed| {
            chunks.blocking_send(Ok(sealed)).map_err(|_| SealStop::Cancelled)
        })
    }

    /// Seals a file piece by piece. With [`Check::Now`] the last 16 bytes, without which the object is incomplete, come only
    /// after the file's hash was checked: a file that changed in between never becomes a complete object.
    fn seal(
        &self,
        plan: &Plan,
        mut file: impl Read,
        check: Check,
        mut put: impl FnMut(Bytes) -> Result<(), SealStop>,
    ) -> Result<SealedHash, SealStop> {
        let keys = &self.keys;
        let mut encryptor = BlobEncryptor::danger_again(&keys.blob, &keys.key_id, &plan.blob_id, &self.nonce);
        let (mut hash, mut sealed_hash) = (Sha256::new(), Sha256::new());
        let mut put = |sealed: Bytes| {
            sealed_hash.update(&sealed);
            put(sealed)
        };
        put(Bytes::copy_from_slice(&self.nonce))?;
        let mut left = plan.size;
        while left > 0 {
            let length = usize::try_from(left).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
            let mut chunk = vec![0; length];
            file.read_exact(&mut chunk).map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => SealStop::Changed,
                _ => SealStop::Io(error),
            })?;
            if check == Check::Now {
                hash.update(&chunk);
            }
            encryptor.update(&mut chunk).map_err(|_| SealStop::Changed)?;
            put(chunk.into())?;
            left -= length as u64;
        }
        let mut more = [0];
        let grew = file.read(&mut more).map_err(SealStop::Io)? != 0;
        let is_other = check == Check::Now && BlobHash::from_bytes(hash.finalize().into()) != plan.hash;
        if grew || is_other {
            return Err(SealStop::Changed);
        }
        put(Bytes::copy_from_slice(&encryptor.finish()))?;
        Ok(SealedHash::from_bytes(sealed_hash.finalize().into()))
    }
}

/// When the hash of a file is compared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Check {
    Now,
    Later,
}

/// Opens a sealed file of `size` bytes from `chunks` into `out`, and returns its hash, for the caller to compare with
/// the requested one. `out` must be private until then, because its bytes are unverified.
pub(super) fn open_into(
    keys: &StreamKeys,
    blob_id: &BlobId,
    size: u64,
    chunks: &mut mpsc::Receiver<Bytes>,
    out: &mut impl Write,
) -> Result<BlobHash> {
    let forged = |reason| Error::Tampering(Tampering::BlobForged { reason });
    let mut sealed = Pieces {
        chunks,
        rest: Bytes::new(),
    };
    let nonce = sealed.take_array::<24>().ok_or(forged("it is too short"))?;
    let mut decryptor = BlobDecryptor::new(&keys.blob, &keys.key_id, blob_id, &nonce);
    let mut hash = Sha256::new();
    let mut buffer = Zeroizing::new(Vec::new());
    let mut left = size;
    while left > 0 {
        let piece = sealed.next(left).ok_or(forged("it is too short"))?;
        left -= piece.len() as u64;
        buffer.clear();
        buffer.extend_from_slice(&piece);
        decryptor
            .update_unverified(&mut buffer)
            .map_err(|_| forged("it is too long"))?;
        hash.update(&buffer[..]);
        out.write_all(&buffer)?;
    }
    let tag = sealed.take_array::<16>().ok_or(forged("it is too short"))?;
    if sealed.next(1).is_some() {
        return Err(forged("it is too long"));
    }
    decryptor
        .finish(&tag)
        .map_err(|_| forged("it was not sealed by a device of this user for this file"))?;
    out.flush()?;
    Ok(BlobHash::from_bytes(hash.finalize().into()))
}

/// The chunks of a body, cut at the borders of the format, not of the network.
struct Pieces<'a> {
    chunks: &'a mut mpsc::Receiver<Bytes>,
    rest: Bytes,
}

impl Pieces<'_> {
    /// At most `limit` bytes; `None` at the end.
    fn next(&mut self, limit: u64) -> Option<Bytes> {
        while self.rest.is_empty() {
            self.rest = self.chunks.blocking_recv()?;
        }
        let length = usize::try_from(limit).map_or(self.rest.len(), |limit| limit.min(self.rest.len()));
        Some(self.rest.split_to(length))
    }

    fn take_array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let mut array = [0; N];
        let mut filled = 0;
        while filled < N {
            let piece = self.next((N - filled) as u64)?;
            array[filled..filled + piece.len()].copy_from_slice(&piece);
            filled += piece.len();
        }
        Some(array)
    }
}
