//! The seam for a host's own credential store.

use std::{fmt, sync::Arc};

use zeroize::Zeroizing;

use super::error::CredentialError;

/// Keeps the session and the keys between two starts of the app: [`KeychainStore`](crate::KeychainStore),
/// [`FileStore`](crate::FileStore), [`MemoryStore`](crate::MemoryStore), or the host's own, for example over the keystore
/// of a phone.
///
/// A store maps names to bytes. It guarantees four things:
///
/// - *Whole or not at all.* `read` returns the value of the last `write`, also after a crash during a write.
/// - *An error is never an absence.* A locked or damaged store fails; `None` means that the record was never written.
///   Otherwise an app would create a second key because the keychain was locked.
/// - *Secret.* A value opens the user's data. Other users of the machine, and backups that others can read, must not
///   contain it.
/// - *Shared.* Processes of one app see each other's writes, or sign in separately.
///
/// Names are at most 512 bytes of text without control characters, and distinguish apps and users. Values have at most
/// 32 KiB. The calls may block: the SDK makes them off the async threads, except in
/// [`try_load_key_from_keychain`](crate::SyncKitClient::try_load_key_from_keychain), which is not async.
///
/// # Examples
/// ```
/// # synckit_doctest::run(async |world| {
/// # let (config, email, password) = (world.config(), world.email, world.password);
/// # world.signed_in().await?;
/// use std::{collections::HashMap, sync::Mutex};
/// use synckit_client::{CredentialError, CredentialStore, SyncKitClient, Zeroizing};
///
/// /// A bridge to the store of the host. (This one forgets everything with the process.)
/// #[derive(Debug, Default)]
/// struct HostStore(Mutex<HashMap<String, Zeroizing<Vec<u8>>>>);
///
/// impl HostStore {
///     fn open(&self) -> Result<std::sync::MutexGuard<'_, HashMap<String, Zeroizing<Vec<u8>>>>, CredentialError> {
///         self.0.lock().map_err(|_| CredentialError::Failed("the host's store is gone".into()))
///     }
/// }
///
/// impl CredentialStore for HostStore {
///     fn read(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, CredentialError> {
///         Ok(self.open()?.get(name).cloned())
///     }
///
///     fn write(&self, name: &str, value: &[u8]) -> Result<(), CredentialError> {
///         self.open()?.insert(name.to_owned(), Zeroizing::new(value.to_vec()));
///         Ok(())
///     }
///
///     fn delete(&self, name: &str) -> Result<(), CredentialError> {
///         self.open()?.remove(name);
///         Ok(())
///     }
/// }
///
/// let client = SyncKitClient::builder(config).credential_store(HostStore::default()).build();
/// client.authenticate(email, password).await?;
/// client.setup_encryption_new(password).await?;
/// client.try_load_key_from_keychain()?; // from the host's store
/// # Ok(())
/// # });
/// ```
pub trait CredentialStore: fmt::Debug + Send + Sync + 'static {
    /// Reads a record; `None` if the record does not exist.
    ///
    /// # Errors
    /// [`CredentialError`] if the store cannot be read.
    fn read(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, CredentialError>;

    /// Writes a record, and replaces an earlier record of this name.
    ///
    /// # Errors
    /// [`CredentialError`] if the record is not stored; the earlier record then remains.
    fn write(&self, name: &str, value: &[u8]) -> Result<(), CredentialError>;

    /// Deletes a record. A missing record is not an error.
    ///
    /// # Errors
    /// [`CredentialError`] if the record may still exist.
    fn delete(&self, name: &str) -> Result<(), CredentialError>;

    /// Whether records outlive the process. The SDK recognises an installation by a record; in a store that ends with
    /// the process, it recognises a device by its name.
    fn is_lasting(&self) -> bool {
        true
    }

    /// Repairs a store that is damaged as a whole. The SDK calls it before a sign-in, which writes every record anew.
    /// The default does nothing: it is for stores in which each record is damaged separately, and a write repairs it.
    ///
    /// # Errors
    /// [`CredentialError`] if the store stays unusable.
    fn mend(&self) -> Result<(), CredentialError> {
        Ok(())
    }
}

impl<S: CredentialStore + ?Sized> CredentialStore for Arc<S> {
    fn read(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, CredentialError> {
        (**self).read(name)
    }

    fn write(&self, name: &str, value: &[u8]) -> Result<(), CredentialError> {
        (**self).write(name, value)
    }

    fn delete(&self, name: &str) -> Result<(), CredentialError> {
        (**self).delete(name)
    }

    fn is_lasting(&self) -> bool {
        (**self).is_lasting()
    }

    fn mend(&self) -> Result<(), CredentialError> {
        (**self).mend()
    }
}
