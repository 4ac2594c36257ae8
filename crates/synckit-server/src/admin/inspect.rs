//! Inspection of a data directory, with or without a running server: the facts for an operator's check.
//!
//! The inspection deliberately repairs nothing. Nothing is created, changed or removed, no lock is kept, no schema is
//! migrated (see `docs/adr/0008-admin-beside-a-running-server.md`). The caller judges the facts.

use std::{
    io,
    path::{Path, PathBuf},
};

use synckit_protocol::ObjectKey;
use synckit_store::{
    StoreError,
    objects::{Bucket, BucketAccess, BucketCheckError},
};

use crate::{
    mail::Mailer,
    platform::{Clock, random_bytes},
    startup::{DataDir, config::MailDelivery},
};

pub use crate::{mail::MailCheckError, startup::KeySurvey};
pub use synckit_store::{
    DamagedLog, DatabaseFacts, DatabaseInspection, IntegrityCheck, LogDamage, LogSurvey, ObjectExtent, ObjectSurvey,
};

/// A data directory that is looked at.
///
/// # Examples
/// ```
/// # let directory = tempfile::tempdir()?;
/// # synckit_server::Admin::open(directory.path())?;
/// use synckit_server::inspect::Inspection;
///
/// let inspection = Inspection::of(directory.path());
/// assert!(!inspection.is_served()?);
/// assert_eq!(inspection.database()?.facts()?.accounts, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Inspection {
    data_dir: DataDir,
}

impl Inspection {
    /// Of a data directory, which need not exist.
    pub fn of(data_dir: &Path) -> Self {
        Self {
            data_dir: DataDir::at(data_dir),
        }
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        self.data_dir.root()
    }

    /// The database file.
    pub fn database_path(&self) -> PathBuf {
        self.data_dir.database()
    }

    /// The directory of the key files.
    pub fn keys_path(&self) -> PathBuf {
        self.data_dir.keys()
    }

    /// The directory of the objects.
    pub fn blobs_path(&self) -> PathBuf {
        self.data_dir.blobs()
    }

    /// The directory of mails that are not sent by SMTP.
    pub fn mail_path(&self) -> PathBuf {
        self.data_dir.mail()
    }

    /// Whether a process serves from the directory.
    ///
    /// # Errors
    /// If the lock cannot be read.
    pub fn is_served(&self) -> io::Result<bool> {
        self.data_dir.is_served()
    }

    /// Reads the key files. The keys themselves are not returned.
    pub fn keys(&self) -> KeySurvey {
        KeySurvey::of(&self.data_dir.keys())
    }

    /// Opens the database for reading. Blocks, as everything that is done with it.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn database(&self) -> Result<DatabaseInspection, StoreError> {
        DatabaseInspection::open(&self.data_dir.database())
    }
}

/// Checks how mails are to be sent, without sending one or making a connection.
///
/// # Errors
/// [`MailCheckError::Config`].
pub fn check_mail_settings(delivery: &MailDelivery) -> Result<(), MailCheckError> {
    Ok(Mailer::check(delivery)?)
}

/// Connects to the mail server, if mails go to one, and hangs up again.
///
/// # Errors
/// [`MailCheckError`].
pub async fn connect_to_mail_server(delivery: &MailDelivery) -> Result<(), MailCheckError> {
    Mailer::connect(delivery).await
}

/// Stores, reads and deletes an object in a bucket, under a key that no other has.
///
/// # Errors
/// [`BucketCheckError`].
pub async fn check_bucket(access: &BucketAccess) -> Result<(), BucketCheckError> {
    let during = |source| BucketCheckError::Request {
        step: "setting up requests",
        source,
    };
    let bucket = Bucket::new(access).map_err(during)?;
    let key = ObjectKey::from_bytes(random_bytes());
    bucket.check(key, Clock::system().now()).await
}
