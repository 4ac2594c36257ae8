//! The path of one user's requests to the server.
//!
//! Each file uses those before it: `reach` limits the addresses that URLs of the server may lead to; `server` is the URL of a
//! request; `transport` moves one request, `http` over TCP and TLS, `counting` with a count of its bytes; `call` is the
//! content of a request; `retry` decides about its repetition; `api` combines these. `session` adds the user, `refresh` keeps
//! the user's token fresh, `events` reads the user's event stream, `device` is the device of the session, `login` and `vault` give account access for a password.

pub(crate) mod api;
pub(crate) mod app;
pub(crate) mod call;
pub(crate) mod counting;
pub(crate) mod device;
pub(crate) mod events;
pub(crate) mod http;
pub(crate) mod login;
pub(crate) mod reach;
pub(crate) mod refresh;
pub(crate) mod retry;
pub(crate) mod server;
pub(crate) mod session;
pub mod transport;
pub(crate) mod vault;
