//! The account vault: the account key, wrapped in slots, each of which one secret opens.
//!
//! ```text
//! vault    = format (1 byte, 1) || generation (u32 BE) || count (u32 BE) || slots (1 byte) || slots times slot || mac (32)
//! slot     = kind (1 byte) || length (u16 BE) || contents
//! contents = salt (32) || commitment (32) || nonce (24) || wrapped account key (32) || tag (16)
//! ```
//!
//! Slots are in ascending order of their kinds: the password (1), always; the recovery code (2), at most once; then
//! slots of kinds that this version does not know, for example a passkey. It keeps those unchanged.
//!
//! The key of the MAC is the account key, and the MAC covers everything before it. So the server can neither combine
//! slots of several vaults nor change the edition, by which a device recognises a rolled-back vault.

use std::fmt;

use rand::{CryptoRng, RngCore};
use subtle::ConstantTimeEq as _;
use synckit_login::ExportKey;
use synckit_protocol::{UserId, VaultEdition};

use crate::{
    AccountKey, KeyError, RecoveryCode,
    aead::{self, OVERHEAD_BYTES},
    derive::{WrappingKey, hkdf, hmac},
    keys::random_bytes,
    reader::{FORMAT, Reader, read_format},
};

const WHAT: &str = "account vault";
const WRAPPED_BYTES: usize = 32 + OVERHEAD_BYTES;
/// The contents of a slot that this version knows.
const SLOT_BYTES: usize = 32 + 32 + WRAPPED_BYTES;
/// The number of a password slot.
const PASSWORD: u8 = 1;
/// The number of the slot of a recovery code.
const RECOVERY: u8 = 2;
/// Slots of unknown kinds in one vault.
const OTHER_SLOTS_MAX: usize = 8;
/// The contents of a slot of an unknown kind. With all of its slots, a vault stays below
/// [`synckit_protocol::limits::VAULT_BYTES_MAX`].
const OTHER_SLOT_BYTES_MAX: usize = 400;

/// The account vault, as stored on the server: public bytes, from which only the right password or code opens a key.
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
    edition: VaultEdition,
    password: Slot,
    recovery: Option<Slot>,
    others: Vec<OtherSlot>,
    mac: [u8; 32],
}

/// The secret that opens a slot.
#[derive(Clone, Copy, PartialEq, Eq)]
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

/// A slot of a kind that a newer version of this library wrote.
#[derive(Clone, PartialEq, Eq)]
struct OtherSlot {
    kind: u8,
    contents: Vec<u8>,
}

impl Vault {
    /// Creates the first vault of an account: generation 1, a password slot, no recovery code.
    pub fn create(
        user_id: &UserId,
        export_key: &ExportKey,
        account_key: &AccountKey,
        rng: &mut (impl CryptoRng + RngCore),
    ) -> Self {
        Self::of_generation(1, user_id, export_key, account_key, rng)
    }

