//! The seam for a host's own credential store.

use std::{fmt, sync::Arc};

use zeroize::Zeroizing;

use super::error::CredentialError;

/// Keeps the session and the keys between two starts of the app: [`KeychainStore`](crate::KeychainStore),
/// [`FileStore`](crate::FileStore), [`MemoryStore`](crate::MemoryStore), or the host's own, for example over the keystore
/// of a phone.
///
/// A store maps names to bytes. It owes the SDK four things:
///
/// - *Whole or not at all.* `read` returns what the last `write` was given, also after a crash in the middle of one.
/// - *An error is never an absence.* A store that is locked or damaged fails; `None` means that nobody wrote the record.
///   Otherwise an app creates a second key because the keychain was locked.
/// - *Secret.* A value opens the user's data. Other users of the machine, and backups that others read, must not see it.
/// - *Shared.* Processes of one app see each other's writes, or sign in separately.
///
/// Names are at most 512 bytes of text without control characters, and tell apart apps and users. Values have at
/// most 32 KiB. The calls may block: the SDK makes them off the async threads, except in
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
    /// Reads a record; `None` if there is none.
    ///
    /// # Errors
    /// [`CredentialError`] if the store cannot be read.
    fn read(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, CredentialError>;

    /// Writes a record, and replaces the one of this name.
    ///
    /// # Errors
    /// [`CredentialError`] if the record is not stored; the one before it then remains.
    fn write(&self, name: &str, value: &[u8]) -> Result<(), CredentialError>;

    /// Deletes a record. It is no error if there is none.
    ///
    /// # Errors
    /// [`CredentialError`] if the record may still exist.
    fn delete(&self, name: &str) -> Result<(), CredentialError>;

    /// Whether the records outlive the process. The SDK recognises an installation by a record; where records end with the
    /// process, a device is recognised by its name instead.
    fn is_lasting(&self) -> bool {
        true
    }

    /// Makes a store usable again that is damaged as a whole. The SDK calls it before a sign-in, which writes every record
    /// anew. The default does nothing, for stores whose records are damaged one by one: writing a record mends it.
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
