//! The secrets of a finished login: the export key, and the server's public key to pin.

use std::fmt;

use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// 64 secret bytes that only the right password yields, equal at every login until the password changes.
///
/// The server never learns it. Erased when dropped, redacted in `Debug`, compared in constant time.
///
/// # Examples
/// ```
/// use synckit_login::ExportKey;
///
/// let key = ExportKey::from_bytes([7; 64]);
/// assert_eq!(format!("{key:?}"), "ExportKey(redacted)");
/// assert_eq!(key, ExportKey::from_bytes([7; 64]));
/// ```
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct ExportKey([u8; 64]);

impl ExportKey {
    /// Wraps the 64 raw bytes.
    pub const fn from_bytes(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// The 64 raw bytes: input to a key derivation, never a key itself.
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

impl fmt::Debug for ExportKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ExportKey(redacted)")
    }
}

impl PartialEq for ExportKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for ExportKey {}

/// The server's static public key: a client stores it after its first login and compares it at every later one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ServerPublicKey([u8; 32]);

impl ServerPublicKey {
    /// Wraps the 32 raw bytes. They are only compared, so they are not checked.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 raw bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for ServerPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ServerPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerPublicKey({self})")
    }
}
