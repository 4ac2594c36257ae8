//! How one user's requests reach the server.
//!
//! Each file uses those before it: `server` is the URL of a request, `transport` moves one, `http` over TCP and TLS,
//! `counting` counts the bytes of another transport, `call` is a request's content, `retry` decides whether it is sent
//! again, `api` puts these together; `session` adds the user, `refresh` keeps the user's token fresh, `device` is the
//! device that the session belongs to, `login` and `vault` are what the password opens.

pub(crate) mod api;
pub(crate) mod app;
pub(crate) mod call;
pub(crate) mod counting;
pub(crate) mod device;
pub(crate) mod http;
pub(crate) mod login;
pub(crate) mod refresh;
pub(crate) mod retry;
pub(crate) mod server;
pub(crate) mod session;
pub mod transport;
pub(crate) mod vault;
