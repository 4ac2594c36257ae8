//! Blobs: files, sealed as a stream in constant memory.
//!
//! ```text
//! sealed  = nonce (24) || ciphertext || tag (16)
//! aad     = "synckit/1 blob" || 0 || blob_id (32) || key_id (16)
//! blob_id = HMAC-SHA256(blob id key, SHA-256(file))
//! ```
//!
//! The cipher is XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03 over RFC 8439), composed of its two parts so that a
//! file of any size needs only one small buffer. The result is that of the whole-buffer cipher.

use std::{fmt, str::FromStr};

use chacha20::{
    XChaCha20,
    cipher::{KeyIvInit as _, StreamCipher as _},
};
use poly1305::{
    Block, Poly1305,
    universal_hash::{KeyInit as _, UniversalHash as _},
};
use rand::{CryptoRng, RngCore};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use synckit_protocol::{BlobId, KeyId, limits::BLOB_BYTES_MAX};
use zeroize::{Zeroize as _, Zeroizing};

use crate::{
    BlobIdKey, BlobKey, OpenError,
    aead::{NONCE_BYTES, OVERHEAD_BYTES, TAG_BYTES},
    derive::hmac,
    keys::random_bytes,
};

/// Poly1305 works in blocks of 16 bytes.
const BLOCK_BYTES: usize = 16;

/// SHA-256 of a file, which the SDK calls its hash. Lower-case hexadecimal as text.
///
/// The server never sees it: with the hash of a public file it could find the accounts that have the file.
///
/// # Examples
/// ```
/// use synckit_crypto::blob::BlobHash;
///
/// let hash = BlobHash::of(b"a photo");
/// let stored = hash.to_string(); // in the app's row
/// assert_eq!(stored.parse(), Ok(hash));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobHash([u8; 32]);

/// A text that is not the hash of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a blob hash: expected 64 lower-case hexadecimal digits")]
pub struct BlobHashParseError;

impl BlobHash {
    /// Hashes a file in memory.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Wraps the 32 raw bytes of a SHA-256.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 raw bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for BlobHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BlobHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlobHash({self})")
    }
}

impl FromStr for BlobHash {
    type Err = BlobHashParseError;

    /// Accepts exactly the output of `Display`.
    fn from_str(text: &str) -> Result<Self, BlobHashParseError> {
        // The same 32 bytes in the same text form.
        let id: BlobId = text.parse().map_err(|_| BlobHashParseError)?;
        Ok(Self(*id.as_bytes()))
    }
}

/// A file over the limit of a blob: [`BLOB_BYTES_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a blob has at most {BLOB_BYTES_MAX} bytes")]
pub struct BlobTooLarge;

impl BlobIdKey {
    /// The id of a file on the wire: equal for equal files of one stream, and meaningless to the server.
    pub fn blob_id(&self, hash: &BlobHash) -> BlobId {
        BlobId::from_bytes(hmac(self.expose_bytes(), &[&hash.0]))
    }
}

impl BlobKey {
    /// Seals a file in memory, which adds exactly 40 bytes.
    ///
    /// # Errors
    /// [`BlobTooLarge`].
    pub fn seal(
        &self,
        key_id: &KeyId,
        blob_id: &BlobId,
        file: &[u8],
        rng: &mut (impl CryptoRng + RngCore),
    ) -> Result<Vec<u8>, BlobTooLarge> {
        let (mut encryptor, nonce) = BlobEncryptor::new(self, key_id, blob_id, rng);
        let mut sealed = Vec::with_capacity(file.len().saturating_add(OVERHEAD_BYTES));
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(file);
        let (_, body) = sealed.split_at_mut(NONCE_BYTES);
        encryptor.update(body)?;
        sealed.extend_from_slice(&encryptor.finish());
        Ok(sealed)
    }

