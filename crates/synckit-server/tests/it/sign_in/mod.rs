//! Sign-in and tokens.

mod auth;
mod tokens;
