//! Sign-in and tokens.

mod account_page;
mod auth;
mod browser;
mod console;
mod device;
mod held;
mod oprf;
mod tokens;