    /// Opens a sealed file in memory.
    ///
    /// The caller must compare SHA-256 of the result with the requested hash.
    ///
    /// # Errors
    /// [`OpenError::Authentication`].
    pub fn open(&self, key_id: &KeyId, blob_id: &BlobId, sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
        let (nonce, rest) = sealed.split_first_chunk().ok_or(OpenError::Authentication)?;
        let (ciphertext, tag) = rest.split_last_chunk().ok_or(OpenError::Authentication)?;
        let mut decryptor = BlobDecryptor::new(self, key_id, blob_id, nonce);
        let mut file = Zeroizing::new(ciphertext.to_vec());
        decryptor
            .update_unverified(&mut file)
            .map_err(|_| OpenError::Authentication)?;
        decryptor.finish(tag)?;
        Ok(std::mem::take(&mut *file))
    }
}

/// Seals a file as a stream.
///
/// Every attempt of an upload needs a new encryptor: a file that changed between two attempts must never meet the same
/// key stream.
pub struct BlobEncryptor(Stream);

impl BlobEncryptor {
    /// Starts with a fresh nonce. Returns the nonce, too: the first 24 bytes of the sealed blob.
    pub fn new(
        key: &BlobKey,
        key_id: &KeyId,
        blob_id: &BlobId,
        rng: &mut (impl CryptoRng + RngCore),
    ) -> (Self, [u8; NONCE_BYTES]) {
        let nonce = random_bytes(rng);
        (Self(Stream::new(key, key_id, blob_id, &nonce)), nonce)
    }

    /// Starts with the nonce of another encryptor, to seal the same file to the same bytes once more.
    ///
    /// Danger: two different files under one nonce show their difference to anybody who sees both. At most one of the two
    /// results may leave this device.
    pub fn danger_again(key: &BlobKey, key_id: &KeyId, blob_id: &BlobId, nonce: &[u8; NONCE_BYTES]) -> Self {
        Self(Stream::new(key, key_id, blob_id, nonce))
    }

    /// Encrypts the next piece of the file in place. Pieces may have any length.
    ///
    /// # Errors
    /// [`BlobTooLarge`]; the piece then remains unencrypted, and must not be sent.
    pub fn update(&mut self, piece: &mut [u8]) -> Result<(), BlobTooLarge> {
        self.0.encrypt(piece)
    }

    /// Ends the file. Returns the tag: the last 16 bytes of the sealed blob.
    pub fn finish(self) -> [u8; TAG_BYTES] {
        self.0.tag()
    }
}

impl fmt::Debug for BlobEncryptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BlobEncryptor(redacted)")
    }
}

/// Opens a sealed blob as a stream.
///
/// The output of [`Self::update_unverified`] may be forged until [`Self::finish`] succeeds: put it into a private
/// temporary file, and nowhere else.
pub struct BlobDecryptor(Stream);

impl BlobDecryptor {
    /// Starts with the first 24 bytes of the sealed blob.
    pub fn new(key: &BlobKey, key_id: &KeyId, blob_id: &BlobId, nonce: &[u8; NONCE_BYTES]) -> Self {
        Self(Stream::new(key, key_id, blob_id, nonce))
    }

    /// Decrypts the next piece of the ciphertext in place (without the last 16 bytes of the blob). Pieces may have any
    /// length. The result is UNVERIFIED until [`Self::finish`] succeeds.
    ///
    /// # Errors
    /// [`BlobTooLarge`]; the piece then remains unchanged.
    pub fn update_unverified(&mut self, piece: &mut [u8]) -> Result<(), BlobTooLarge> {
        self.0.decrypt(piece)
    }

    /// Checks the last 16 bytes of the blob, in constant time.
    ///
    /// The caller must compare SHA-256 of the whole file with the requested hash.
    ///
    /// # Errors
    /// [`OpenError::Authentication`]: all output of this decryptor must be discarded.
    pub fn finish(self, tag: &[u8; TAG_BYTES]) -> Result<(), OpenError> {
        if self.0.tag().ct_eq(tag).into() {
            Ok(())
        } else {
            Err(OpenError::Authentication)
        }
    }
}

impl fmt::Debug for BlobDecryptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BlobDecryptor(redacted)")
    }
}

