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
use synckit_protocol::{BlobId, Parts, SealedHash, SealedHasher, limits};
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use crate::{
    error::{Error, Result},
    tampering::Tampering,
};

/// Bytes of a file that are read and sealed at once.
const CHUNK_BYTES: usize = 256 * 1024;
/// Bytes of the nonce, with which a sealed file begins.
const NONCE_BYTES: u64 = 24;
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

/// The hash, length and borders of a file, as its first reading found them.
#[derive(Clone)]
pub(super) struct Measured {
    pub(super) hash: BlobHash,
    pub(super) size: u64,
    /// For each part of the sealed file that ends before the file: SHA-256 of the file up to there.
    borders: Vec<[u8; 32]>,
}

impl Measured {
    pub(super) fn read(mut file: impl Read) -> io::Result<Self> {
        let (mut hash, mut size, mut borders) = (Sha256::new(), 0_u64, Vec::new());
        let mut buffer = vec![0; CHUNK_BYTES];
        // The first part begins with the nonce.
        let mut border = limits::UPLOAD_PART_BYTES - NONCE_BYTES;
        loop {
            let most = usize::try_from(border - size).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
            match file.read(&mut buffer[..most])? {
                0 => {
                    return Ok(Self {
                        hash: BlobHash::from_bytes(hash.finalize().into()),
                        size,
                        borders,
                    });
                }
                length => {
                    hash.update(&buffer[..length]);
                    size += length as u64;
                }
            }
            if size == border {
                // A longer file is refused once its length is known.
                if borders.len() < limits::UPLOAD_PARTS_MAX as usize {
                    borders.push(hash.clone().finalize().into());
                }
                border += limits::UPLOAD_PART_BYTES;
            }
        }
    }

    /// SHA-256 of the file up to the end of a part, counted from 0.
    fn up_to(&self, part: usize) -> &[u8; 32] {
        self.borders.get(part).unwrap_or(self.hash.as_bytes())
    }
}

/// How a file is sealed in one attempt: the key and a fresh nonce.
pub(super) struct Sealing {
    keys: Arc<StreamKeys>,
    nonce: [u8; 24],
}

impl Sealing {
    /// The sealing of an upload that is continued: for the same file only.
    pub(super) fn again(keys: &Arc<StreamKeys>, nonce: [u8; 24]) -> Self {
        Self {
            keys: Arc::clone(keys),
            nonce,
        }
    }

    pub(super) fn nonce(&self) -> [u8; 24] {
        self.nonce
    }

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
        let mut hash = Sha256::new();
        let mut sealed_hash = SealedHasher::new(plan.size + limits::SEAL_OVERHEAD_BYTES as u64);
        let mut put = |sealed: Bytes| {
            sealed_hash.update(&sealed);
            put(sealed)
        };
        put(Bytes::copy_from_slice(&self.nonce))?;
        let mut left = plan.size;
        while left > 0 {
            let length = usize::try_from(left).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
            let mut chunk = vec![0; length];
            read_whole(&mut file, &mut chunk)?;
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
        Ok(sealed_hash.finish())
    }
}

/// Seals a file part by part, each in memory as a whole, so that it can be sent again.
///
/// An upload that goes on uses the nonce of the earlier attempt, and two contents under one nonce would reveal both. So the
/// bytes of a part are sealed only after their hash equals the one of the first reading, which found this nonce.
pub(super) struct PartSealer {
    file: Box<dyn Read + Send>,
    measured: Measured,
    parts: Parts,
    /// `None` after the end of the file.
    encryptor: Option<BlobEncryptor>,
    hash: Sha256,
    /// Bytes of the file that are still to be read.
    left: u64,
    /// Sealed bytes that the next part begins with: the nonce, and at the end what is left of the tag.
    next: Vec<u8>,
    number: u32,
}

impl PartSealer {
    pub(super) fn new(
        sealing: &Sealing,
        plan: &Plan,
        (measured, parts): (Measured, Parts),
        file: Box<dyn Read + Send>,
    ) -> Self {
        let Sealing { keys, nonce } = sealing;
        Self {
            file,
            left: plan.size,
            measured,
            parts,
            encryptor: Some(BlobEncryptor::danger_again(
                &keys.blob,
                &keys.key_id,
                &plan.blob_id,
                nonce,
            )),
            hash: Sha256::new(),
            next: nonce.to_vec(),
            number: 0,
        }
    }

    /// The next part and its number; `None` after the last.
    pub(super) fn next_part(&mut self) -> Result<Option<(u32, Bytes)>, SealStop> {
        let index = self.number as usize;
        self.number += 1;
        let Some(size) = self.parts.size_of(self.number) else {
            return Ok(None);
        };
        let size = usize::try_from(size).map_err(|_| SealStop::Changed)?;
        let mut part = Vec::with_capacity(size);
        self.give(&mut part, size);
        let start = part.len();
        let of_file = usize::try_from(self.left).map_or(size - start, |left| left.min(size - start));
        part.resize(start + of_file, 0);
        let piece = &mut part[start..];
        read_whole(&mut self.file, piece)?;
        self.hash.update(&*piece);
        if self.hash.clone().finalize().as_slice() != self.measured.up_to(index) {
            return Err(SealStop::Changed);
        }
        self.left -= of_file as u64;
        if self.left == 0 && self.encryptor.is_some() && self.file.read(&mut [0]).map_err(SealStop::Io)? != 0 {
            return Err(SealStop::Changed);
        }
        if let Some(encryptor) = &mut self.encryptor {
            encryptor.update(piece).map_err(|_| SealStop::Changed)?;
        }
        if self.left == 0
            && let Some(encryptor) = self.encryptor.take()
        {
            self.next.extend_from_slice(&encryptor.finish());
        }
        self.give(&mut part, size);
        Ok(Some((self.number, part.into())))
    }

    /// Moves as many waiting bytes into a part as it takes.
    fn give(&mut self, part: &mut Vec<u8>, size: usize) {
        let length = self.next.len().min(size - part.len());
        part.extend(self.next.drain(..length));
    }
}

/// Reads exactly these bytes. A file that ends before has changed since it was measured.
fn read_whole(file: &mut impl Read, piece: &mut [u8]) -> Result<(), SealStop> {
    file.read_exact(piece).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => SealStop::Changed,
        _ => SealStop::Io(error),
    })
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
