//! The place of a session and its keys between two starts of the app.

pub(crate) mod accounts;
pub(crate) mod error;
pub(crate) mod file;
pub(crate) mod keychain;
pub(crate) mod memory;
pub(crate) mod records;
pub(crate) mod store;
