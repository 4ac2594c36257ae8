//! Random bytes from the operating system: ids, nonces and secrets.

use rand::{RngCore as _, rngs::OsRng};

/// Fresh random bytes.
pub(crate) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    OsRng.fill_bytes(&mut bytes);
    bytes
}

/// Fresh bytes of a version 4 UUID (RFC 9562): an id that reveals neither its time nor its place of creation.
pub(crate) fn random_id() -> [u8; 16] {
    uuid::Builder::from_random_bytes(random_bytes())
        .into_uuid()
        .into_bytes()
}
