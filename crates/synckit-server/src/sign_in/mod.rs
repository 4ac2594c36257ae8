//! Who somebody is: login state, tokens, sessions, refresh secrets, and the limits on guessing.
//!
//! Nothing here speaks HTTP. The endpoints are in `api::auth` and `api::accounts`.

mod email;
mod guesses;
mod refresh;
mod sealed_state;
mod sessions;
mod tokens;

pub(crate) use email::NormalEmail;
pub(crate) use guesses::{AddressPrefix, GuessTotals, Guesses, Ticket, TooManyGuesses};
pub(crate) use refresh::RefreshSecret;
pub(crate) use sealed_state::{LoginState, PasswordState, Purpose, RegistrationState, SealedStates, StateError};
pub(crate) use sessions::{Known, LiveSession, SessionCache};
pub(crate) use tokens::{AccountClaims, AppClaims, TokenError, Tokens};
