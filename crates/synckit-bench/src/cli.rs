//! The command line.

use std::{path::PathBuf, str::FromStr};

use clap::{Args, Parser, Subcommand, ValueEnum};
use synckit_protocol::SecretText;
use synckit_store::{PostgresUrl, PostgresUrlError};

/// Measure the costs of SyncKit
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Time the SDK and the server, beside the limits of this machine
    Measure(MeasureArgs),
    /// Time the embedded store alone, and a PostgreSQL beside it: no HTTP, no encryption
    Store {
        /// A directory on the disk to measure [default: the system's temporary directory]
        directory: Option<PathBuf>,
        /// The URL of a PostgreSQL to measure beside the embedded store; it gets an app and users of its own
        #[arg(long, value_name = "URL", env = "SYNCKIT_DATABASE", hide_env_values = true)]
        database: Option<PostgresUrl>,
    },
    /// Prepare a server's data and sealed requests for `run`
    Prepare(PrepareArgs),
    /// Run one hot path N times, for a profiler
    Run {
        /// The path
        path: HotPath,
        /// Number of repetitions
        times: u32,
        /// The directory from `prepare`; paths of the server need it
        fixture: Option<PathBuf>,
    },
}

/// Time the SDK and the server, beside the limits of this machine
///
/// One user pushes, pulls and starts a fresh device through the SDK; many users push and pull concurrently without it;
/// files are uploaded and downloaded. The server is a process of its own. The limits of the machine are measured in the
/// same run, because figures mean little without them. All rows take some minutes, most of them to sign up the users.
#[derive(Debug, Args)]
pub(crate) struct MeasureArgs {
    /// Only these rows
    #[arg(long, value_name = "ROW", value_delimiter = ',', value_enum)]
    only: Vec<BenchRow>,
    #[command(flatten)]
    pub(crate) load: Load,
    /// Users who push and pull concurrently
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=2_000))]
    pub(crate) users: u32,
    /// Streams that push single entries concurrently
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=2_000))]
    pub(crate) streams: u32,
    /// Records that one user pushes and pulls
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub(crate) records: u64,
    /// Idle connections
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub(crate) idle_connections: u32,
    /// Pushes of the quiet user in each row of its own
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) quiet_pushes: u32,
    /// Size of the file that is uploaded and downloaded, in megabytes; 0 for none
    #[arg(long, value_name = "MB", default_value_t = 500, value_parser = clap::value_parser!(u64).range(0..=500))]
    pub(crate) blob_mb: u64,
    /// Rounds of a file of 64 MiB as a whole and one in parts; 0 for none
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub(crate) blob_rounds: u32,
    /// Directory for the server's data and the files [default: the system's temporary directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) work_dir: Option<PathBuf>,
    /// The `synckit` program to measure [default: built from these sources]
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) server: Option<PathBuf>,
    /// The URL of an empty PostgreSQL database, for the rows sdk, users and singles in the same run
    #[arg(long, value_name = "URL", env = "SYNCKIT_DATABASE", hide_env_values = true)]
    pub(crate) database: Option<DatabaseUrl>,
    /// Print JSON instead of a table in Markdown
    #[arg(long)]
    pub(crate) json: bool,
}

/// The address of a PostgreSQL, as it was written.
#[derive(Debug, Clone)]
pub(crate) struct DatabaseUrl {
    /// For the environment of a server.
    pub(crate) text: SecretText,
    pub(crate) url: PostgresUrl,
}

impl FromStr for DatabaseUrl {
    type Err = PostgresUrlError;

    fn from_str(text: &str) -> Result<Self, PostgresUrlError> {
        Ok(Self {
            text: SecretText::new(text),
            url: text.parse()?,
        })
    }
}

impl MeasureArgs {
    /// Whether this row is to be measured.
    pub(crate) fn wants(&self, row: BenchRow) -> bool {
        self.only.is_empty() || self.only.contains(&row)
    }
}

/// The records, and the number of them that each user of a crowd pushes.
#[derive(Debug, Args)]
pub(crate) struct Load {
    /// Row data of one record in bytes, as JSON
    #[arg(long, value_name = "BYTES", default_value_t = 200, value_parser = clap::value_parser!(u64).range(150..=4_000))]
    pub(crate) record_bytes: u64,
    /// Batches of 500 records that each user pushes
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) batches_per_user: u32,
    /// Single entries that each stream pushes
    #[arg(long, value_name = "N", default_value_t = 400, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) pushes_per_stream: u32,
    /// The seed of the records
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
}

/// Prepare a server's data and sealed requests for `run`
#[derive(Debug, Args)]
pub(crate) struct PrepareArgs {
    /// The directory to create
    pub(crate) directory: PathBuf,
    #[command(flatten)]
    pub(crate) load: Load,
    /// The `synckit` program that serves meanwhile [default: built from these sources]
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) server: Option<PathBuf>,
}

/// A group of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchRow {
    /// One user pushes, a second device pulls, through the SDK
    Sdk,
    /// A fresh device pulls through a snapshot into a SQLite file
    Fresh,
    /// Time until a change reaches another device
    Arrival,
    /// Event streams: time until a push is heard, memory, and pushes with and without subscribers
    Events,
    /// Many users push and pull full batches, without the SDK
    Users,
    /// Single entries from many streams concurrently, without the SDK
    Singles,
    /// A quiet user's pushes beside neighbours at full speed
    Neighbours,
    /// Memory of idle connections
    Idle,
    /// A file up and down, through the SDK
    Blobs,
}

/// A hot path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum HotPath {
    /// 500 rows encoded and sealed
    SealBatch,
    /// 500 rows opened and decoded
    OpenBatch,
    /// The hash of a sealed batch, and the head after it
    ChainStep,
    /// 500 rows of a snapshot
    OpenSnapshotPart,
    /// An envelope to the key ring
    OpenEnvelope,
    /// 1 MiB of a file
    SealFile,
    /// A push of 500 entries, through the router into SQLite
    PushBatch,
    /// A push of one entry, through the router into SQLite
    PushEntry,
    /// A page of 500 entries, through the router
    PullPage,
}
