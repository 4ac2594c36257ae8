//! Secrets in the keychain of the operating system.
//!
//! Invariant: items stay under the 2,560 bytes that Windows allows, so longer records are stored in pieces.

use std::io;

use rand::RngCore as _;
use zeroize::Zeroizing;

use super::{error::CredentialError, store::CredentialStore};

/// The most bytes of a keychain item on every platform: Windows allows 2,560.
const ITEM_BYTES_MAX: usize = 2_400;
/// The first piece of a record starts with the number of pieces and a mark that all of them share.
const HEADER_BYTES: usize = 5;

/// The keychain of the operating system: Keychain on macOS, Credential Manager on Windows, Secret Service on Linux. The
/// default.
///
/// # Examples
/// ```
/// use synckit_client::{KeychainStore, SyncKitClient, SyncKitConfig};
///
/// # let config = SyncKitConfig { server_url: "https://sync.example.com".into(), api_key: "your-api-key".into() };
/// let client = SyncKitClient::builder(config).credential_store(KeychainStore).build(); // as SyncKitClient::new
/// assert_eq!(client.user_id(), None); // the keychain is read by the first call that needs it
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct KeychainStore;

impl CredentialStore for KeychainStore {
    fn read(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, CredentialError> {
        let Some(first) = read_item(name)? else {
            return Ok(None);
        };
        let damaged = || CredentialError::Damaged("keychain item");
        let (header, head) = first.split_at_checked(HEADER_BYTES).ok_or_else(damaged)?;
        let mut value = Zeroizing::new(head.to_vec());
        for piece in 1..header[0] {
            let item = read_item(&format!("{name}#{piece}"))?.ok_or_else(damaged)?;
            // An interrupted write leaves pieces of two records; the mark tells them apart.
            let rest = item.strip_prefix(&header[1..]).ok_or_else(damaged)?;
            value.extend_from_slice(rest);
        }
        Ok(Some(value))
    }

    fn write(&self, name: &str, value: &[u8]) -> Result<(), CredentialError> {
        let mut mark = [0; HEADER_BYTES - 1];
        rand::thread_rng().fill_bytes(&mut mark);
        let (head, rest) = value.split_at(value.len().min(ITEM_BYTES_MAX - HEADER_BYTES));
        let pieces = rest.chunks(ITEM_BYTES_MAX - mark.len());
        let count = u8::try_from(pieces.len() + 1).map_err(|_| CredentialError::Damaged("record of this size"))?;
        for (index, piece) in pieces.enumerate() {
            let item = Zeroizing::new([&mark, piece].concat());
            write_item(&format!("{name}#{}", index + 1), &item)?;
        }
        let first = Zeroizing::new([&[count][..], &mark, head].concat());
        write_item(name, &first)
    }

    fn delete(&self, name: &str) -> Result<(), CredentialError> {
        // Delete the first piece first: without it the others are no record.
        let pieces = read_item(name)?.and_then(|first| first.first().copied()).unwrap_or(0);
        delete_item(name)?;
        (1..pieces).try_for_each(|piece| delete_item(&format!("{name}#{piece}")))
    }
}

fn entry(item: &str) -> Result<keyring::Entry, CredentialError> {
    if let Err(error) = keyring::Entry::store_status() {
        return Err(CredentialError::NoKeychain(Box::new(io::Error::other(
            error.to_string(),
        ))));
    }
    keyring::Entry::new("synckit", item).map_err(keychain_error)
}

fn read_item(item: &str) -> Result<Option<Zeroizing<Vec<u8>>>, CredentialError> {
    match entry(item)?.get_secret() {
        Ok(secret) => Ok(Some(Zeroizing::new(secret))),
        Err(keyring::Error::NoEntry) => Ok(None),
        Err(error) => Err(keychain_error(error)),
    }
}

fn write_item(item: &str, secret: &[u8]) -> Result<(), CredentialError> {
    entry(item)?.set_secret(secret).map_err(keychain_error)
}

fn delete_item(item: &str) -> Result<(), CredentialError> {
    match entry(item)?.delete_credential() {
        Ok(()) | Err(keyring::Error::NoEntry) => Ok(()),
        Err(error) => Err(keychain_error(error)),
    }
}

fn keychain_error(error: keyring::Error) -> CredentialError {
    match error {
        keyring::Error::NoDefaultStore => CredentialError::NoKeychain(Box::new(error)),
        keyring::Error::NoStorageAccess(cause) => CredentialError::Locked(cause),
        keyring::Error::PlatformFailure(cause) => CredentialError::Failed(cause),
        // The other variants may carry a secret, so only their kind is reported.
        _ => CredentialError::Failed("the item cannot be used".into()),
    }
}
