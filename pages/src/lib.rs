//! What the pages compute, compiled to WebAssembly: the client's side of OPAQUE (RFC 9807) of [`synckit_login`], and the vaults
//! of new accounts, passwords and recovery codes, of [`synckit_crypto`].
//!
//! The page writes bytes to [`input`], calls a function, and reads [`output_length`] bytes at [`output`]. A function returns 0
//! or why it failed. One instance serves one login or registration: the page drops it afterwards, and its memory with it.

use std::{cell::RefCell, ptr};

use rand::{CryptoRng, Error, RngCore};
use synckit_crypto::{AccountKey, KeyError, RecoveryCode, Vault};
use synckit_login::{ClientLogin, ClientRegistration, ExportKey, LoginError};
use synckit_protocol::{AppId, UserId};
use zeroize::Zeroizing;

/// Why a function failed, as it returns it; 0 is success.
#[repr(u32)]
#[derive(Clone, Copy)]
enum Failure {
    /// The password is wrong, or the address has no account: nobody can tell.
    WrongPassword = 1,
    /// The password is empty or too long.
    UnusablePassword = 2,
    /// What came from the server is not the expected message.
    MalformedMessage = 3,
    /// The functions were called in another order, or a primitive failed.
    Internal = 4,
    /// The password is right, and does not open the vault: the server gave out another one.
    OtherVault = 5,
}

impl From<KeyError> for Failure {
    fn from(_: KeyError) -> Self {
        Self::OtherVault
    }
}

impl From<LoginError> for Failure {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::WrongPassword => Self::WrongPassword,
            LoginError::UnusablePassword => Self::UnusablePassword,
            LoginError::MalformedMessage { .. } => Self::MalformedMessage,
            _ => Self::Internal,
        }
    }
}

#[derive(Default)]
struct Instance {
    input: Zeroizing<Vec<u8>>,
    output: Zeroizing<Vec<u8>>,
    login: Option<ClientLogin>,
    registration: Option<ClientRegistration>,
    export_key: Option<ExportKey>,
    opened: Option<(UserId, Vault, AccountKey)>,
}

thread_local! {
    static INSTANCE: RefCell<Instance> = RefCell::default();
}

/// Makes room for the input of the next call, and returns where.
#[unsafe(no_mangle)]
pub extern "C" fn input(length: usize) -> *mut u8 {
    INSTANCE.with_borrow_mut(|this| {
        this.input = Zeroizing::new(vec![0; length]);
        this.input.as_mut_ptr()
    })
}

/// Where the output of the last call is.
#[unsafe(no_mangle)]
pub extern "C" fn output() -> *const u8 {
    INSTANCE.with_borrow(|this| this.output.as_ptr())
}

/// The length of the output of the last call.
#[unsafe(no_mangle)]
pub extern "C" fn output_length() -> usize {
    INSTANCE.with_borrow(|this| this.output.len())
}

/// Begins a login. Input: the password, in UTF-8. Output: KE1.
#[unsafe(no_mangle)]
pub extern "C" fn login_start() -> u32 {
    call(|this, input| {
        let password = str::from_utf8(input).map_err(|_| Failure::UnusablePassword)?;
        let (login, ke1) = ClientLogin::start(password, &mut PageRng)?;
        this.login = Some(login);
        Ok(ke1)
    })
}

/// Finishes a login. Input: the app id, then KE2. Output: KE3. Takes as long as one Argon2id of 64 MiB.
#[unsafe(no_mangle)]
pub extern "C" fn login_finish() -> u32 {
    call(|this, input| {
        let (app_id, ke2) = input.split_first_chunk::<16>().ok_or(Failure::MalformedMessage)?;
        let login = this.login.take().ok_or(Failure::Internal)?;
        let finished = login.finish(AppId::from_bytes(*app_id), ke2, None, &mut PageRng)?;
        this.export_key = Some(finished.export_key);
        Ok(finished.ke3)
    })
}

/// Opens a vault with the login that was finished. Input: the user id, then the vault. No output.
#[unsafe(no_mangle)]
pub extern "C" fn vault_open() -> u32 {
    call(|this, input| {
        let (user_id, vault) = input.split_first_chunk::<16>().ok_or(Failure::MalformedMessage)?;
        let user_id = UserId::from_bytes(*user_id);
        let export_key = this.export_key.take().ok_or(Failure::Internal)?;
        let vault = Vault::decode(vault)?;
        let account_key = vault.open_with_password(&user_id, &export_key)?;
        this.opened = Some((user_id, vault, account_key));
        Ok(Vec::new())
    })
}

