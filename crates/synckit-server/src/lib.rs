//! The SyncKit server: an axum service that stores what it cannot read.
//!
//! [`serve`] runs it on a listener until it is told to stop; [`Admin`] administers it, beside a running server too.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use synckit_server::{Admin, Config, serve};
//!
//! let config = Config::new("/var/lib/synckit");
//! let app = Admin::open(&config.data_dir)?.create_app("Notes").await?;
//! let listener = tokio::net::TcpListener::bind(config.listen).await?;
//! serve(config, listener, async { tokio::signal::ctrl_c().await.unwrap_or_default() }).await?;
//! # Ok(())
//! # }
//! ```
//!
//! | module | what it is |
//! | --- | --- |
//! | [`config`] | typed configuration from layers of settings |
//! | `data_dir`, `keys` | the data directory, its lock, the secrets in it |
//! | `http` | bodies, problems, request ids, connections: HTTP as the API speaks it |
//! | `api` | the routes, a module for each resource |
//! | `openapi` | what the routes are, as a document and as a page |
//! | `metrics`, `process` | the figures of a server, for Prometheus |
//! | `rates`, `allowances` | how many requests a session or an address may send |
//! | `sign_in` | login state, tokens, sessions, limits on guessing |
//! | `blobs` | objects in a directory, presigned URLs, the sweep |
//! | `background`, `retention` | what nobody waits for: the log below settled snapshots goes, and what deleted accounts leave |
//! | `owner_proof` | proof that a request was made by a holder of the master key |
//! | `panics` | what a panic may say in the log |
//! | `readiness` | what `/readyz` answers |
//! | `export` | everything that is kept of an account, as JSON lines |
//! | `mail` | confirmations, resets and notices by mail |
//! | [`store`] | the `Store` trait and SQLite |
//! | [`admin`] | apps, keys, invitations, accounts |
//! | [`inspect`] | looking at a data directory without touching it |
//!
//! What this crate deliberately is not: it prints nothing and reads no environment (the binary does), it does not end
//! TLS (a reverse proxy does), and it does not link `synckit-crypto`: it cannot decrypt, by construction.

pub mod admin;
mod allowances;
mod api;
mod background;
mod blobs;
mod clock;
pub mod config;
mod data_dir;
mod disk_reserve;
mod export;
mod given_secrets;
mod http;
pub mod inspect;
mod keys;
mod mail;
mod metrics;
mod openapi;
mod owner_proof;
mod panics;
mod process;
mod random;
mod rates;
mod readiness;
mod retention;
mod server;
mod sign_in;
mod state;
pub use synckit_store as store;

pub use admin::Admin;
pub use clock::Clock;
pub use config::Config;
pub use data_dir::DataDirError;
pub use keys::KeyFileError;
pub use mail::MailConfigError;
pub use panics::log_panics;
pub use server::{ServeError, Server, serve};

/// The version of the protocol that this server speaks, the one of `docs/protocol.md`. `/healthz` tells it.
pub const PROTOCOL_VERSION: u8 = 1;
