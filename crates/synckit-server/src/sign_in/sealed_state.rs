//! The server's state between two requests, carried by the client in a value that only the server can open.
//!
//! So any node can finish an exchange that another node began, and a flood of first requests fills no memory. Sealed
//! with XChaCha20-Poly1305 under a random nonce. The purpose is the associated data, so a value of one exchange opens
//! in no other. Valid for [`limits::LOGIN_SECONDS`], those of a browser sign-in for the limits of their own.
//!
//! Invariant: a sealed value has the same length for an account that exists and for one that does not.

use chacha20poly1305::{
    XChaCha20Poly1305, XNonce,
    aead::{Aead as _, KeyInit as _, Payload},
};
use synckit_protocol::{AppId, SessionId, UserId, limits, wire::UnixSeconds};
use synckit_store::{CredentialId, SecretHash};
use zeroize::Zeroizing;

use super::NormalEmail;
use crate::{limits::Ticket, platform::random_bytes};

const NONCE_BYTES: usize = 24;

/// The exchange that a sealed value belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// `POST /api/sync/auth`.
    Login,
    /// `POST /api/sync/auth/unlock`.
    Unlock,
    /// `POST /api/accounts`.
    Register,
    /// `POST /api/account/password`.
    ChangePassword,
    /// `POST /api/accounts/reset`.
    Reset,
    /// `POST /oauth/sign-in`: what the sign-in page was opened for.
    Authorize,
    /// `POST /oauth/consent` and `POST /oauth/authorize`: what the consent page asks about.
    Grant,
    /// `POST /oauth/token`: a code.
    Code,
    /// `POST /account/address/confirm`: another address for an account.
    Address,
    /// What the database keeps of a machine without a browser, for the page.
    DeviceAsked,
    /// `POST /oauth/device/answer`: which code the page asks about.
    DeviceQuestion,
    /// What the database keeps of who allowed a machine to sign in.
    DeviceAllowed,
    /// The cookie of a browser that is signed in to the server's own pages.
    Page,
}

impl Purpose {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Login => b"synckit/1 state login",
            Self::Unlock => b"synckit/1 state unlock",
            Self::Register => b"synckit/1 state register",
            Self::ChangePassword => b"synckit/1 state password",
            Self::Reset => b"synckit/1 state reset",
            Self::Authorize => b"synckit/1 state authorize",
            Self::Grant => b"synckit/1 state grant",
            Self::Code => b"synckit/1 code",
            Self::Address => b"synckit/1 state address",
            Self::DeviceAsked => b"synckit/1 device asked",
            Self::DeviceQuestion => b"synckit/1 device question",
            Self::DeviceAllowed => b"synckit/1 device allowed",
            Self::Page => b"synckit/1 page",
        }
    }
}

/// The server's half of a login.
pub(crate) struct LoginState {
    pub(crate) app_id: AppId,
    /// The account, or its stand-in.
    pub(crate) user_id: UserId,
    /// Of the record: a password that is replaced before the end opens nothing.
    pub(crate) credential_id: CredentialId,
    /// Whether the account exists, with a record that a password can match.
    pub(crate) known: bool,
    /// The session that is unlocked; zeros for a login.
    pub(crate) session_id: SessionId,
    /// The guess that the start was counted as, to be given back.
    pub(crate) ticket: Ticket,
    /// The mailed code, if the login confirms the address of a pending account.
    pub(crate) confirms: Option<SecretHash>,
    /// The state of the OPAQUE exchange.
    pub(crate) opaque: Zeroizing<Vec<u8>>,
}

/// The server's half of a registration.
pub(crate) struct RegistrationState {
    pub(crate) user_id: UserId,
    /// Drawn for this exchange, to be stored with its record.
    pub(crate) credential_id: CredentialId,
    pub(crate) invite: Option<SecretHash>,
    pub(crate) email: NormalEmail,
}

