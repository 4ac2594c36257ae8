//! Drills: the real `synckit serve` and real processes of clients, killed, starved and misled; and afterwards the books
//! are checked against the acknowledgements.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`server_kill`], [`client_kill`], [`disk_full`], [`restore`], [`busy_copy`], [`two_processes`], [`clock`] | the drills |
//! | [`garage`] | blobs in a real S3 store; a command of its own |
//! | [`site`] | a server in a process of its own, on a directory of its own |
//! | [`process`] | starting, killing and stopping processes |
//! | [`client`] | the app: the work of a client's process |
//! | [`journal`] | a client's records before and after each action |
//! | [`books`] | the whole log against the journals: every acknowledged entry exactly once |
//! | [`relay`] | a line between client and server that counts bytes, and can be cut |
//!
//! Drills are deliberately not simulations. Time, processes, disks and sockets are the system's own, so a seed gives
//! the same plan (the written data, and the event of each kill) but not the same interleaving.
//!
//! Invariant: a drill never excuses a loss. Either every promise is kept, or the drill fails with an error that names
//! the seed.

pub mod books;
pub mod busy_copy;
pub mod client;
pub mod client_kill;
pub mod clock;
pub mod disk_full;
pub mod garage;
pub mod journal;
pub mod process;
pub mod relay;
pub mod restore;
pub mod server_kill;
pub mod site;
pub mod two_processes;

use std::{fmt, future::Future, time::Duration};

use anyhow::Context as _;

use self::process::Programs;

/// The longest that a drill may take. One that hangs has failed.
const DRILL_MAX: Duration = Duration::from_secs(20 * 60);

/// How large a drill is, and its seed.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Sizes {
    /// Decides the written data, and the time of each kill
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How often a process is killed; in client-kill, of each kind
    #[arg(long, default_value_t = 20)]
    pub kills: u32,
    /// Devices that push at the same time
    #[arg(long, default_value_t = 32)]
    pub clients: usize,
    /// Accounts that they belong to
    #[arg(long, default_value_t = 4)]
    pub accounts: usize,
    /// Batches that a process of a client pushes
    #[arg(long, default_value_t = 200)]
    pub batches: u64,
    /// Bytes of a file
    #[arg(long, default_value_t = 32 * 1024 * 1024)]
    pub file_bytes: usize,
}

impl Sizes {
    /// Small enough for the ordinary tests: seconds, not minutes.
    #[must_use]
    pub fn small() -> Self {
        Self {
            seed: 1,
            kills: 3,
            clients: 6,
            accounts: 2,
            batches: 24,
            file_bytes: 3 * 1024 * 1024,
        }
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "--seed {} --kills {} --clients {} --accounts {} --batches {} --file-bytes {}",
            self.seed, self.kills, self.clients, self.accounts, self.batches, self.file_bytes
        )
    }
}

/// One drill.
#[derive(Clone, Copy)]
pub struct Drill {
    /// Its name on the command line.
    pub name: &'static str,
    /// The setting of the drill.
    pub what: &'static str,
    run: fn(&Programs, &Sizes) -> anyhow::Result<String>,
}

impl fmt::Debug for Drill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Drill {
    /// Finds a drill by its name.
    ///
    /// # Errors
    /// The list of names.
    pub fn named(name: &str) -> Result<&'static Self, String> {
        let names: Vec<&str> = DRILLS.iter().map(|drill| drill.name).collect();
        let drill = DRILLS.iter().find(|drill| drill.name == name);
        drill.ok_or_else(|| format!("the drills are {}", names.join(", ")))
    }

    /// Runs it, and returns its result in a sentence.
    ///
    /// # Errors
    /// A promise that was not kept, with the command that tries it again.
    pub fn run(&self, programs: &Programs, sizes: &Sizes) -> anyhow::Result<String> {
        (self.run)(programs, sizes)
            .with_context(|| format!("again: cargo run -p synckit-sim -- drill {} {sizes}", self.name))
    }
}

/// Every drill, in the order of the table.
pub const DRILLS: &[Drill] = &[
    Drill {
        name: "server-kill",
        what: "the server is SIGKILLed again and again under concurrent pushers",
        run: server_kill::run,
    },
    Drill {
        name: "client-kill",
        what: "clients are SIGKILLed while they push, pull, upload, download and change the key",
        run: client_kill::run,
    },
    Drill {
        name: "disk-full",
        what: "the server's disk runs full, to the last byte, and gets room again",
        run: disk_full::run,
    },
    Drill {
        name: "restore",
        what: "the server's database is restored from an older backup",
        run: restore::run,
    },
    Drill {
        name: "busy-copy",
        what: "the directory of a busy server is copied by `cp` and by `synckit backup`",
        run: busy_copy::run,
    },
    Drill {
        name: "two-processes",
        what: "two processes of one app on one device push, pull and change the key at once, and lose their token together",
        run: two_processes::run,
    },
    Drill {
        name: "clock",
        what: "the server's clock jumps ahead and back by hours and days, a device's by days",
        run: clock::run,
    },
];

/// Runs drills and makes the table of their results; the second value says whether all promises were kept.
pub fn table(drills: &[Drill], programs: &Programs, sizes: &Sizes) -> (String, bool) {
    let mut table = String::from("| drill | what is done | result |\n| --- | --- | --- |\n");
    let mut all_held = true;
    for drill in drills {
        let result = drill.run(programs, sizes).unwrap_or_else(|error| {
            all_held = false;
            format!("**FAILED**: {error:#}").replace(['\n', '|'], " ")
        });
        table.push_str(&format!("| {} | {} | {result} |\n", drill.name, drill.what));
    }
    (table, all_held)
}

/// Runs the async part of a drill, to its end or to the limit.
fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(async { tokio::time::timeout(DRILL_MAX, work).await });
    // A reader of a dead process's pipe must not be able to hold the drill.
    runtime.shutdown_background();
    result.context("the drill hangs")?
}
