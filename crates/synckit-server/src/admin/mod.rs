//! Administration of a data directory: one service for every front end, and the inspection that changes nothing.

mod account_export;
mod backup;
pub mod inspect;
mod migration;
mod plans;
mod service;
mod teams;

pub(crate) use account_export::{Export, ExportError};
pub use backup::{Backup, BackupError, ObjectsToCopy, back_up};
pub use migration::{MigrateStoreError, migrate_store};
pub use plans::{AppUsage, DayOfUse};
pub use service::{Admin, AdminError, CreatedApp, KeptEnvelope};
