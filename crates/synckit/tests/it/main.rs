//! The program from outside: what it prints, what it leaves behind, how it exits.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod account_data;
mod admin;
mod backup;
mod command_line;
mod dataset;
mod demo;
mod device;
mod doctor;
mod errors;
mod estimate;
mod export;
mod http;
#[path = "../../../synckit-client/tests/it/interference.rs"]
#[expect(dead_code, reason = "these tests need a part of it")]
mod interference;
#[cfg(target_os = "linux")]
mod log;
mod login;
mod login_as_device;
#[path = "../../../synckit-server/tests/it/mail_server.rs"]
mod mail_server;
#[cfg(target_os = "linux")]
mod migrate_store;
mod network;
mod output;
mod overload;
mod person;
#[cfg(target_os = "linux")]
mod postgresql;
mod program;
mod schema;
mod schemathesis;
mod serve;