/// The two parts of the cipher, and the state between pieces.
pub(crate) struct Stream {
    cipher: XChaCha20,
    mac: Poly1305,
    /// Ciphertext that does not fill a MAC block yet: the first `pending_len` bytes.
    pending: [u8; BLOCK_BYTES],
    pending_len: usize,
    aad_len: u64,
    text_len: u64,
}

impl Stream {
    fn new(key: &BlobKey, key_id: &KeyId, blob_id: &BlobId, nonce: &[u8; NONCE_BYTES]) -> Self {
        let aad: [&[u8]; 3] = [b"synckit/1 blob\0", blob_id.as_bytes(), key_id.as_bytes()];
        Self::with_aad(key.expose_bytes(), nonce, &aad.concat())
    }

    /// RFC 8439, section 2.8: the first block of the key stream keys the MAC; the text starts with the second.
    pub(crate) fn with_aad(key: &[u8; 32], nonce: &[u8; NONCE_BYTES], aad: &[u8]) -> Self {
        let mut cipher = XChaCha20::new(key.into(), nonce.into());
        let mut first_block = Zeroizing::new([0; 64]);
        cipher.apply_keystream(first_block.as_mut_slice());
        let mut mac_key = poly1305::Key::default();
        for (to, from) in mac_key.iter_mut().zip(first_block.iter()) {
            *to = *from;
        }
        let mut mac = Poly1305::new(&mac_key);
        mac_key.as_mut_slice().zeroize();
        mac.update_padded(aad);
        Self {
            cipher,
            mac,
            pending: [0; BLOCK_BYTES],
            pending_len: 0,
            aad_len: aad.len() as u64,
            text_len: 0,
        }
    }

    pub(crate) fn encrypt(&mut self, piece: &mut [u8]) -> Result<(), BlobTooLarge> {
        self.admit(piece)?;
        self.cipher.apply_keystream(piece);
        self.authenticate(piece);
        Ok(())
    }

    pub(crate) fn decrypt(&mut self, piece: &mut [u8]) -> Result<(), BlobTooLarge> {
        self.admit(piece)?;
        self.authenticate(piece);
        self.cipher.apply_keystream(piece);
        Ok(())
    }

    /// Counts a piece. The limit also stops the cipher long before the end of its key stream, at 256 GiB.
    fn admit(&mut self, piece: &[u8]) -> Result<(), BlobTooLarge> {
        let text_len = self.text_len.saturating_add(piece.len() as u64);
        if text_len > BLOB_BYTES_MAX {
            return Err(BlobTooLarge);
        }
        self.text_len = text_len;
        Ok(())
    }

    /// Adds ciphertext to the MAC.
    fn authenticate(&mut self, mut ciphertext: &[u8]) {
        if self.pending_len > 0 {
            let room = BLOCK_BYTES - self.pending_len;
            let (head, rest) = ciphertext.split_at(room.min(ciphertext.len()));
            for (to, from) in self.pending.iter_mut().skip(self.pending_len).zip(head) {
                *to = *from;
            }
            self.pending_len += head.len();
            ciphertext = rest;
            if self.pending_len < BLOCK_BYTES {
                return;
            }
            self.mac.update(&[Block::from(self.pending)]);
            self.pending_len = 0;
        }
        let (blocks, rest) = ciphertext.split_at(ciphertext.len() - ciphertext.len() % BLOCK_BYTES);
        // Whole blocks only, so nothing is padded here.
        self.mac.update_padded(blocks);
        for (to, from) in self.pending.iter_mut().zip(rest) {
            *to = *from;
        }
        self.pending_len = rest.len();
    }

    pub(crate) fn tag(mut self) -> [u8; TAG_BYTES] {
        let pending = self.pending;
        let (rest, _) = pending.split_at(self.pending_len);
        self.mac.update_padded(rest);
        let mut lengths = Block::default();
        let both = self
            .aad_len
            .to_le_bytes()
            .into_iter()
            .chain(self.text_len.to_le_bytes());
        for (to, from) in lengths.iter_mut().zip(both) {
            *to = from;
        }
        self.mac.update(&[lengths]);
        self.mac.finalize().into()
    }
}
