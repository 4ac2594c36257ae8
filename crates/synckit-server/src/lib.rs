//! The SyncKit server: an axum service that stores data that it cannot read.
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
//! | module | contents |
//! | --- | --- |
//! | `startup` | starting and stopping: [`config`], data directory, key files, life of the server |
//! | `http` | bodies, problems, request ids, connections: HTTP as the API speaks it |
//! | `api` | the routes, a module for each resource |
//! | `openapi` | the OpenAPI document of the routes, and a page that shows it |
//! | `sign_in` | login state, tokens, sessions, issued secrets, proofs of the owner key |
//! | `limits` | token buckets: request rates and guesses; concurrent work; the disk reserve |
//! | `oauth` | sign-in by browser: redirects, sealed requests and codes, pages |
//! | `live` | live events: subscribers, and the event streams that carry the newest position to them |
//! | `blobs` | objects in a directory or in a bucket, presigned URLs |
//! | `jobs` | background jobs: retention, the sweep of unused objects, the end of event streams |
//! | `mail` | confirmations, resets and notices by mail |
//! | [`admin`] | apps, keys, invitations, accounts, export; [`inspect`] reads a data directory without changing it |
//! | `platform` | clock, randomness, process figures, panics |
//! | [`billing`] | what a plan holds and costs |
//! | `metrics` | the figures of a server, for Prometheus |
//! | `state` | the state that all requests share |
//!
//! This crate deliberately prints nothing and reads no environment (the binary does), does not end TLS (a reverse proxy
//! does), and does not link `synckit-crypto`: it cannot decrypt, by construction.

pub mod admin;
mod api;
pub mod billing;
mod blobs;
mod http;
mod jobs;
mod limits;
mod live;
mod mail;
mod metering;
mod metrics;
mod oauth;
mod openapi;
mod platform;
mod sign_in;
mod startup;
mod state;
mod web;

pub use admin::{Admin, inspect};
pub use mail::MailConfigError;
pub use oauth::RedirectError;
pub use platform::{Clock, PanicReport, count_lost_log_line, report_panics};
pub use startup::{
    DataDirError, KeyFileError, ServeError, Server,
    config::{self, Config},
    serve,
};
