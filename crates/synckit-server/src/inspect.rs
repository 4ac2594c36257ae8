//! Looking at a data directory, beside a running server or without one: what an operator's check asks.
//!
//! What it deliberately is not: a repair. Nothing is created, changed or removed, no lock is kept, no schema brought up
//! to date (see `docs/adr/0008-admin-beside-a-running-server.md`). What is good and what is bad is for the caller to say.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{config::MailDelivery, data_dir::DataDir, mail::Mailer, store::StoreError};

pub use crate::{
    keys::KeySurvey,
    mail::MailCheckError,
    store::{DatabaseFacts, DatabaseInspection, ObjectExtent, ObjectSurvey},
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
    ///
    /// # Examples
    /// ```
    /// # let directory = tempfile::tempdir()?;
    /// # synckit_server::Admin::open(directory.path())?;
    /// use synckit_server::inspect::Inspection;
    ///
    /// let missing = Inspection::of(&directory.path().join("mistyped"));
    /// assert!(missing.database().is_err() && !missing.root().exists());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn of(data_dir: &Path) -> Self {
        Self {
            data_dir: DataDir::at(data_dir),
        }
    }

    /// The directory.
    ///
    /// # Examples
    /// ```
    /// # let directory = tempfile::tempdir()?;
    /// # synckit_server::Admin::open(directory.path())?;
    /// use synckit_server::inspect::Inspection;
    ///
    /// assert_eq!(Inspection::of(directory.path()).root(), directory.path());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn root(&self) -> &Path {
        self.data_dir.root()
    }

    /// The database file.
    ///
    /// # Examples
    /// ```
    /// # let directory = tempfile::tempdir()?;
    /// # synckit_server::Admin::open(directory.path())?;
    /// use synckit_server::inspect::Inspection;
    ///
    /// assert!(Inspection::of(directory.path()).database_path().is_file());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn database_path(&self) -> PathBuf {
        self.data_dir.database()
    }

    /// The directory of the key files.
    ///
    /// # Examples
    /// ```
    /// # let directory = tempfile::tempdir()?;
    /// # synckit_server::Admin::open(directory.path())?;
    /// use synckit_server::inspect::Inspection;
    ///
    /// assert!(Inspection::of(directory.path()).keys_path().is_dir());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn keys_path(&self) -> PathBuf {
        self.data_dir.keys()
    }

    /// The directory of the objects.
    ///
    /// # Examples
    /// ```
    /// # let directory = tempfile::tempdir()?;
    /// # synckit_server::Admin::open(directory.path())?;
    /// use synckit_server::inspect::Inspection;
    ///
    /// assert!(Inspection::of(directory.path()).blobs_path().is_dir());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn blobs_path(&self) -> PathBuf {
        self.data_dir.blobs()
    }

    /// The directory of mails that are not sent by SMTP.
    ///
    /// # Examples
    /// ```
    /// # let directory = tempfile::tempdir()?;
    /// # synckit_server::Admin::open(directory.path())?;
    /// use synckit_server::inspect::Inspection;
    ///
    /// // Made with the first mail.
    /// assert!(!Inspection::of(directory.path()).mail_path().exists());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn mail_path(&self) -> PathBuf {
        self.data_dir.mail()
    }

    /// Whether a process serves from the directory.
    ///
    /// # Errors
    /// If the lock cannot be read.
    ///
    /// # Examples
    /// ```
    /// # let directory = tempfile::tempdir()?;
    /// # synckit_server::Admin::open(directory.path())?;
    /// use synckit_server::inspect::Inspection;
    ///
    /// // Administration is not serving.
    /// assert!(!Inspection::of(directory.path()).is_served()?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_served(&self) -> io::Result<bool> {
        self.data_dir.is_served()
    }

    /// Reads the key files. None of what they hold is returned.
    ///
    /// # Examples
    /// ```
    /// # let directory = tempfile::tempdir()?;
    /// # synckit_server::Admin::open(directory.path())?;
    /// use synckit_server::inspect::Inspection;
    ///
    /// // Made by the first start of a server.
    /// let keys = Inspection::of(directory.path()).keys();
    /// assert!(matches!(keys.login, Ok(None)) && matches!(keys.server, Ok(false)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn keys(&self) -> KeySurvey {
        KeySurvey::of(&self.data_dir.keys())
    }

    /// Opens the database for reading. Blocks, as everything that is done with it.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    ///
    /// # Examples
    /// ```
    /// # let directory = tempfile::tempdir()?;
    /// # synckit_server::Admin::open(directory.path())?;
    /// use synckit_server::inspect::Inspection;
    ///
    /// let database = Inspection::of(directory.path()).database()?;
    /// assert_eq!(database.facts()?.seed_id, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn database(&self) -> Result<DatabaseInspection, StoreError> {
        DatabaseInspection::open(&self.data_dir.database())
    }
}

/// Checks how mails are to be sent, without sending one or making a connection.
///
/// # Errors
/// [`MailCheckError::Config`].
///
/// # Examples
/// ```
/// use synckit_server::{config::MailDelivery, inspect::check_mail_settings};
///
/// let to_files = MailDelivery::Directory;
/// check_mail_settings(&to_files)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn check_mail_settings(delivery: &MailDelivery) -> Result<(), MailCheckError> {
    Ok(Mailer::check(delivery)?)
}

/// Connects to the mail server, if mails go to one, and hangs up again.
///
/// # Errors
/// [`MailCheckError`].
///
/// # Examples
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use synckit_server::{config::MailDelivery, inspect::connect_to_mail_server};
///
/// let to_files = MailDelivery::Directory;
/// // Files need no connection.
/// connect_to_mail_server(&to_files).await?;
/// # Ok(())
/// # }
/// ```
pub async fn connect_to_mail_server(delivery: &MailDelivery) -> Result<(), MailCheckError> {
    Mailer::connect(delivery).await
}
