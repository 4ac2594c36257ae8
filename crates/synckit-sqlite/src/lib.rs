//! The local-first layer: syncs the SQLite file that an app already has, with its own schema, whatever program writes it.
//!
//! ```
//! # synckit_doctest::run(async |world| {
//! # let (client, device) = world.device("laptop").await?;
//! use synckit_sqlite::SyncedDatabase;
//!
//! # let path = world.path("app.db");
//! let app = rusqlite::Connection::open(&path)?; // the app's own connection, its own schema
//! # app.execute_batch("CREATE TABLE tasks (id INTEGER PRIMARY KEY, title TEXT)")?;
//! let db = SyncedDatabase::open(&path, client, device.id).await?;
//! db.track(["tasks"]).await?; // once; it survives restarts
//!
//! app.execute("INSERT INTO tasks (title) VALUES ('Buy milk')", [])?;
//! assert_eq!(db.sync().await?.pushed, 1);
//! # Ok(())
//! # });
//! ```
//!
//! [`SyncedDatabase::spawn`] syncs in the background, [`SyncedDatabase::changes`] tells the user interface which tables changed, and
//! [`SyncedDatabase::status`] what a settings page shows.
//! `docs/local-first.md` says what is kept in the file, how it decides, and what it does not do yet.
//!
//! [`rows`] is the convention of `docs/rows.md`: every value that SQLite can store, as an entry of the log holds it, and the
//! ids of rows. [`merge`] puts what a device has not sent yet onto what the log has. Both are pure: no I/O, no clock, no
//! randomness of their own. [`inspect`] looks at an app's database and tells what can be synced, and what the app must declare:
//! [`track`]. The merge deliberately knows no database: images of rows come in, and steps to take come out.

mod apply;
mod attempt;
mod capture;
mod conflicts;
mod database;
mod decisions;
mod download;
mod error;
mod folding;
mod followers;
pub mod inspect;
mod layout;
pub mod merge;
mod parcel;
mod parked;
mod pause;
mod push;
mod replica;
mod report;
mod restock;
pub mod rows;
mod running;
mod shadow;
mod sql;
mod status;
mod sweep;
mod sync;
pub mod track;
mod tracking;
mod transfer;

pub use conflicts::Conflict;
pub use database::{Changes, SyncedDatabase};
pub use error::Error;
pub use parked::ParkedRow;
pub use replica::{BUSY_MAX, OnConnection};
pub use report::SyncReport;
pub use running::Running;
pub use status::{Answer, Question, StatusWatch, SyncStatus};
