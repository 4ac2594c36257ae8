//! The client's side of a registration and of a login.

use std::fmt;

use opaque_ke::{
    ClientLoginFinishParameters, ClientRegistrationFinishParameters, CredentialResponse, Identifiers,
    RegistrationResponse,
    errors::ProtocolError,
    generic_array::{GenericArray, typenum::U64},
};
use rand::{CryptoRng, RngCore};
use synckit_protocol::AppId;
use unicode_normalization::UnicodeNormalization as _;
use zeroize::{Zeroize as _, Zeroizing};

use crate::{
    ExportKey, KE2_BYTES, LoginError, REGISTRATION_RESPONSE_BYTES, ServerPublicKey,
    suite::{Suite1, login_context, read},
};

/// The longest password, in bytes of UTF-8 after normalisation.
pub const PASSWORD_BYTES_MAX: usize = 1024;

/// A registration (or a change of password) that waits for the server's response.
///
/// # Examples
/// ```
/// use rand::rngs::OsRng;
/// use synckit_login::{ClientRegistration, ServerLogin};
///
/// let server = ServerLogin::generate(&mut OsRng);
/// let (client, request) = ClientRegistration::start("correct horse", &mut OsRng)?;
/// let response = server.register(&request, &[7; 16])?;
/// let registered = client.finish(&response, &mut OsRng)?;
/// assert_eq!(registered.server_public_key, server.public_key());
/// # Ok::<(), synckit_login::LoginError>(())
/// ```
#[derive(Debug)]
pub struct ClientRegistration(Pending<opaque_ke::ClientRegistration<Suite1>>);

/// The result of a registration.
#[derive(Debug)]
pub struct RegistrationFinished {
    /// The last message, from which the server makes its record.
    pub upload: Vec<u8>,
    /// The export key; every later login with this password yields the same one.
    pub export_key: ExportKey,
    /// The server's public key, to pin.
    pub server_public_key: ServerPublicKey,
}

impl ClientRegistration {
    /// Begins a registration. Returns the state to keep and the request to send.
    ///
    /// The password is normalised to NFC, so that it is the same on keyboards that compose accents differently.
    ///
    /// # Errors
    /// [`LoginError::UnusablePassword`].
    pub fn start(password: &str, rng: &mut (impl CryptoRng + RngCore)) -> Result<(Self, Vec<u8>), LoginError> {
        let (pending, request) = Pending::start(password, |password| {
            let started = opaque_ke::ClientRegistration::<Suite1>::start(rng, password)?;
            Ok((started.state, started.message.serialize().to_vec()))
        })?;
        Ok((Self(pending), request))
    }

    /// Finishes a registration with the server's response.
    ///
    /// Blocks for one Argon2id (64 MiB, 3 passes): about 150 ms, more on a phone. Call it off the threads that must
    /// stay responsive.
    ///
    /// # Errors
    /// [`LoginError::MalformedMessage`].
    pub fn finish(
        self,
        response: &[u8],
        rng: &mut (impl CryptoRng + RngCore),
    ) -> Result<RegistrationFinished, LoginError> {
        const MESSAGE: &str = "registration response";
        let response = read(
            MESSAGE,
            response,
            REGISTRATION_RESPONSE_BYTES,
            RegistrationResponse::<Suite1>::deserialize,
        )?;
        // Default identities: the two public keys. So a new e-mail address or server name invalidates nothing.
        let parameters = ClientRegistrationFinishParameters::new(Identifiers::default(), None);
        let Pending { state, password } = self.0;
        let mut finished = state
            .finish(rng, &password, response, parameters)
            .map_err(|error| LoginError::from_opaque(error, MESSAGE))?;
        let export_key = take_export_key(&mut finished.export_key);
        Ok(RegistrationFinished {
            upload: finished.message.serialize().to_vec(),
            export_key,
            server_public_key: ServerPublicKey::from_bytes(finished.server_s_pk.serialize().into()),
        })
    }
}

/// A login that waits for the server's answer.
#[derive(Debug)]
pub struct ClientLogin(Pending<opaque_ke::ClientLogin<Suite1>>);

/// The result of a login.
#[derive(Debug)]
pub struct LoginFinished {
    /// The last message, which proves to the server that the password was right.
    pub ke3: Vec<u8>,
    /// The export key, the same as at registration.
    pub export_key: ExportKey,
    /// The server's public key: equal to the pinned one, or to be pinned.
    pub server_public_key: ServerPublicKey,
}

