//! Failures of a credential store.

use std::{io, path::PathBuf};

/// A credential store that failed.
///
/// # Examples
/// ```
/// # synckit_doctest::run(async |world| {
/// # let (config, email, password) = (world.config(), world.email, world.password);
/// # world.signed_in().await?;
/// use synckit_client::{CredentialError, Error, FileStore, SyncKitClient};
///
/// // A folder, by mistake.
/// # let folder = world.path("");
/// let store = FileStore::new(folder.clone());
/// let client = SyncKitClient::builder(config).credential_store(store).build();
/// match client.authenticate(email, password).await {
///     Err(Error::Credentials(CredentialError::Locked(_))) => println!("unlock the keychain, then try again"),
///     Err(Error::Credentials(CredentialError::File { path, .. })) => assert_eq!(path, folder),
///     other => panic!("{other:?}"),
/// }
/// # Ok(())
/// # });
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// This machine has no keychain.
    #[error(
        "this machine has no keychain (on Linux: no Secret Service on the session bus); start one, or build the client \
         with another credential store"
    )]
    NoKeychain(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The store is locked, or refused access. The user can unlock the store.
    #[error("the credential store is locked or refused access")]
    Locked(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The store failed.
    #[error("the credential store failed")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The credential file could not be read or written.
    #[error("the credential file {path:?} could not be read or written")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The credential file can be read by other users of the machine.
    #[error("the credential file {0:?} can be read by others: give it mode 0600")]
    FileNotPrivate(PathBuf),
    /// The SDK did not write this credential file in its present form: it is empty, truncated, or changed. Sign in
    /// again.
    #[error("the credential file {path:?} is damaged: sign in again, which keeps it as {aside:?} and begins a new one")]
    FileDamaged {
        /// The file.
        path: PathBuf,
        /// The new name of the damaged file after the next sign-in.
        aside: PathBuf,
    },
    /// This device has the most accounts of the app that it can keep.
    #[error("this device keeps {max} accounts of this app: forget one first")]
    TooManyAccounts {
        /// The most accounts.
        max: usize,
    },
    /// The SDK did not write this record in its present form.
    #[error("the stored record {0:?} is damaged: sign in again")]
    Damaged(&'static str),
}
