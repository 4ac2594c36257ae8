//! Runs the simulator: `synckit-sim --runs 100000 --from 5000`, `synckit-sim --seed 42`, `synckit-sim attacks`,
//! `synckit-sim drill server-kill`, `synckit-sim drills`, `synckit-sim garage`.
//!
//! Exit code 0 if every promise was kept, 1 if not.
#![expect(clippy::print_stdout, reason = "this is the program's output")]

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::{Instant, SystemTime},
};

use clap::{Parser, Subcommand};
use synckit_server::{Clock, Config};
use synckit_sim::{
    attacks,
    drills::{self, DRILLS, Drill, Sizes, client::ClientArgs, process::Programs},
    golden::Golden,
    run::run,
    sweep::sweep,
};

/// Runs the real server and the real SDK on a seeded network, many times.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// Number of seeds to run.
    #[arg(long, default_value_t = 5_000)]
    runs: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// The distance to the next seed. The seeds that change keys are those of `--from 199 --step 200`.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    step: u64,
    /// Runs one seed twice, compares, and tells its story.
    #[arg(long, conflicts_with_all = ["runs", "from", "step"])]
    seed: Option<u64>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs every attack and prints the table of results.
    Attacks,
    /// Runs one drill with real processes.
    Drill {
        /// server-kill, client-kill, disk-full, restore, busy-copy, two-processes or clock.
        #[arg(value_parser = Drill::named)]
        drill: &'static Drill,
        #[command(flatten)]
        sizes: Sizes,
    },
    /// Runs every drill and prints the table of results.
    Drills {
        #[command(flatten)]
        sizes: Sizes,
    },
    /// Runs blobs against Garage, a real S3 store: one node, then three with one killed.
    Garage {
        /// The program [default: in the path, else installed by cargo into target/garage, which takes minutes]
        #[arg(long)]
        garage: Option<PathBuf>,
    },
    /// A client of a drill.
    #[command(hide = true)]
    DrillClient(ClientArgs),
    /// Serves on loopback with every log line on standard error, until standard input ends. For the search of secrets in
    /// the memory of a process that was a server and nothing else.
    #[command(hide = true)]
    Serve {
        /// The data directory.
        data_dir: PathBuf,
        /// While this file exists, every read of the server's clock panics with its text. No request is known to make
        /// the server panic, but the traces of a panic must be known.
        #[arg(long)]
        panic_with: Option<PathBuf>,
    },
}

fn main() -> anyhow::Result<ExitCode> {
    let mut cli = Cli::parse();
    match cli.command.take() {
        Some(Command::Serve { data_dir, panic_with }) => serve_until_stdin_ends(&data_dir, panic_with)?,
        Some(Command::DrillClient(arguments)) => drills::client::run(arguments)?,
        Some(Command::Drill { drill, sizes }) => return print_drills(&[*drill], &sizes),
        Some(Command::Garage { garage }) => {
            let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/garage");
            let garage = drills::garage::program(garage, &directory)?;
            let programs = Programs::beside(&std::env::current_exe()?)?;
            println!("{}", drills::garage::run(&programs, &garage)?);
        }
        Some(Command::Drills { sizes }) => return print_drills(DRILLS, &sizes),
        command => return simulate(&cli, command.as_ref()),
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs the simulation in this one process.
fn simulate(cli: &Cli, command: Option<&Command>) -> anyhow::Result<ExitCode> {
    let golden = Arc::new(Golden::make()?);
    let held = match (command, cli.seed) {
        (Some(_), _) => print_attacks(&golden),
        (None, Some(seed)) => replay(&golden, seed),
        (None, None) => sweep_all(&golden, cli),
    };
    Ok(if held { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn serve_until_stdin_ends(data_dir: &Path, panic_with: Option<PathBuf>) -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    synckit_server::report_panics(|panic| eprintln!("ERROR panic {panic}"));
    let mut config = Config::new(data_dir);
    if let Some(file) = panic_with {
        config.clock = panicking_clock(file);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        let stdin_ends = async {
            let ended = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
            // However it ends, it has ended.
            let _ = ended.await;
        };
        Ok(synckit_server::serve(config, listener, stdin_ends).await?)
    })
}

/// The clock of the system, which panics with the text of a file while the file exists.
fn panicking_clock(file: PathBuf) -> Clock {
    Clock::from_fn(move || match fs::read_to_string(&file) {
        Ok(text) => panic!("the clock broke at {text:?}"),
        Err(_) => SystemTime::now(),
    })
}

fn print_drills(drills: &[Drill], sizes: &Sizes) -> anyhow::Result<ExitCode> {
    let programs = Programs::beside(&std::env::current_exe()?)?;
    let (table, all_held) = drills::table(drills, &programs, sizes);
    print!("{table}");
    Ok(if all_held { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print_attacks(golden: &Arc<Golden>) -> bool {
    let (table, all_held) = attacks::table(golden);
    print!("{table}");
    all_held
}

fn replay(golden: &Arc<Golden>, seed: u64) -> bool {
    match (run(golden, seed), run(golden, seed)) {
        (Ok(first), Ok(second)) => {
            print!("{}", first.story);
            println!(
                "{} edits, {} entries in the log, trace {}",
                first.edits, first.entries, first.digest
            );
            if first == second {
                return true;
            }
            println!("NOT REPEATED:\n{}trace {}", second.story, second.digest);
        }
        (Err(finding), _) | (_, Err(finding)) => println!("{}seed {seed}: {:#}", finding.story, finding.error),
    }
    false
}

fn sweep_all(golden: &Arc<Golden>, cli: &Cli) -> bool {
    let seeds: Vec<u64> = (0..cli.runs)
        .map(|run| cli.from.saturating_add(run.saturating_mul(cli.step)))
        .collect();
    let started = Instant::now();
    let swept = sweep(golden, &seeds);
    for finding in &swept.findings {
        println!("{}seed {}: {:#}", finding.story, finding.seed, finding.error);
        println!("replay with: cargo run -p synckit-sim -- --seed {}", finding.seed);
    }
    println!(
        "{} runs kept every promise, {} did not; {} edits, {} requests, {:.1} s",
        swept.passed,
        swept.findings.len(),
        swept.edits,
        swept.requests,
        started.elapsed().as_secs_f64()
    );
    swept.findings.is_empty()
}
