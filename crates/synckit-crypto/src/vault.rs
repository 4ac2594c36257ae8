//! The account vault: the account key, wrapped once under the password and once under the recovery code.
//!
//! ```text
//! vault = format (1 byte, 1) || generation (u32 BE) || recovery (1 byte, 0 or 1)
//!         || password slot || recovery slot, if there is one || mac (32)
//! slot  = salt (32) || commitment (32) || nonce (24) || wrapped account key (32) || tag (16)
//! ```
//!
//! The MAC is keyed by the account key and covers everything before it, so that the server cannot put a vault together
//! from slots of several.

use std::fmt;

use rand::{CryptoRng, RngCore};
use subtle::ConstantTimeEq as _;
use synckit_login::ExportKey;
use synckit_protocol::UserId;

use crate::{
    AccountKey, KeyError, RecoveryCode,
    aead::{self, OVERHEAD_BYTES},
    derive::{WrappingKey, hkdf, hmac},
    keys::random_bytes,
    reader::Reader,
};

/// The format that this library writes, and the only one that it reads.
const FORMAT: u8 = 1;
const WHAT: &str = "account vault";
const WRAPPED_BYTES: usize = 32 + OVERHEAD_BYTES;

/// The account vault, as the server keeps it: public bytes, of which only the right password or code makes a key.
///
/// # Examples
/// ```
/// use rand::rngs::OsRng;
/// use synckit_crypto::{AccountKey, KeyError, RecoveryCode, Vault};
/// use synckit_login::ExportKey;
/// use synckit_protocol::UserId;
///
/// let user = UserId::from_bytes([2; 16]);
/// let export_key = ExportKey::from_bytes([7; 64]); // of an OPAQUE login
/// let account_key = AccountKey::generate(&mut OsRng);
/// let vault = Vault::create(&user, &export_key, &account_key, &mut OsRng);
///
/// let code = RecoveryCode::generate(&mut OsRng);
/// let vault = vault.with_recovery(&user, &code, &account_key, &mut OsRng)?;
/// assert_eq!(vault.open_with_password(&user, &export_key)?, account_key);
/// assert_eq!(vault.open_with_recovery(&user, &code)?, account_key);
/// # Ok::<(), KeyError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Vault {
    generation: u32,
    password: Slot,
    recovery: Option<Slot>,
    mac: [u8; 32],
}

/// What a slot is opened with. The number stands in the AAD, the label in the derivation.
#[derive(Clone, Copy)]
enum SlotKind {
    Password,
    Recovery,
}

#[derive(Clone, PartialEq, Eq)]
struct Slot {
    salt: [u8; 32],
    commitment: [u8; 32],
    wrapped: [u8; WRAPPED_BYTES],
}

impl Vault {
    /// Makes the first vault of an account: generation 1, a password slot, no recovery code.
    pub fn create(
        user_id: &UserId,
        export_key: &ExportKey,
        account_key: &AccountKey,
        rng: &mut (impl CryptoRng + RngCore),
    ) -> Self {
        Self::of_generation(1, user_id, export_key, account_key, rng)
    }

    /// Makes a vault of a given generation: for a client that resets a password and was told the generation to follow,
    /// but was not given the vault.
    pub fn of_generation(
        generation: u32,
        user_id: &UserId,
        export_key: &ExportKey,
        account_key: &AccountKey,
        rng: &mut (impl CryptoRng + RngCore),
    ) -> Self {
        let password = Slot::seal(
            SlotKind::Password,
            user_id,
            generation,
            export_key.as_bytes(),
            account_key,
            rng,
        );
        Self {
            generation,
            password,
            recovery: None,
            mac: [0; 32],
        }
        .authenticated(user_id, account_key)
    }

    /// Makes the vault that follows this one after the password was reset without knowing it: a new generation with a
    /// new account key, and nothing of the old slots.
    ///
    /// # Errors
    /// [`KeyError::GenerationLimit`].
    pub fn next_generation(
        &self,
        user_id: &UserId,
        export_key: &ExportKey,
        account_key: &AccountKey,
        rng: &mut (impl CryptoRng + RngCore),
    ) -> Result<Self, KeyError> {
        let generation = self.generation.checked_add(1).ok_or(KeyError::GenerationLimit)?;
        Ok(Self::of_generation(generation, user_id, export_key, account_key, rng))
    }

