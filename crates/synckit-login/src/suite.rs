//! Suite 1: ristretto255 with SHA-512, TripleDH, and Argon2id as the key stretching function.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use opaque_ke::{
    CipherSuite, Ristretto255, TripleDh,
    errors::{InternalError, ProtocolError},
    generic_array::{ArrayLength, GenericArray},
    ksf::Ksf,
};
use sha2::Sha512;
use synckit_protocol::AppId;
use zeroize::Zeroize as _;

use crate::LoginError;

/// The number of this suite on the wire.
pub const SUITE: u16 = synckit_protocol::LOGIN_SUITE;

/// The first part of the OPAQUE context.
const CONTEXT_LABEL: &[u8; 23] = b"synckit/1 login suite 1";

/// The OPAQUE context, which both sides add to the transcript of a login (RFC 9807, section 6.4): a label, and the app
/// id.
///
/// It names protocol, suite and app. So messages of one suite can never complete a login of another, and an attacker
/// who replaces the API key in transit cannot lead an app into another app's stream.
///
/// # Examples
/// ```
/// use synckit_login::login_context;
/// use synckit_protocol::AppId;
///
/// let context = login_context(AppId::from_bytes([7; 16]));
/// assert_eq!(context[..23], *b"synckit/1 login suite 1");
/// assert_eq!(context[23..], [7; 16]);
/// ```
pub fn login_context(app_id: AppId) -> [u8; 39] {
    let mut context = [0; 39];
    let (label, app) = context.split_at_mut(CONTEXT_LABEL.len());
    label.copy_from_slice(CONTEXT_LABEL);
    app.copy_from_slice(app_id.as_bytes());
    context
}

/// Length of a registration request: one group element.
pub const REGISTRATION_REQUEST_BYTES: usize = 32;
/// Length of a registration response: one group element and the server's public key.
pub const REGISTRATION_RESPONSE_BYTES: usize = 64;
/// Length of a registration upload: the client's public key, a masking key and an envelope.
pub const REGISTRATION_UPLOAD_BYTES: usize = 192;
/// Length of the record that the server stores: the checked upload.
pub const RECORD_BYTES: usize = REGISTRATION_UPLOAD_BYTES;
/// Length of the first message of a login.
pub const KE1_BYTES: usize = 96;
/// Length of the second message of a login, the same for an account that does not exist.
pub const KE2_BYTES: usize = 320;
/// Length of the third message of a login.
pub const KE3_BYTES: usize = 64;
/// Length of the server's state between the messages of a login.
pub const LOGIN_STATE_BYTES: usize = 128;
/// Length of the server's long-term secrets.
pub const SERVER_SETUP_BYTES: usize = 128;

/// Argon2id memory, in KiB.
const ARGON2_MEMORY_KIB: u32 = 64 * 1024;
/// Argon2id passes.
const ARGON2_PASSES: u32 = 3;
/// Argon2id lanes.
const ARGON2_LANES: u32 = 1;
/// The salt is fixed, as in RFC 9807, section 7: the stretched OPRF output is already salted by account.
const ARGON2_SALT: [u8; 16] = [0; 16];

/// The cipher suite.
pub(crate) struct Suite1;

impl CipherSuite for Suite1 {
    type OprfCs = Ristretto255;
    type KeyExchange = TripleDh<Ristretto255, Sha512>;
    type Ksf = Argon2idKsf;
}

/// Argon2id v1.3 (RFC 9106) with the parameters of suite 1.
///
/// Implemented here because `opaque-ke` offers only other parameters (19 MiB, 2 passes).
#[derive(Default)]
pub(crate) struct Argon2idKsf;

impl Ksf for Argon2idKsf {
    fn hash<L: ArrayLength<u8>>(&self, input: GenericArray<u8, L>) -> Result<GenericArray<u8, L>, InternalError> {
        let params = Params::new(ARGON2_MEMORY_KIB, ARGON2_PASSES, ARGON2_LANES, Some(L::USIZE))
            .map_err(|_| InternalError::KsfError)?;
        // This memory is allocated here so that it can be erased: its last block determines the output.
        let mut memory = vec![Block::default(); params.block_count()];
        let mut output = GenericArray::default();
        let result = Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password_into_with_memory(
            &input,
            &ARGON2_SALT,
            &mut output,
            &mut memory,
        );
        memory.iter_mut().for_each(|block| block.zeroize());
        result.map_err(|_| InternalError::KsfError)?;
        Ok(output)
    }
}

/// Reads a message of exactly `expected` bytes.
///
/// `opaque-ke` ignores bytes after the last field, which would give one message many encodings.
pub(crate) fn read<T>(
    message: &'static str,
    bytes: &[u8],
    expected: usize,
    deserialize: impl FnOnce(&[u8]) -> Result<T, ProtocolError>,
) -> Result<T, LoginError> {
    if bytes.len() != expected {
        return Err(LoginError::MalformedMessage { message });
    }
    deserialize(bytes).map_err(|error| LoginError::from_opaque(error, message))
}

#[cfg(test)]
mod tests {
    use opaque_ke::{generic_array::GenericArray, ksf::Ksf as _};

    use super::Argon2idKsf;

    /// The reference implementation of Argon2 in C gives this value for the bytes 0 to 63. `vectors/login.json`
    /// contains it, too.
    #[test]
    fn key_stretching_is_the_argon2id_of_suite_1() {
        let input: [u8; 64] = std::array::from_fn(|at| u8::try_from(at).unwrap());
        let output = Argon2idKsf.hash(GenericArray::from(input)).unwrap();
        let hex: String = output.iter().map(|byte| format!("{byte:02x}")).collect();
        let expected = "97076ac1d2e29b8f16f2af338d9f0e63a0d078c2b3cce12024bc7ecdd3cbc2d4\
                        b4dcb53de561c257004dc2d756cd8abcac4efc7b764b385fd8f624d7aa447a22";
        assert_eq!(hex, expected);
    }
}