/// The server's half of a change or a reset of a password.
pub(crate) struct PasswordState {
    pub(crate) user_id: UserId,
    /// Drawn for this exchange, to be stored with its record.
    pub(crate) credential_id: CredentialId,
    /// The mailed code, for a reset; the session, for a change, in the first 16 bytes.
    pub(crate) authority: [u8; 32],
    /// For a reset, the version of the vault that it replaces; else 0.
    pub(crate) vault_version: u64,
}

/// Why a sealed value does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StateError {
    /// It is not one of this server's for this purpose.
    Invalid,
    /// It is too old.
    Expired,
}

/// Seals and opens.
pub(crate) struct SealedStates {
    cipher: XChaCha20Poly1305,
}

impl SealedStates {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self {
            cipher: XChaCha20Poly1305::new(key.into()),
        }
    }

    pub(crate) fn seal_login(&self, purpose: Purpose, state: &LoginState, now: UnixSeconds) -> Vec<u8> {
        let mut writer = SealedWriter::new(now);
        writer.put(state.app_id.as_bytes());
        writer.put(state.user_id.as_bytes());
        writer.put(&state.credential_id.0);
        writer.put(&[u8::from(state.known)]);
        writer.put(state.session_id.as_bytes());
        writer.put(&state.ticket.to_bytes());
        writer.put_optional(state.confirms);
        writer.put(&state.opaque);
        self.seal(purpose, &writer)
    }

    pub(crate) fn open_login(
        &self,
        purpose: Purpose,
        sealed: &[u8],
        now: UnixSeconds,
    ) -> Result<LoginState, StateError> {
        let plaintext = self.open(purpose, sealed)?;
        let mut reader = SealedReader::new(&plaintext, now, limits::LOGIN_SECONDS)?;
        Ok(LoginState {
            app_id: AppId::from_bytes(reader.take()?),
            user_id: UserId::from_bytes(reader.take()?),
            credential_id: CredentialId(reader.take()?),
            known: reader.take::<1>()? == [1],
            session_id: SessionId::from_bytes(reader.take()?),
            ticket: Ticket::from_bytes(reader.take()?),
            confirms: reader.take_optional()?,
            opaque: Zeroizing::new(reader.rest().to_vec()),
        })
    }

    pub(crate) fn seal_registration(&self, state: &RegistrationState, now: UnixSeconds) -> Vec<u8> {
        let mut writer = SealedWriter::new(now);
        writer.put(state.user_id.as_bytes());
        writer.put(&state.credential_id.0);
        writer.put_optional(state.invite);
        writer.put(state.email.as_str().as_bytes());
        self.seal(Purpose::Register, &writer)
    }

    pub(crate) fn open_registration(&self, sealed: &[u8], now: UnixSeconds) -> Result<RegistrationState, StateError> {
        let plaintext = self.open(Purpose::Register, sealed)?;
        let mut reader = SealedReader::new(&plaintext, now, limits::LOGIN_SECONDS)?;
        let user_id = UserId::from_bytes(reader.take()?);
        let credential_id = CredentialId(reader.take()?);
        let invite = reader.take_optional()?;
        let email = std::str::from_utf8(reader.rest())
            .ok()
            .and_then(|text| NormalEmail::parse(text).ok())
            .ok_or(StateError::Invalid)?;
        Ok(RegistrationState {
            user_id,
            credential_id,
            invite,
            email,
        })
    }

    pub(crate) fn seal_password(&self, purpose: Purpose, state: &PasswordState, now: UnixSeconds) -> Vec<u8> {
        let mut writer = SealedWriter::new(now);
        writer.put(state.user_id.as_bytes());
        writer.put(&state.credential_id.0);
        writer.put(&state.authority);
        writer.put(&state.vault_version.to_be_bytes());
        self.seal(purpose, &writer)
    }

    pub(crate) fn open_password(
        &self,
        purpose: Purpose,
        sealed: &[u8],
        now: UnixSeconds,
    ) -> Result<PasswordState, StateError> {
        let plaintext = self.open(purpose, sealed)?;
        let mut reader = SealedReader::new(&plaintext, now, limits::LOGIN_SECONDS)?;
        Ok(PasswordState {
            user_id: UserId::from_bytes(reader.take()?),
            credential_id: CredentialId(reader.take()?),
            authority: reader.take()?,
            vault_version: u64::from_be_bytes(reader.take()?),
        })
    }

    pub(crate) fn seal(&self, purpose: Purpose, state: &SealedWriter) -> Vec<u8> {
        let nonce = random_bytes::<NONCE_BYTES>();
        let payload = Payload {
            msg: &state.0,
            aad: purpose.label(),
        };
        #[expect(clippy::expect_used, reason = "the cipher fails only for plaintexts of 256 GiB")]
        let ciphertext = self
            .cipher
            .encrypt(XNonce::from_slice(&nonce), payload)
            .expect("a short plaintext");
        let mut sealed = Vec::with_capacity(NONCE_BYTES + ciphertext.len());
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&ciphertext);
        sealed
    }

    pub(crate) fn open(&self, purpose: Purpose, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, StateError> {
        let (nonce, ciphertext) = sealed.split_at_checked(NONCE_BYTES).ok_or(StateError::Invalid)?;
        let payload = Payload {
            msg: ciphertext,
            aad: purpose.label(),
        };
        let plaintext = self
            .cipher
            .decrypt(XNonce::from_slice(nonce), payload)
            .map_err(|_| StateError::Invalid)?;
        Ok(Zeroizing::new(plaintext))
    }
}