/// Finishes the registration of a new password for the opened vault. Input: the response. Output: the record, and the vault that
/// replaces the opened one, each after its length (2 bytes). Takes as long as one Argon2id of 64 MiB.
#[unsafe(no_mangle)]
pub extern "C" fn vault_with_password() -> u32 {
    call(|this, response| {
        let registration = this.registration.take().ok_or(Failure::Internal)?;
        let (user_id, vault, account_key) = this.opened.take().ok_or(Failure::Internal)?;
        let finished = registration.finish(response, &mut PageRng)?;
        let next = vault.with_password(&user_id, &finished.export_key, &account_key, &mut PageRng)?;
        parts(&[&finished.upload, &next.encode()], &[])
    })
}

/// Makes a new recovery code for the opened vault. No input. Output: the vault that replaces the opened one, after its length (2
/// bytes), and the words of the code.
#[unsafe(no_mangle)]
pub extern "C" fn vault_with_recovery() -> u32 {
    call(|this, _| {
        let (user_id, vault, account_key) = this.opened.take().ok_or(Failure::Internal)?;
        let code = RecoveryCode::generate(&mut PageRng);
        let next = vault.with_recovery(&user_id, &code, &account_key, &mut PageRng)?;
        parts(&[&next.encode()], code.words().as_bytes())
    })
}

/// These parts, each after its length, and the rest.
fn parts(parts: &[&[u8]], rest: &[u8]) -> Result<Vec<u8>, Failure> {
    // Room for all, so that no copy of a secret is left behind by growing.
    let mut output = Vec::with_capacity(1024);
    for part in parts {
        let length = u16::try_from(part.len()).map_err(|_| Failure::Internal)?;
        output.extend_from_slice(&length.to_be_bytes());
        output.extend_from_slice(part);
    }
    output.extend_from_slice(rest);
    Ok(output)
}

/// Begins a registration, or the reset of a password. Input: the new password, in UTF-8. Output: the request.
#[unsafe(no_mangle)]
pub extern "C" fn register_start() -> u32 {
    call(|this, input| {
        let password = str::from_utf8(input).map_err(|_| Failure::UnusablePassword)?;
        let (registration, request) = ClientRegistration::start(password, &mut PageRng)?;
        this.registration = Some(registration);
        Ok(request)
    })
}

/// Finishes it. Input: the user id, the generation of the vault (4 bytes), then the response. Output: the record, the vault and
/// the words of the recovery code that opens it, the first two after their lengths (2 bytes each). Takes as long as one
/// Argon2id of 64 MiB.
#[unsafe(no_mangle)]
pub extern "C" fn register_finish() -> u32 {
    call(|this, input| {
        let (user_id, rest) = input.split_first_chunk::<16>().ok_or(Failure::MalformedMessage)?;
        let (generation, response) = rest.split_first_chunk::<4>().ok_or(Failure::MalformedMessage)?;
        let registration = this.registration.take().ok_or(Failure::Internal)?;
        let finished = registration.finish(response, &mut PageRng)?;
        let (account_key, code) = (AccountKey::generate(&mut PageRng), RecoveryCode::generate(&mut PageRng));
        let vault = Vault::of_generation_with_recovery(
            u32::from_be_bytes(*generation),
            &UserId::from_bytes(*user_id),
            &finished.export_key,
            &code,
            &account_key,
            &mut PageRng,
        );
        parts(&[&finished.upload, &vault.encode()], code.words().as_bytes())
    })
}

fn call(work: impl FnOnce(&mut Instance, &[u8]) -> Result<Vec<u8>, Failure>) -> u32 {
    INSTANCE.with_borrow_mut(|this| {
        let input = std::mem::take(&mut this.input);
        let (output, code) = match work(this, &input) {
            Ok(output) => (output, 0),
            Err(failure) => (Vec::new(), failure as u32),
        };
        this.output = Zeroizing::new(output);
        code
    })
}

#[link(wasm_import_module = "page")]
unsafe extern "C" {
    /// Fills memory with random bytes: `crypto.getRandomValues`.
    fn random(at: *mut u8, length: usize);
}

/// The page's source of randomness.
struct PageRng;

impl RngCore for PageRng {
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.fill_bytes(&mut bytes);
        u32::from_be_bytes(bytes)
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill_bytes(&mut bytes);
        u64::from_be_bytes(bytes)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        // SAFETY: the page writes `length` bytes at `at`, which is this slice, and keeps no reference.
        unsafe { random(ptr::from_mut(bytes).cast(), bytes.len()) }
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

impl CryptoRng for PageRng {}

/// Crates that ask for randomness by themselves get the page's.
fn fill(bytes: &mut [u8]) -> Result<(), getrandom::Error> {
    PageRng.fill_bytes(bytes);
    Ok(())
}

getrandom::register_custom_getrandom!(fill);
