//! Sign-in and tokens.

mod auth;
mod browser;
mod oprf;
mod tokens;