/// Fields of fixed length, one after the other; the time of sealing first.
pub(crate) struct SealedWriter(Zeroizing<Vec<u8>>);

impl SealedWriter {
    pub(crate) fn new(now: UnixSeconds) -> Self {
        // Room for the longest state, so that no copy of a secret is left behind by growing.
        let mut bytes = Zeroizing::new(Vec::with_capacity(1024));
        bytes.extend_from_slice(&now.to_be_bytes());
        Self(bytes)
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// A text of at most 64 KiB.
    pub(crate) fn put_text(&mut self, text: &str) {
        let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
        self.put(&length.to_be_bytes());
        self.put(text.as_bytes().get(..usize::from(length)).unwrap_or_default());
    }

    /// As long without a hash as with one.
    fn put_optional(&mut self, hash: Option<SecretHash>) {
        self.put(&[u8::from(hash.is_some())]);
        self.put(&hash.map_or([0; 32], |hash| hash.0));
    }
}

pub(crate) struct SealedReader<'a>(&'a [u8]);

impl<'a> SealedReader<'a> {
    /// Reads what was sealed at most `seconds` ago.
    pub(crate) fn new(plaintext: &'a [u8], now: UnixSeconds, seconds: u64) -> Result<Self, StateError> {
        let mut this = Self(plaintext);
        let sealed_at = u64::from_be_bytes(this.take()?);
        // Nodes whose clocks differ by a little must still understand each other, hence no check of the future.
        if now > sealed_at.saturating_add(seconds) {
            return Err(StateError::Expired);
        }
        Ok(this)
    }

    pub(crate) fn take<const N: usize>(&mut self) -> Result<[u8; N], StateError> {
        let (field, rest) = self.0.split_first_chunk::<N>().ok_or(StateError::Invalid)?;
        self.0 = rest;
        Ok(*field)
    }

    pub(crate) fn take_text(&mut self) -> Result<String, StateError> {
        let length = u16::from_be_bytes(self.take()?);
        let (text, rest) = self.0.split_at_checked(length.into()).ok_or(StateError::Invalid)?;
        self.0 = rest;
        String::from_utf8(text.to_vec()).map_err(|_| StateError::Invalid)
    }

    fn take_optional(&mut self) -> Result<Option<SecretHash>, StateError> {
        let is_some = self.take::<1>()? == [1];
        let hash = SecretHash(self.take()?);
        Ok(is_some.then_some(hash))
    }

    fn rest(self) -> &'a [u8] {
        self.0
    }
}
