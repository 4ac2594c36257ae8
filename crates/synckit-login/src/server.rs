//! The server's side of a registration and of a login.

use std::fmt;

use hmac::{Hmac, Mac as _};
use opaque_ke::{
    CredentialFinalization, CredentialRequest, Identifiers, RegistrationRequest, RegistrationUpload,
    ServerLoginParameters, ServerRegistration, ServerSetup,
};
use rand::{CryptoRng, RngCore};
use sha2::{Digest as _, Sha256};
use synckit_protocol::AppId;
use zeroize::{Zeroize as _, Zeroizing};

use crate::{
    KE1_BYTES, KE3_BYTES, LOGIN_STATE_BYTES, LoginError, RECORD_BYTES, REGISTRATION_REQUEST_BYTES,
    REGISTRATION_UPLOAD_BYTES, SERVER_SETUP_BYTES, ServerPublicKey,
    suite::{Suite1, login_context, read},
};

/// Length of the OPRF seed, the first of the server's secrets.
const OPRF_SEED_BYTES: usize = 64;
/// Length of a public key, the last of the server's secrets: the one for accounts that do not exist.
const PUBLIC_KEY_BYTES: usize = 32;

/// The server's long-term secrets: the OPRF seed and the key pair of the key exchange.
///
/// A thief of these secrets and of the records can guess passwords at the cost of one Argon2id each. Without the
/// secrets every record is useless. They are in a separate file or secret store, never in the database beside the
/// records.
///
/// # Examples
/// ```
/// use rand::rngs::OsRng;
/// use synckit_login::ServerLogin;
///
/// let server = ServerLogin::generate(&mut OsRng);
/// let secrets = server.to_bytes(); // to a file of mode 0600
/// assert_eq!(ServerLogin::from_bytes(&secrets)?.public_key(), server.public_key());
/// # Ok::<(), synckit_login::LoginError>(())
/// ```
pub struct ServerLogin {
    setup: ServerSetup<Suite1>,
    /// A record that no password matches, with the public key for accounts that do not exist.
    fake_record: [u8; RECORD_BYTES],
}

impl ServerLogin {
    /// Creates the secrets of a new server.
    pub fn generate(rng: &mut (impl CryptoRng + RngCore)) -> Self {
        Self::of(ServerSetup::new(rng))
    }

    fn of(setup: ServerSetup<Suite1>) -> Self {
        let mut this = Self {
            setup,
            fake_record: [0; RECORD_BYTES],
        };
        let secrets = this.to_bytes();
        // The public key comes first in a record.
        if let (Some(key), Some(fake)) = (
            this.fake_record.first_chunk_mut(),
            secrets.last_chunk::<PUBLIC_KEY_BYTES>(),
        ) {
            *key = *fake;
        }
        this
    }