    /// Counts the resets of the password, from 1. An envelope names the generation that it was wrapped in.
    pub const fn generation(&self) -> u32 {
        self.generation
    }

    /// Whether a recovery code was set up in this generation.
    pub const fn has_recovery(&self) -> bool {
        self.recovery.is_some()
    }

    /// Opens the vault with the export key of a login.
    ///
    /// # Errors
    /// [`KeyError::WrongKey`].
    pub fn open_with_password(&self, user_id: &UserId, export_key: &ExportKey) -> Result<AccountKey, KeyError> {
        let account_key = self
            .password
            .open(SlotKind::Password, user_id, self.generation, export_key.as_bytes())?;
        self.verify(user_id, &account_key)?;
        Ok(account_key)
    }

    /// Opens the vault with the recovery code.
    ///
    /// # Errors
    /// [`KeyError::NoRecoverySlot`], [`KeyError::WrongKey`].
    pub fn open_with_recovery(&self, user_id: &UserId, code: &RecoveryCode) -> Result<AccountKey, KeyError> {
        let slot = self.recovery.as_ref().ok_or(KeyError::NoRecoverySlot)?;
        let account_key = slot.open(SlotKind::Recovery, user_id, self.generation, code.expose_entropy())?;
        self.verify(user_id, &account_key)?;
        Ok(account_key)
    }

    /// The same vault under a new password. The recovery code stays.
    ///
    /// # Errors
    /// [`KeyError::WrongKey`] if `account_key` is not the one in this vault: a vault whose slots hold two different
    /// keys would lose data at the next recovery.
    pub fn with_password(
        &self,
        user_id: &UserId,
        export_key: &ExportKey,
        account_key: &AccountKey,
        rng: &mut (impl CryptoRng + RngCore),
    ) -> Result<Self, KeyError> {
        self.verify(user_id, account_key)?;
        let password = Slot::seal(
            SlotKind::Password,
            user_id,
            self.generation,
            export_key.as_bytes(),
            account_key,
            rng,
        );
        Ok(Self {
            password,
            ..self.clone()
        }
        .authenticated(user_id, account_key))
    }

    /// The same vault with a recovery code, which replaces an earlier one.
    ///
    /// # Errors
    /// [`KeyError::WrongKey`] if `account_key` is not the one in this vault.
    pub fn with_recovery(
        &self,
        user_id: &UserId,
        code: &RecoveryCode,
        account_key: &AccountKey,
        rng: &mut (impl CryptoRng + RngCore),
    ) -> Result<Self, KeyError> {
        self.verify(user_id, account_key)?;
        let recovery = Some(Slot::seal(
            SlotKind::Recovery,
            user_id,
            self.generation,
            code.expose_entropy(),
            account_key,
            rng,
        ));
        Ok(Self {
            recovery,
            ..self.clone()
        }
        .authenticated(user_id, account_key))
    }

