//! Failures, grouped by what the caller can do about them.

use std::{fmt, time::Duration};

use synckit_crypto::KeyError;
use synckit_login::LoginError;
use synckit_protocol::{ApiKeyError, Cursor, KeyId, Position, Problem, ProblemCode};

use crate::{
    connection::transport::TransportError,
    password,
    quota::Quota,
    secrets::error::CredentialError,
    tampering::{RejoinEvidence, Tampering},
};

/// The result of every call of the SDK.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the SDK.
///
/// The variants are grouped: correct the call, retry later, sign in again, resolve together with the user, and
/// tampering by the server.
///
/// # Examples
/// ```
/// # synckit_doctest::run(async |world| {
/// # let client = world.signed_in().await?;
/// use synckit_client::Error;
///
/// match client.setup_encryption_existing("pass").await {
///     Ok(()) => println!("ready"),
///     Err(Error::Network(_) | Error::RetryLater { .. }) => println!("offline: try again later"),
///     Err(Error::InvalidCredentials) => println!("ask for the password again"),
///     Err(Error::NoServerKey) => println!("the first device: setup_encryption_new"),
///     Err(error) if error.is_tampering() => println!("stop, and keep the evidence: {error:?}"),
///     Err(error) => println!("{error}"),
/// }
/// # assert!(matches!(client.setup_encryption_existing("pass").await, Err(Error::NoServerKey)));
/// # Ok(())
/// # });
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // Correct the call.
    /// The server URL of the configuration cannot be used.
    #[error("the server URL {url:?} cannot be used: {reason}")]
    InvalidServerUrl {
        /// The URL as it was configured.
        url: String,
        /// What is wrong with the URL, and how to correct it.
        reason: &'static str,
    },
    /// An argument is outside the range that the call accepts.
    #[error("{argument}: {reason}")]
    InvalidArgument {
        /// The argument.
        argument: &'static str,
        /// What is wrong with the argument, and how to correct it.
        reason: String,
    },
    /// A change cannot be encoded: it is too large, nested too deeply, or holds a number that is neither a 64-bit
    /// integer nor a finite float.
    #[error("a change cannot be pushed")]
    Encode(#[source] synckit_crypto::batch::EncodeError),
    /// Nobody is signed in. Call `authenticate` or `try_load_key_from_keychain` first.
    #[error("nobody is signed in: call authenticate, or try_load_key_from_keychain to resume a stored session")]
    NotSignedIn,
    /// No master key is in memory. Call one of the `setup_encryption` methods or `try_load_key_from_keychain`.
    #[error(
        "encryption is not set up on this device: call try_load_key_from_keychain, setup_encryption_existing or \
         setup_encryption_new"
    )]
    EncryptionNotSetUp,
    /// `push`: an earlier client on this device has pulled, so only the app knows the cursor of its database, and a
    /// push could not return a cursor that is safe to store. Nothing was sent. Call `resume_at` with the stored cursor
    /// ([`Cursor::START`] if the app has none), or pull first.
    #[error("the app's position in the history is unknown: call resume_at with the stored cursor, or pull first")]
    CursorUnknown,
    /// The credential store holds no session and key of this account in this app.
    #[error("the credential store holds no key for this app: ask for the password")]
    NoStoredKey,

    // Repeat later.
    /// The request failed after every retry: the server could not be reached, or its answer did not arrive.
    #[error("the request to the server failed")]
    Network(#[source] TransportError),
    /// The server asks for a longer wait than the SDK waits within one call.
    #[error("the server asks to wait for {} seconds ({code})", retry_after.as_secs())]
    RetryLater {
        /// How long to wait.
        retry_after: Duration,
        /// The problem code of the server's answer.
        code: String,
    },
    /// The server answered with a problem that has no variant of its own. [`Problem::known_code`] tells which one.
    #[error("the server refused: {} ({})", .0.detail.as_deref().unwrap_or(&.0.title), .0.code)]
    Problem(Box<Problem>),
    /// The answer does not follow this protocol: it comes from another service, or from a proxy in between.
    #[error("the answer is not of this protocol (status {status}): expected {reason}")]
    Protocol {
        /// The HTTP status.
        status: u16,
        /// The content that was expected.
        reason: &'static str,
    },

    // Sign in again.
    /// E-mail or password is wrong.
    #[error("the e-mail or the password is wrong")]
    InvalidCredentials,
    /// The address waits for the confirmation of the account that this client registered, or the password is wrong. Call
    /// `confirm_account` with the code from the mail.
    #[error("the address is not confirmed yet: call confirm_account with the code that was mailed to it")]
    AddressNotConfirmed,
    /// A sign-in by browser was not allowed, took too long, or its code was refused. Sign in again.
    #[error("the sign-in by browser did not succeed: {reason} ({code})")]
    BrowserSignIn {
        /// The code of RFC 6749: `access_denied` if the person did not allow it, `invalid_grant` for a code that is used or
        /// too old; `timeout` if the browser did not come back within
        /// [`AUTHORIZATION_SECONDS`](synckit_protocol::limits::AUTHORIZATION_SECONDS) and
        /// [`CONSENT_SECONDS`](synckit_protocol::limits::CONSENT_SECONDS).
        code: String,
        /// What was wrong.
        reason: String,
    },
    /// The person refused the sign-in of this machine on the page.
    #[error("the sign-in was refused on the page")]
    DeviceSignInDenied,
    /// Nobody allowed the sign-in of this machine in time. Begin again, for a new code.
    #[error("nobody allowed the sign-in in time")]
    DeviceSignInExpired,
    /// The session was signed out, revoked, or not used for 90 days.
    #[error("the session has ended: sign in again")]
    SessionEnded,
    /// The server has no such account any more: it was deleted, or the server was restored from an older backup. The
    /// data on this device stays until [`crate::SyncKitClient::sign_out`].
    #[error("the account is no longer on this server: it was deleted")]
    AccountGone,
    /// The call needs a password sign-in of the last five minutes: call `confirm_password`.
    #[error("this needs a password sign-in of the last five minutes: call confirm_password")]
    FreshLoginRequired,
    /// The API key of the configuration is not a publishable key: it is incomplete, or of another kind. Nothing was
    /// sent.
    #[error(transparent)]
    ApiKeyUnusable(#[from] ApiKeyError),
    /// The server does not accept this API key.
    #[error("the API key is not valid on this server")]
    ApiKeyInvalid,

    // Resolve, with the user or by another call.
    /// `setup_encryption_new`: the account already has a key in this app. Call `setup_encryption_existing`.
    #[error("this account already has a key in this app: call setup_encryption_existing")]
    KeyAlreadyExists,
    /// `setup_encryption_existing`: the account has no key in this app yet. Call `setup_encryption_new`.
    #[error("this account has no key in this app yet: call setup_encryption_new")]
    NoServerKey,
    /// Another device changed the master key. Call `setup_encryption_existing`.
    #[error("the master key was changed by another device: call setup_encryption_existing")]
    KeyRotated {
        /// The current key on the server, or the key that a batch is sealed under.
        key_id: KeyId,
    },
    /// This device holds a key that was never the current key of this stream.
    #[error("this device holds another key than the server's envelope: call setup_encryption_existing")]
    WrongKey {
        /// The key that this device holds.
        held: KeyId,
        /// The current key on the server.
        current: KeyId,
    },
    /// A forgotten password was replaced, and the new one cannot open the envelope. The recovery code can
    /// (`setup_encryption_with_recovery`), and so can any device that still holds the key.
    #[error("the password was reset: use the recovery code, or a device that still holds the key")]
    PasswordWasReset {
        /// The generation of the vault that the envelope was sealed under.
        envelope_generation: u32,
        /// The generation of the account's current vault.
        vault_generation: u32,
    },
    /// `rejoin`: the server's history agrees with this device's, or the conflict in the evidence was resolved since.
    /// Pull again.
    #[error("the server's history agrees with this device's, so no rejoin is needed: pull again")]
    NothingToRejoin,
    /// The recovery code is not one of this account's.
    #[error("this recovery code does not belong to the account")]
    WrongRecoveryCode,
    /// Key material cannot be opened or written.
    #[error("the key material cannot be used")]
    Key(#[source] KeyError),
    /// `push_at`: the stream has moved on. Pull, merge, push again.
    #[error("the stream has moved on to {}: pull first", latest.seq)]
    Behind {
        /// The stream's newest position, verified to follow from the parent.
        latest: Position,
    },
    /// The account has reached a quota of the server, or its app stores as much as its plan holds. Nothing was stored. A retry
    /// helps only after something was deleted, or the limit was raised.
    #[error("a limit of this server is reached: {quota}")]
    QuotaExceeded {
        /// The quota that is reached.
        quota: Quota,
    },
    /// The device was revoked. Register again.
    #[error("this device was revoked: register it again")]
    DeviceRevoked,
    /// The credential store failed.
    #[error("credentials cannot be stored or read")]
    Credentials(#[source] CredentialError),
    /// A local file could not be read or written.
    #[error("a local file could not be read or written")]
    Io(#[from] std::io::Error),
    /// The file changed between hashing and uploading. Nothing was stored.
    #[error("the file changed while it was uploaded")]
    FileChanged,

    /// The server did something that no honest server does, unless it was restored from a backup. Do not retry; keep
    /// the evidence.
    #[error(transparent)]
    Tampering(#[from] Tampering),
}

/// A push that did not store all of its changes.
///
/// # Examples
/// ```
/// # synckit_doctest::run(async |world| {
/// # let (client, device) = world.device("laptop").await?;
/// # use synckit_doctest::note;
/// use synckit_client::Error;
///
/// let deep = (0..200).fold(serde_json::json!(1), |inner, _| serde_json::json!([inner]));
/// let mut changes = vec![note("1", "Buy milk"); 501];
/// changes[500].data = Some(deep);
/// let error = client.push(device.id, changes).await.unwrap_err();
/// assert!(matches!(error.source, Error::Encode(_)));
/// assert_eq!(error.accepted, 500); // the first batch is stored: push only the rest again
/// assert!(error.to_string().contains("a change cannot be pushed")); // it says why
/// # Ok(())
/// # });
/// ```
#[derive(Debug)]
pub struct PushError {
    /// How many of the given changes are stored, counted from the first.
    pub accepted: usize,
    /// The cursor that the push would have returned: safe to store. [`Cursor::START`] with [`Error::CursorUnknown`], if
    /// nobody is signed in, and before the app has called `resume_at` or pulled.
    pub cursor: Cursor,
    /// Why the rest is not stored.
    pub source: Error,
}

impl fmt::Display for PushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.accepted {
            0 => write!(f, "nothing was pushed: {}", self.source),
            accepted => write!(f, "only the first {accepted} changes were pushed: {}", self.source),
        }
    }
}

impl std::error::Error for PushError {
    /// The cause of [`PushError::source`]; the text of this error already contains the source itself.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.source)
    }
}

impl From<PushError> for Error {
    fn from(error: PushError) -> Self {
        error.source
    }
}

impl Error {
    /// The variant for a problem of the server, or [`Error::Problem`].
    pub(crate) fn from_problem(problem: Problem) -> Self {
        match problem.known_code() {
            Some(ProblemCode::InvalidCredentials) => Self::InvalidCredentials,
            Some(ProblemCode::SessionEnded | ProblemCode::TokenInvalid | ProblemCode::TokenExpired) => {
                Self::SessionEnded
            }
            Some(ProblemCode::AccountGone) => Self::AccountGone,
            Some(ProblemCode::FreshLoginRequired) => Self::FreshLoginRequired,
            Some(ProblemCode::ApiKeyInvalid) => Self::ApiKeyInvalid,
            Some(ProblemCode::DeviceRevoked) => Self::DeviceRevoked,
            Some(ProblemCode::UserLimitReached) => Self::QuotaExceeded {
                quota: Quota::UserStorage,
            },
            Some(ProblemCode::StorageLimitReached) => Self::QuotaExceeded {
                quota: Quota::AppStorage,
            },
            Some(ProblemCode::QuotaExceeded) => Self::QuotaExceeded {
                quota: Quota::from_field(problem.field.as_deref()),
            },
            _ => Self::Problem(Box::new(problem)),
        }
    }

    /// The code of the server's answer, if it has no variant of its own.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let client = world.signed_in().await?;
    /// use synckit_client::ProblemCode;
    ///
    /// let error = client.reset_password("not a code", "a new password").await.unwrap_err();
    /// assert_eq!(error.problem_code(), Some(ProblemCode::MailCodeInvalid));
    /// # Ok(())
    /// # });
    /// ```
    pub fn problem_code(&self) -> Option<ProblemCode> {
        match self {
            Self::Problem(problem) => problem.known_code(),
            _ => None,
        }
    }

    pub(crate) fn is_problem(&self, code: ProblemCode) -> bool {
        self.problem_code() == Some(code)
    }

    /// The evidence for [`crate::SyncKitClient::rejoin`], if a rejoin may resolve this error. `None` also for a batch that is not
    /// where a device of the user sealed it, or is under an unknown key: an honest server shows none.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # use synckit_client::{Cursor, Error, Head, Position};
    /// # use synckit_doctest::note;
    /// # let (client, device) = world.device("laptop").await?;
    /// # client.push(device.id, vec![note("1", "Buy milk")]).await?;
    /// # // The app is at 40; the server, restored from a backup, at 1.
    /// # let lost = Cursor::at(Position { seq: 40, head: Head::from_bytes([9; 32]) });
    /// # let stored = lost;
    /// let error = client.pull(device.id, stored).await.unwrap_err();
    /// assert!(error.rejoin_evidence().is_some()); // ask the user
    /// assert!(Error::NotSignedIn.rejoin_evidence().is_none()); // no rejoin helps
    /// # Ok(())
    /// # });
    /// ```
    pub fn rejoin_evidence(&self) -> Option<RejoinEvidence> {
        match self {
            Self::Tampering(tampering) => tampering.rejoin_evidence(),
            _ => None,
        }
    }

    /// Whether the server did something that no honest server does, unless it was restored from a backup.
    ///
    /// # Examples
    /// ```
    /// use synckit_client::{Error, Tampering};
    ///
    /// assert!(Error::from(Tampering::BlobForged { reason: "it has another hash" }).is_tampering());
    /// assert!(!Error::NotSignedIn.is_tampering());
    /// ```
    pub fn is_tampering(&self) -> bool {
        matches!(self, Self::Tampering(_))
    }
}

impl From<LoginError> for Error {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::WrongPassword => Self::InvalidCredentials,
            LoginError::ServerKeyChanged { .. } => Self::Tampering(Tampering::ServerKeyChanged),
            LoginError::UnusablePassword => password::unusable(),
            _ => Self::Protocol {
                status: 200,
                reason: "a message of an OPAQUE login",
            },
        }
    }
}

impl From<CredentialError> for Error {
    fn from(error: CredentialError) -> Self {
        Self::Credentials(error)
    }
}

/// Writes an error and its causes in one line, for logs of tests and tools.
///
/// # Examples
/// ```
/// use synckit_client::{Error, ErrorChain};
///
/// let file = std::fs::File::open("no such file").unwrap_err();
/// let error = Error::Io(file);
/// let whole = ErrorChain(&error).to_string(); // for a log: the error and its causes
/// assert!(whole.starts_with("a local file could not be read or written: "));
/// ```
pub struct Chain<'a>(pub &'a (dyn std::error::Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
