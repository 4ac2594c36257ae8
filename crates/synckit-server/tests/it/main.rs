//! The server from outside: real HTTP on loopback, a real database, a real OPAQUE client.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop where it is")]

mod admin;
mod api;
mod billing;
mod contract;
mod framing;
mod limits;
mod mail_server;
mod mailbox;
mod observe;
mod sign_in;
mod startup;
mod support;