    /// The secrets in [`SERVER_SETUP_BYTES`] bytes: seed, private key, and the public key for the answers about
    /// accounts that do not exist.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut serialized = self.setup.serialize();
        let bytes = Zeroizing::new(serialized.to_vec());
        serialized.as_mut_slice().zeroize();
        bytes
    }

    /// Reads the output of [`Self::to_bytes`].
    ///
    /// # Errors
    /// [`LoginError::MalformedMessage`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, LoginError> {
        let setup = read("login secrets", bytes, SERVER_SETUP_BYTES, ServerSetup::deserialize)?;
        Ok(Self::of(setup))
    }

    /// The public key, which clients pin.
    pub fn public_key(&self) -> ServerPublicKey {
        ServerPublicKey::from_bytes(self.setup.keypair().public().serialize().into())
    }

    /// A public fingerprint of the secrets, to recognise a database whose records were made under others.
    ///
    /// First 16 bytes of SHA-256("synckit/1 login secrets" || 0 || seed || public key). The seed is uniformly random,
    /// so its hash reveals nothing.
    pub fn seed_id(&self) -> [u8; 16] {
        let secrets = self.to_bytes();
        let mut hash = Sha256::new();
        hash.update(b"synckit/1 login secrets\0");
        hash.update(secrets.get(..OPRF_SEED_BYTES).unwrap_or_default());
        hash.update(self.public_key().as_bytes());
        let digest: [u8; 32] = hash.finalize().into();
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        id
    }

    /// The credential identifier for an e-mail address without an account.
    ///
    /// HMAC-SHA256 of the normalised address under the OPRF seed, first 16 bytes. It depends on nothing else, so it
    /// stays the same as long as the answers for a real account, which also depend on the seed. A different identifier
    /// than yesterday's therefore reveals nothing.
    pub fn stand_in(&self, address: &[u8]) -> [u8; 16] {
        let secrets = self.to_bytes();
        #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
        let mut mac = <Hmac<Sha256> as hmac::Mac>::new_from_slice(secrets.get(..OPRF_SEED_BYTES).unwrap_or_default())
            .expect("a key of any length");
        mac.update(b"synckit/1 unknown address\0");
        mac.update(address);
        let tag: [u8; 32] = mac.finalize().into_bytes().into();
        let mut id = [0; 16];
        id.copy_from_slice(&tag[..16]);
        id
    }

    /// Answers the first message of a registration. Stores nothing.
    ///
    /// `credential_id` chooses the OPRF key that the password is bound to; every later login must use the same one.
    /// Draw 16 random bytes for every registration: a person who may register under the identifier of an existing
    /// record could test guesses of its password, uncounted.
    ///
    /// # Errors
    /// [`LoginError::MalformedMessage`].
    pub fn register(&self, request: &[u8], credential_id: &[u8]) -> Result<Vec<u8>, LoginError> {
        const MESSAGE: &str = "registration request";
        let request = read(
            MESSAGE,
            request,
            REGISTRATION_REQUEST_BYTES,
            RegistrationRequest::<Suite1>::deserialize,
        )?;
        let started = ServerRegistration::<Suite1>::start(&self.setup, request, credential_id)
            .map_err(|error| LoginError::from_opaque(error, MESSAGE))?;
        Ok(started.message.serialize().to_vec())
    }

    /// Checks the last message of a registration and returns the record to store, [`RECORD_BYTES`] long.
    ///
    /// # Errors
    /// [`LoginError::MalformedMessage`].
    pub fn finish_registration(upload: &[u8]) -> Result<Vec<u8>, LoginError> {
        let upload = read(
            "registration upload",
            upload,
            REGISTRATION_UPLOAD_BYTES,
            RegistrationUpload::<Suite1>::deserialize,
        )?;
        Ok(ServerRegistration::<Suite1>::finish(upload).serialize().to_vec())
    }

    /// Answers the first message of a login to an app: returns the secret state for the third message, and the second
    /// message, KE2.
    ///
    /// A reader of the state can pretend to know the password. Seal it before it leaves the process.
    ///
    /// `record` is `None` if the account does not exist. The answer is then made from a fake record, with the same
    /// length and work, and to the client it looks like a wrong password. `credential_id` is then [`Self::stand_in`],
    /// so that two attempts see the same account.
    ///
    /// # Errors
    /// [`LoginError::MalformedMessage`].
    pub fn start(
        &self,
        app_id: AppId,
        record: Option<&[u8]>,
        ke1: &[u8],
        credential_id: &[u8],
        rng: &mut (impl CryptoRng + RngCore),
    ) -> Result<(Vec<u8>, Vec<u8>), LoginError> {
        const MESSAGE: &str = "KE1";
        let request = read(MESSAGE, ke1, KE1_BYTES, CredentialRequest::<Suite1>::deserialize)?;
        // A fake record is decoded, too: to decode a public key takes a visible part of the time of an answer.
        let decoded = read(
            "stored login record",
            record.unwrap_or(&self.fake_record),
            RECORD_BYTES,
            ServerRegistration::<Suite1>::deserialize,
        )?;
        let record = record.is_some().then_some(decoded);
        let context = login_context(app_id);
        let parameters = login_parameters(&context);
        let started = opaque_ke::ServerLogin::start(rng, &self.setup, record, request, credential_id, parameters)
            .map_err(|error| LoginError::from_opaque(error, MESSAGE))?;
        let mut state = started.state.serialize();
        let kept = state.to_vec();
        state.as_mut_slice().zeroize();
        Ok((kept, started.message.serialize().to_vec()))
    }

    /// Checks the last message of a login to an app against the state that [`Self::start`] returned.
    ///
    /// # Errors
    /// [`LoginError::WrongPassword`] if the client did not prove that it knows the password,
    /// [`LoginError::MalformedMessage`].
    pub fn finish(app_id: AppId, state: &[u8], ke3: &[u8]) -> Result<(), LoginError> {
        const MESSAGE: &str = "KE3";
        let state = read(
            "login state",
            state,
            LOGIN_STATE_BYTES,
            opaque_ke::ServerLogin::<Suite1>::deserialize,
        )?;
        let finalization = read(MESSAGE, ke3, KE3_BYTES, CredentialFinalization::<Suite1>::deserialize)?;
        let mut finished = state
            .finish(finalization, login_parameters(&login_context(app_id)))
            .map_err(|error| LoginError::from_opaque(error, MESSAGE))?;
        finished.session_key.as_mut_slice().zeroize();
        Ok(())
    }
}

impl fmt::Debug for ServerLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerLogin")
            .field("public_key", &self.public_key())
            .finish_non_exhaustive()
    }
}

fn login_parameters(context: &[u8]) -> ServerLoginParameters<'_, '_> {
    ServerLoginParameters {
        context: Some(context),
        identifiers: Identifiers::default(),
    }
}
