//! Sign-in and tokens.

mod auth;
mod oprf;
mod tokens;
