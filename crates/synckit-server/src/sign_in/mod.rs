//! Proofs of a request's sender: login state, tokens, sessions, refresh secrets, secrets that the server issues, and
//! signatures of the owner key.
//!
//! Nothing here speaks HTTP, and limits on guessing are in `limits`.

mod email;
mod given_secrets;
pub(crate) mod owner_proof;
mod refresh;
mod sealed_state;
mod sessions;
mod tokens;

pub(crate) use email::{EmailError, NormalEmail};
pub(crate) use given_secrets::{fresh_api_key, fresh_secret};
pub(crate) use refresh::RefreshSecret;
pub(crate) use sealed_state::{
    LoginState, PasswordState, Purpose, RegistrationState, SealedReader, SealedStates, SealedWriter, StateError,
};
pub(crate) use sessions::{Known, LiveSession, SessionCache};
pub(crate) use tokens::{AccountClaims, AppClaims, TokenError, Tokens};
