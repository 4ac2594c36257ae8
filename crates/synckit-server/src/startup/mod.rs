//! Starting and stopping a server: configuration, data directory, key files, and the life of the process around them.

pub mod config;
mod data_dir;
mod database;
mod descriptors;
mod keys;
mod readiness;
mod server;

pub use data_dir::DataDirError;
pub(crate) use data_dir::{DataDir, ServeLock};
pub(crate) use database::open_postgres;
pub(crate) use keys::{
    DerivedKeys, MacKey, MissingLogin, ServerKeys, TokenKey, copy_key_files, open_login, rotate_token_key,
};
pub use keys::{KeyFileError, KeySurvey};
pub(crate) use readiness::{NotReady, Readiness, Trouble};
pub use server::{ServeError, Server, serve};
