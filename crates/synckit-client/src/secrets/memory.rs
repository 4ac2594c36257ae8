//! Secrets that end with the process.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use zeroize::Zeroizing;

use super::{error::CredentialError, store::CredentialStore};

/// No persistent store: the user types the password at every start. Clones share their records, like two starts of one
/// app.
///
/// # Examples
/// ```
/// use synckit_client::{Error, MemoryStore, SyncKitClient, SyncKitConfig};
///
/// # let config = SyncKitConfig { server_url: "https://sync.example.com".into(), api_key: "your-api-key".into() };
/// let client = SyncKitClient::builder(config).credential_store(MemoryStore::default()).build();
/// // Memory is empty at the start of the app: ask for the password.
/// assert!(matches!(client.try_load_key_from_keychain(), Err(Error::NoStoredKey)));
/// ```
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    records: Arc<Mutex<BTreeMap<String, Zeroizing<Vec<u8>>>>>,
}

impl CredentialStore for MemoryStore {
    fn read(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, CredentialError> {
        Ok(self.records.lock().get(name).cloned())
    }

    fn write(&self, name: &str, value: &[u8]) -> Result<(), CredentialError> {
        let value = Zeroizing::new(value.to_vec());
        self.records.lock().insert(name.to_owned(), value);
        Ok(())
    }

    fn delete(&self, name: &str) -> Result<(), CredentialError> {
        self.records.lock().remove(name);
        Ok(())
    }

    fn is_lasting(&self) -> bool {
        false
    }
}