    /// The bytes to store.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.encode_unauthenticated();
        out.extend_from_slice(&self.mac);
        out
    }

    /// Reads what [`Self::encode`] wrote. Nothing is authentic until a slot was opened.
    ///
    /// # Errors
    /// [`KeyError::UnsupportedFormat`], [`KeyError::Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Self, KeyError> {
        match bytes.first() {
            Some(&FORMAT) => Self::decode_fields(bytes).ok_or(KeyError::Malformed { what: WHAT }),
            Some(&found) if found > FORMAT => Err(KeyError::UnsupportedFormat { what: WHAT, found }),
            _ => Err(KeyError::Malformed { what: WHAT }),
        }
    }

    fn decode_fields(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let _format = reader.u8()?;
        let generation = reader.u32()?;
        let has_recovery = match reader.u8()? {
            0 => false,
            1 => true,
            _ => return None,
        };
        let password = Slot::decode(&mut reader)?;
        let recovery = if has_recovery {
            Some(Slot::decode(&mut reader)?)
        } else {
            None
        };
        let mac = reader.array()?;
        reader.end()?;
        // Generations count from 1.
        (generation > 0).then_some(Self {
            generation,
            password,
            recovery,
            mac,
        })
    }

    fn encode_unauthenticated(&self) -> Vec<u8> {
        let mut out = vec![FORMAT];
        out.extend_from_slice(&self.generation.to_be_bytes());
        out.push(u8::from(self.has_recovery()));
        for slot in [Some(&self.password), self.recovery.as_ref()].into_iter().flatten() {
            out.extend_from_slice(&slot.salt);
            out.extend_from_slice(&slot.commitment);
            out.extend_from_slice(&slot.wrapped);
        }
        out
    }

    fn mac_of(&self, user_id: &UserId, account_key: &AccountKey) -> [u8; 32] {
        let key = hkdf::<32>(
            user_id.as_bytes(),
            account_key.expose_bytes(),
            &[b"synckit/1 vault mac"],
        );
        hmac(key.as_slice(), &[&self.encode_unauthenticated()])
    }

    fn authenticated(mut self, user_id: &UserId, account_key: &AccountKey) -> Self {
        self.mac = self.mac_of(user_id, account_key);
        self
    }

    fn verify(&self, user_id: &UserId, account_key: &AccountKey) -> Result<(), KeyError> {
        if self.mac_of(user_id, account_key).ct_eq(&self.mac).into() {
            Ok(())
        } else {
            Err(KeyError::WrongKey)
        }
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault")
            .field("generation", &self.generation)
            .field("has_recovery", &self.has_recovery())
            .finish_non_exhaustive()
    }
}

impl SlotKind {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Password => b"synckit/1 vault password",
            Self::Recovery => b"synckit/1 vault recovery",
        }
    }

    const fn number(self) -> u8 {
        match self {
            Self::Password => 1,
            Self::Recovery => 2,
        }
    }
}

impl Slot {
    fn seal(
        kind: SlotKind,
        user_id: &UserId,
        generation: u32,
        secret: &[u8],
        account_key: &AccountKey,
        rng: &mut (impl CryptoRng + RngCore),
    ) -> Self {
        let salt = random_bytes(rng);
        let wrapping = Self::wrapping_key(kind, user_id, &salt, secret);
        let sealed = aead::seal(
            &wrapping.key,
            &Self::aad(kind, user_id, generation),
            account_key.expose_bytes(),
            rng,
        );
        let mut wrapped = [0; WRAPPED_BYTES];
        wrapped.copy_from_slice(&sealed);
        Self {
            salt,
            commitment: *wrapping.commitment(),
            wrapped,
        }
    }

    fn open(&self, kind: SlotKind, user_id: &UserId, generation: u32, secret: &[u8]) -> Result<AccountKey, KeyError> {
        let wrapping = Self::wrapping_key(kind, user_id, &self.salt, secret);
        if !wrapping.matches(&self.commitment) {
            return Err(KeyError::WrongKey);
        }
        let plaintext = aead::open(&wrapping.key, &Self::aad(kind, user_id, generation), &self.wrapped)
            .map_err(|_| KeyError::WrongKey)?;
        let key = plaintext.as_slice().try_into().map_err(|_| KeyError::WrongKey)?;
        Ok(AccountKey::from_bytes(key))
    }

    fn wrapping_key(kind: SlotKind, user_id: &UserId, salt: &[u8; 32], secret: &[u8]) -> WrappingKey {
        WrappingKey::derive(salt, secret, &[kind.label(), user_id.as_bytes()])
    }

    /// `"synckit/1 vault" || 0 || user_id || generation (u32 BE) || kind (1 password, 2 recovery)`: a slot moved to
    /// another account, another generation or the other place does not open.
    fn aad(kind: SlotKind, user_id: &UserId, generation: u32) -> Vec<u8> {
        let parts: [&[u8]; 4] = [
            b"synckit/1 vault\0",
            user_id.as_bytes(),
            &generation.to_be_bytes(),
            &[kind.number()],
        ];
        parts.concat()
    }

    fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            salt: reader.array()?,
            commitment: reader.array()?,
            wrapped: reader.array()?,
        })
    }
}
