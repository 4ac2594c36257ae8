//! Failures of a registration or a login.

use opaque_ke::errors::ProtocolError;

use crate::ServerPublicKey;

/// The failure of one step of a registration or a login.
///
/// # Examples
/// ```
/// use rand::rngs::OsRng;
/// use synckit_login::{ClientLogin, LoginError, ServerLogin};
/// use synckit_protocol::AppId;
///
/// // The account does not exist: to the client, the same as a wrong password.
/// let server = ServerLogin::generate(&mut OsRng);
/// let app_id = AppId::from_bytes([1; 16]);
/// let (client, ke1) = ClientLogin::start("correct horse", &mut OsRng)?;
/// let (_, ke2) = server.start(app_id, None, &ke1, &[7; 16], &mut OsRng)?;
/// match client.finish(app_id, &ke2, None, &mut OsRng) {
///     Err(LoginError::WrongPassword) => println!("address or password is wrong"),
///     other => panic!("{other:?}"),
/// }
/// # Ok::<(), LoginError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoginError {
    /// On the client: the password is wrong, the account does not exist, or the server does not hold its record. The
    /// client cannot distinguish the three. On the server: the client did not prove that it knows the password.
    #[error("wrong e-mail address or password")]
    WrongPassword,

    /// The login succeeded under a server key that is not the pinned one: either the server was set up anew and the
    /// account registered again, or another server answers in its place.
    #[error("the server's key is not the one that this account was registered with")]
    ServerKeyChanged {
        /// The key that was pinned.
        pinned: ServerPublicKey,
        /// The key that the server proved to hold.
        found: ServerPublicKey,
    },

    /// Bytes from the peer (or a stored record) are not the expected message.
    #[error("malformed {message}")]
    MalformedMessage {
        /// The expected message.
        message: &'static str,
    },

    /// The password is empty, or longer than [`crate::PASSWORD_BYTES_MAX`] after normalisation.
    #[error("a password must not be empty, nor longer than {max} bytes", max = crate::PASSWORD_BYTES_MAX)]
    UnusablePassword,

    /// A primitive failed on valid input, which only a defect or exhausted memory can cause.
    #[error("internal failure of the login protocol")]
    Internal,
}

impl LoginError {
    /// Translates a failure of `opaque-ke` while it handled `message`.
    pub(crate) fn from_opaque(error: ProtocolError, message: &'static str) -> Self {
        match error {
            ProtocolError::InvalidLoginError => Self::WrongPassword,
            // No honest peer reflects a value.
            ProtocolError::SerializationError
            | ProtocolError::SizeError { .. }
            | ProtocolError::ReflectedValueError => Self::MalformedMessage { message },
            // The group reports invalid encodings of elements, and the identity, through this variant.
            ProtocolError::LibraryError(opaque_ke::errors::InternalError::OprfError(_)) => {
                Self::MalformedMessage { message }
            }
            _ => Self::Internal,
        }
    }
}