impl ClientLogin {
    /// Begins a login. Returns the state to keep and the first message, KE1.
    ///
    /// # Errors
    /// [`LoginError::UnusablePassword`].
    pub fn start(password: &str, rng: &mut (impl CryptoRng + RngCore)) -> Result<(Self, Vec<u8>), LoginError> {
        let (pending, ke1) = Pending::start(password, |password| {
            let started = opaque_ke::ClientLogin::<Suite1>::start(rng, password)?;
            Ok((started.state, started.message.serialize().to_vec()))
        })?;
        Ok((Self(pending), ke1))
    }

    /// Finishes a login with the server's message KE2.
    ///
    /// The result proves, before KE3 is sent, that the password was right, and names the server. `app_id` is the app of
    /// the API key that the login was begun with: a login of another app fails like a wrong password. If `pinned` is
    /// given and the server proved another key, no other value is returned, so nothing can be used by mistake.
    ///
    /// Blocks for one Argon2id (64 MiB, 3 passes): about 150 ms, more on a phone. Call it off the threads that must
    /// stay responsive.
    ///
    /// # Errors
    /// [`LoginError::WrongPassword`], [`LoginError::ServerKeyChanged`], [`LoginError::MalformedMessage`].
    pub fn finish(
        self,
        app_id: AppId,
        ke2: &[u8],
        pinned: Option<&ServerPublicKey>,
        rng: &mut (impl CryptoRng + RngCore),
    ) -> Result<LoginFinished, LoginError> {
        const MESSAGE: &str = "KE2";
        let response = read(MESSAGE, ke2, KE2_BYTES, CredentialResponse::<Suite1>::deserialize)?;
        let context = login_context(app_id);
        let parameters = ClientLoginFinishParameters::new(Some(&context), Identifiers::default(), None);
        let Pending { state, password } = self.0;
        let mut finished = state
            .finish(rng, &password, response, parameters)
            .map_err(|error| LoginError::from_opaque(error, MESSAGE))?;
        let export_key = take_export_key(&mut finished.export_key);
        // The session key is not used: the exchange runs inside TLS, and the token carries the session.
        finished.session_key.as_mut_slice().zeroize();
        let found = ServerPublicKey::from_bytes(finished.server_s_pk.serialize().into());
        match pinned {
            Some(pinned) if *pinned != found => Err(LoginError::ServerKeyChanged { pinned: *pinned, found }),
            _ => Ok(LoginFinished {
                ke3: finished.message.serialize().to_vec(),
                export_key,
                server_public_key: found,
            }),
        }
    }
}

/// The state of a client between its two messages: the state of the protocol, and the password, which the second
/// message needs again.
struct Pending<S> {
    state: S,
    password: Zeroizing<Vec<u8>>,
}

impl<S> Pending<S> {
    /// Normalises the password and makes the first message.
    fn start(
        password: &str,
        first: impl FnOnce(&[u8]) -> Result<(S, Vec<u8>), ProtocolError>,
    ) -> Result<(Self, Vec<u8>), LoginError> {
        let password = normalise(password)?;
        let (state, message) = first(&password).map_err(|error| LoginError::from_opaque(error, "password"))?;
        Ok((Self { state, password }, message))
    }
}

impl<S> fmt::Debug for Pending<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("redacted")
    }
}

/// The export key of a finished exchange. Erases the copy in the exchange's own result.
fn take_export_key(key: &mut GenericArray<u8, U64>) -> ExportKey {
    let taken = ExportKey::from_bytes((*key).into());
    key.as_mut_slice().zeroize();
    taken
}

/// Refuses a password that no account can have, before anything is sent.
///
/// # Errors
/// [`LoginError::UnusablePassword`].
pub fn check_password(password: &str) -> Result<(), LoginError> {
    normalise(password).map(drop)
}

/// The bytes of a password: NFC (Unicode Annex 15), UTF-8.
fn normalise(password: &str) -> Result<Zeroizing<Vec<u8>>, LoginError> {
    if password.len() > PASSWORD_BYTES_MAX * 4 {
        // Checked before any work: normalisation shrinks no typed text to a quarter.
        return Err(LoginError::UnusablePassword);
    }
    // Reserved in full: a growing buffer would leave copies of the password in memory.
    let mut bytes = Zeroizing::new(Vec::with_capacity(password.len() * 4));
    let mut utf8 = [0; 4];
    for character in password.nfc() {
        bytes.extend_from_slice(character.encode_utf8(&mut utf8).as_bytes());
    }
    utf8.zeroize();
    if bytes.is_empty() || bytes.len() > PASSWORD_BYTES_MAX {
        return Err(LoginError::UnusablePassword);
    }
    Ok(bytes)
}
