//! Sign-in and tokens.

mod account_page;
mod auth;
mod browser;
mod oprf;
mod tokens;