    /// Creates the first vault of a given generation, after the reset of a forgotten password. The server names the
    /// generation. The account key is new, and no slot of an earlier generation remains.
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
            edition: VaultEdition { generation, count: 1 },
            password,
            recovery: None,
            others: Vec::new(),
            mac: [0; 32],
        }
        .authenticated(user_id, account_key)
    }

    /// As [`Self::of_generation`], with a recovery code from the beginning.
    pub fn of_generation_with_recovery(
        generation: u32,
        user_id: &UserId,
        export_key: &ExportKey,
        code: &RecoveryCode,
        account_key: &AccountKey,
        rng: &mut (impl CryptoRng + RngCore),
    ) -> Self {
        let mut vault = Self::of_generation(generation, user_id, export_key, account_key, rng);
        vault.set_recovery(user_id, code, account_key, rng);
        vault.authenticated(user_id, account_key)
    }

    /// The generation and the count of this vault. Unauthenticated until a slot was opened.
    pub const fn edition(&self) -> VaultEdition {
        self.edition
    }

    /// The generation of this vault: an envelope names the generation whose account key wraps it. Unauthenticated until
    /// a slot was opened.
    pub const fn generation(&self) -> u32 {
        self.edition.generation
    }

    /// Whether this generation has a recovery code.
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
            .open(SlotKind::Password, user_id, self.generation(), export_key.as_bytes())?;
        self.verify(user_id, &account_key)?;
        Ok(account_key)
    }

    /// Opens the vault with the recovery code.
    ///
    /// # Errors
    /// [`KeyError::NoRecoverySlot`], [`KeyError::WrongKey`].
    pub fn open_with_recovery(&self, user_id: &UserId, code: &RecoveryCode) -> Result<AccountKey, KeyError> {
        let slot = self.recovery.as_ref().ok_or(KeyError::NoRecoverySlot)?;
        let account_key = slot.open(SlotKind::Recovery, user_id, self.generation(), code.expose_entropy())?;
        self.verify(user_id, &account_key)?;
        Ok(account_key)
    }

    /// The vault that replaces this one under a new password. All other slots stay.
    ///
    /// # Errors
    /// [`KeyError::WrongKey`] if `account_key` is not the one in this vault: a vault whose slots hold two different
    /// keys would lose data at the next recovery. [`KeyError::VaultLimit`].
    pub fn with_password(
        &self,
        user_id: &UserId,
        export_key: &ExportKey,
        account_key: &AccountKey,
        rng: &mut (impl CryptoRng + RngCore),
    ) -> Result<Self, KeyError> {
        let mut next = self.successor(user_id, account_key)?;
        next.password = Slot::seal(
            SlotKind::Password,
            user_id,
            self.generation(),
            export_key.as_bytes(),
            account_key,
            rng,
        );
        Ok(next.authenticated(user_id, account_key))
    }

    /// The vault that replaces this one with a recovery code, which replaces an earlier one.
    ///
    /// # Errors
    /// As [`Self::with_password`].
    pub fn with_recovery(
        &self,
        user_id: &UserId,
        code: &RecoveryCode,
        account_key: &AccountKey,
        rng: &mut (impl CryptoRng + RngCore),
    ) -> Result<Self, KeyError> {
        let mut next = self.successor(user_id, account_key)?;
        next.set_recovery(user_id, code, account_key, rng);
        Ok(next.authenticated(user_id, account_key))
    }

    /// Leaves a vault whose MAC is not valid yet.
    fn set_recovery(
        &mut self,
        user_id: &UserId,
        code: &RecoveryCode,
        account_key: &AccountKey,
        rng: &mut (impl CryptoRng + RngCore),
    ) {
        self.recovery = Some(Slot::seal(
            SlotKind::Recovery,
            user_id,
            self.generation(),
            code.expose_entropy(),
            account_key,
            rng,
        ));
    }

    /// A copy with the next count, whose MAC is not valid yet. Only for the holder of the account key.
    fn successor(&self, user_id: &UserId, account_key: &AccountKey) -> Result<Self, KeyError> {
        self.verify(user_id, account_key)?;
        let mut next = self.clone();
        next.edition = self.edition.next_count().ok_or(KeyError::VaultLimit)?;
        Ok(next)
    }

    /// The bytes to store.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.encode_unauthenticated();
        out.extend_from_slice(&self.mac);
        out
    }

    /// Reads the output of [`Self::encode`]. Nothing is authentic until a slot was opened.
    ///
    /// # Errors
    /// [`KeyError::UnsupportedFormat`], [`KeyError::Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Self, KeyError> {
        read_format(WHAT, bytes, |reader| {
            let edition = VaultEdition {
                generation: reader.u32()?,
                count: reader.u32()?,
            };
            let slots = reader.u8()?;
            let mut password = None;
            let mut recovery = None;
            let mut others = Vec::new();
            let mut previous = 0;
            for _ in 0..slots {
                let kind = reader.u8()?;
                let len = usize::from(reader.u16()?);
                let contents = reader.bytes(len)?;
                match kind {
                    PASSWORD if previous < kind => password = Some(Slot::decode(contents)?),
                    RECOVERY if previous < kind => recovery = Some(Slot::decode(contents)?),
                    // Several slots may be of one unknown kind.
                    3.. if previous <= kind && len <= OTHER_SLOT_BYTES_MAX => others.push(OtherSlot {
                        kind,
                        contents: contents.to_vec(),
                    }),
                    _ => return None,
                }
                previous = kind;
            }
            let mac = reader.array()?;
            // Both parts of an edition count from 1.
            let counts = edition.generation > 0 && edition.count > 0;
            (counts && others.len() <= OTHER_SLOTS_MAX).then_some(Self {
                edition,
                password: password?,
                recovery,
                others,
                mac,
            })
        })
    }

    fn encode_unauthenticated(&self) -> Vec<u8> {
        let password = (PASSWORD, self.password.encode());
        let recovery = self.recovery.iter().map(|slot| (RECOVERY, slot.encode()));
        let others = self.others.iter().map(|slot| (slot.kind, slot.contents.clone()));
        let slots: Vec<(u8, Vec<u8>)> = std::iter::once(password).chain(recovery).chain(others).collect();
        let mut out = vec![FORMAT];
        out.extend_from_slice(&self.edition.generation.to_be_bytes());
        out.extend_from_slice(&self.edition.count.to_be_bytes());
        // At most 10 slots, each far below 64 KiB.
        out.push(u8::try_from(slots.len()).unwrap_or(u8::MAX));
        for (kind, contents) in slots {
            out.push(kind);
            out.extend_from_slice(&u16::try_from(contents.len()).unwrap_or(u16::MAX).to_be_bytes());
            out.extend_from_slice(&contents);
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
            .field("edition", &self.edition)
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
            Self::Password => PASSWORD,
            Self::Recovery => RECOVERY,
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

    /// `"synckit/1 vault" || 0 || user_id || generation (u32 BE) || kind (1 password, 2 recovery)`: a slot that was
    /// moved to another account, generation or place does not open.
    fn aad(kind: SlotKind, user_id: &UserId, generation: u32) -> Vec<u8> {
        let parts: [&[u8]; 4] = [
            b"synckit/1 vault\0",
            user_id.as_bytes(),
            &generation.to_be_bytes(),
            &[kind.number()],
        ];
        parts.concat()
    }

    fn encode(&self) -> Vec<u8> {
        let parts: [&[u8]; 3] = [&self.salt, &self.commitment, &self.wrapped];
        parts.concat()
    }

    fn decode(contents: &[u8]) -> Option<Self> {
        if contents.len() != SLOT_BYTES {
            return None;
        }
        let mut reader = Reader::new(contents);
        Some(Self {
            salt: reader.array()?,
            commitment: reader.array()?,
            wrapped: reader.array()?,
        })
    }
}
