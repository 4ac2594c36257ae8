//! How the SDK talks to the server.

pub(crate) mod api;
pub mod transport;
