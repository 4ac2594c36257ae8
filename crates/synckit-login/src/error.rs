//! What can go wrong in a registration or a login.

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
/// // No such account: to the client no different from a wrong password.
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
    /// On the client: the password is wrong, there is no such account, or the server does not hold the account's
    /// record. The three cannot be told apart. On the server: the client did not prove that it knows the password.
    #[error("wrong e-mail address or password")]
    WrongPassword,

    /// The login succeeded, but under another server key than the one that was pinned: either the server was set up
    /// anew and the account registered again, or another server answers in its place.
    #[error("the server's key is not the one that this account was registered with")]
    ServerKeyChanged {
        /// The key that was pinned.
        pinned: ServerPublicKey,
        /// The key that the server proved to hold.
        found: ServerPublicKey,
    },

    /// Bytes from the peer (or a stored record) are not the message that they should be.
    #[error("malformed {message}")]
    MalformedMessage {
        /// Which message.
        message: &'static str,
    },

    /// The password is empty, or longer than [`crate::PASSWORD_BYTES_MAX`] after normalisation.
    #[error("a password must not be empty, nor longer than {max} bytes", max = crate::PASSWORD_BYTES_MAX)]
    UnusablePassword,

    /// A primitive failed on valid input, which only a defect or an exhausted machine can bring about.
    #[error("internal failure of the login protocol")]
    Internal,
}

impl LoginError {
    /// Translates a failure of `opaque-ke` while it handled `message`.
    pub(crate) fn from_opaque(error: ProtocolError, message: &'static str) -> Self {
        match error {
            ProtocolError::InvalidLoginError => Self::WrongPassword,
            // A reflected value is a message that no honest peer sends.
            ProtocolError::SerializationError
            | ProtocolError::SizeError { .. }
            | ProtocolError::ReflectedValueError => Self::MalformedMessage { message },
            // The group refuses encodings that are not of an element, and the identity, through this variant.
            ProtocolError::LibraryError(opaque_ke::errors::InternalError::OprfError(_)) => {
                Self::MalformedMessage { message }
            }
            _ => Self::Internal,
        }
    }
}
