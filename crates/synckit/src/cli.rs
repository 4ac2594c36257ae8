//! The command line, and the environment variable of each flag.

use std::{ffi::OsStr, path::PathBuf};

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use synckit_server::{
    billing::{Burst, Gigabytes, Megabytes},
    config::Span,
};

use synckit_store::TeamRole;

use crate::settings::SettingArgs;

/// End-to-end encrypted sync: a server that cannot read what it stores.
#[derive(Debug, Parser)]
#[command(name = "synckit", version)]
pub(crate) struct Cli {
    /// Print JSON, for programs
    #[arg(long, global = true, display_order = 100)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands, grouped by audience, in the order of the help.
const GROUPS: &[(&str, &[&str])] = &[
    ("See it work", &["demo"]),
    ("Make an app", &["schema", "estimate"]),
    (
        "Run a server",
        &[
            "serve",
            "app",
            "team",
            "account",
            "token",
            "backup",
            "migrate-store",
            "doctor",
        ],
    ),
    ("Use an account", &["login", "logout", "device", "export"]),
    ("Other", &["completions", "man", "help"]),
];

/// Help of the program itself, with groups in place of clap's one long list.
fn grouped_help(command: &clap::Command) -> String {
    let mut text = "{about}\n\n{usage-heading} {usage}\n".to_owned();
    for (title, names) in GROUPS {
        text.push_str(&format!("\n{title}:\n"));
        for name in *names {
            let about = command.find_subcommand(name).and_then(clap::Command::get_about);
            let about = about.map_or(
                "Print this message or the help of a command".to_owned(),
                ToString::to_string,
            );
            text.push_str(&format!("  {name:<14}{about}\n"));
        }
    }
    text + "\nOptions:\n{options}"
}

/// Reads the command line. An empty variable counts as unset, for every flag.
pub(crate) fn parse() -> Result<Cli, clap::Error> {
    let command = with_levels_of_help(without_empty_variables(Cli::command()));
    let help = grouped_help(&command);
    Cli::from_arg_matches(&command.help_template(help).try_get_matches()?)
}

fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |name: &OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
    command
        .mut_args(|arg| match arg.get_env() {
            Some(name) if is_empty(name) => arg.env(None::<&str>),
            _ => arg,
        })
        .mut_subcommands(without_empty_variables)
}

/// The flag that shows the second level of help.
const HELP_LIMITS: &str = "help-limits";

/// For commands that take the server's settings, `--help` shows the common settings, and `--help-limits` also the
/// limits.
fn with_levels_of_help(command: clap::Command) -> clap::Command {
    let wants_limits = std::env::args_os().any(|arg| arg.to_str() == Some(&format!("--{HELP_LIMITS}")));
    ["serve", "doctor"].into_iter().fold(command, |command, name| {
        command.mut_subcommand(name, |command| {
            let flag = clap::Arg::new(HELP_LIMITS)
                .long(HELP_LIMITS)
                .action(clap::ArgAction::HelpLong)
                .help("Print the limits, and other settings that few operators change");
            command.arg(flag).mut_args(|arg| {
                let is_limit = arg.is_hide_short_help_set();
                if wants_limits {
                    arg.hide(!is_limit)
                } else {
                    arg.hide_long_help(is_limit)
                }
            })
        })
    })
}

/// The environment variable that set a flag, if the command line did not: the flag `--listen <ADDR>` may come from
/// `SYNCKIT_LISTEN`.
pub(crate) fn variable_behind(flag: &str) -> Option<String> {
    fn find(command: &clap::Command, long: &str) -> Option<String> {
        let own = command.get_arguments().find(|arg| arg.get_long() == Some(long));
        let variable = own.and_then(|arg| arg.get_env()?.to_str().map(str::to_owned));
        variable.or_else(|| command.get_subcommands().find_map(|command| find(command, long)))
    }
    let long = flag.strip_prefix("--")?.split([' ', '=', '[']).next()?;
    let is_given = std::env::args().any(|arg| arg == format!("--{long}") || arg.starts_with(&format!("--{long}=")));
    let variable = find(&Cli::command(), long)?;
    (!is_given && std::env::var_os(&variable).is_some()).then_some(variable)
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the server
    Serve(Box<ServeArgs>),
    /// Create and list apps, rotate their API keys
    #[command(subcommand)]
    App(AppCommand),
    /// Create teams, whose members administer apps in the console
    #[command(subcommand)]
    Team(TeamCommand),
    /// List, export and delete accounts, create invitations, end sessions, restore key envelopes
    #[command(subcommand)]
    Account(AccountCommand),
    /// Rotate the key that signs the tokens of sessions
    #[command(subcommand)]
    Token(TokenCommand),
    /// Sign in for later commands
    ///
    /// Without --email, signs this machine in as a device of an account: prints an address and a code, which somebody opens and
    /// types in a browser, on any machine. Then the password opens the data, once. Session and keys are stored in a file that only
    /// this user can read, and later commands need no password. With --email, checks the password, and stores server, API key
    /// and address; later commands ask for the password.
    Login {
        /// Confirm the address of a new account with the code that was mailed to it
        #[arg(long, value_name = "CODE")]
        confirm: Option<String>,
        #[command(flatten)]
        sign_in: SignInArgs,
    },
    /// End what `login` began: revoke this machine, and remove the stored values
    Logout,
    /// List, rename and revoke the devices of a user
    #[command(subcommand)]
    Device(DeviceCommand),
    /// Export all of a user's data, decrypted: JSON lines or SQLite, and the files
    Export(ExportArgs),
    /// Back up the database and the files of a server, while it runs
    Backup(BackupArgs),
    /// Move the database of a server to PostgreSQL, or back
    MigrateStore(MigrateStoreArgs),
    /// Check a server, with advice for each problem
    Doctor(Box<DoctorArgs>),
    /// Check whether the tables of an SQLite file can be synced
    #[command(subcommand)]
    Schema(SchemaCommand),
    /// Show what a plan costs, to the micro-dollar
    ///
    /// The cost of a month is GB × $0.15 + burst × GB × $0.03, whatever is used. 1 GB is 1,000,000,000 bytes.
    Estimate {
        /// Gigabytes stored, a whole number
        #[arg(long, value_name = "GB")]
        gb: Gigabytes,
        /// How often all of it may move in a month, with at most two decimals
        #[arg(long, value_name = "TIMES", default_value_t = Burst::SIMPLE)]
        burst: Burst,
    },
    /// Watch two devices sync a database and files through a server that can read neither
    Demo(DemoArgs),
    /// Print a script that completes commands and flags in a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages
    Man {
        /// Directory for the pages, one a command [default: the main page to standard output]
        #[arg(value_name = "DIR")]
        directory: Option<PathBuf>,
    },
}

/// Run the server
///
/// A flag overrides its environment variable, which overrides the configuration file, which overrides the default.
/// Ctrl-C or SIGTERM stops the server after the running requests; a second signal stops it at once.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// A TOML file with the keys below (data_dir, listen, ...)
    #[arg(long, value_name = "FILE", env = "SYNCKIT_CONFIG")]
    config: Option<PathBuf>,
    /// Log level: error, warn, info, debug or trace, also by module
    #[arg(long, value_name = "FILTER", env = "SYNCKIT_LOG", default_value = "info")]
    pub(crate) log: String,
    #[command(flatten)]
    pub(crate) settings: SettingArgs,
}

impl ServeArgs {
    /// The configuration file.
    pub(crate) fn config_file(&self) -> Option<&PathBuf> {
        self.config.as_ref()
    }
}

/// The server data of an administrative command.
#[derive(Debug, Args)]
pub(crate) struct DataArgs {
    /// The data directory of the server [default: synckit-data]
    #[arg(long, value_name = "DIR", env = "SYNCKIT_DATA_DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// The configuration file of the server, to find its data
    #[arg(long, value_name = "FILE", env = "SYNCKIT_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// The database of the server: embedded, or the URL of a PostgreSQL without its password [default: embedded]
    #[arg(long, value_name = "URL", env = "SYNCKIT_DATABASE", hide_env_values = true)]
    pub(crate) database: Option<String>,
    /// A file with the password of the PostgreSQL user; or set SYNCKIT_DATABASE_PASSWORD
    #[arg(long, value_name = "FILE", env = "SYNCKIT_DATABASE_PASSWORD_FILE")]
    pub(crate) database_password_file: Option<String>,
}

/// The user of a command; missing values come from `synckit login`. Where a password is needed, it is read from the terminal or
/// from SYNCKIT_PASSWORD. It is never an argument, because every user of the machine can read those.
#[derive(Debug, Args)]
pub(crate) struct SignInArgs {
    /// The server [default: that of `synckit login`]
    #[arg(long, value_name = "URL", env = "SYNCKIT_SERVER")]
    pub(crate) server: Option<String>,
    /// The API key of the app [default: that of `synckit login`]
    #[arg(
        long,
        visible_alias = "key",
        value_name = "KEY",
        env = "SYNCKIT_API_KEY",
        hide_env_values = true
    )]
    pub(crate) api_key: Option<String>,
    /// The e-mail address of the account [default: that of `synckit login`]
    #[arg(long, value_name = "ADDRESS", env = "SYNCKIT_EMAIL")]
    pub(crate) email: Option<String>,
    /// Read the password from the first line of standard input
    #[arg(long)]
    pub(crate) password_stdin: bool,
}

#[derive(Debug, Subcommand)]
#[command(disable_help_subcommand = true)]
pub(crate) enum SchemaCommand {
    /// Inspect every table, and print the code that declares them
    ///
    /// Reads the whole file and changes nothing. The exit code is 0 if every table can be synced without a declaration, 1 if a
    /// table has a question or is refused. Functions and collations that the app registers are missing here: such tables are
    /// refused, and may be ready inside the app.
    Check {
        /// The database of the app
        #[arg(value_name = "FILE")]
        database: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
#[command(disable_help_subcommand = true)]
pub(crate) enum DeviceCommand {
    /// List the devices and the sessions of a user in an app
    List {
        #[command(flatten)]
        sign_in: SignInArgs,
    },
    /// End one session, for example one that belongs to no device
    EndSession {
        /// The id of the session
        session: String,
        #[command(flatten)]
        sign_in: SignInArgs,
    },
    /// Give a device another name
    Rename {
        /// The id or the name of the device
        device: String,
        /// Its new name
        name: String,
        #[command(flatten)]
        sign_in: SignInArgs,
    },
    /// Show the safety code: six words, equal on all devices with the same keys
    SafetyCode {
        #[command(flatten)]
        sign_in: SignInArgs,
    },
    /// Replace the master key: later data is readable only with the new key, which devices get with the password
    RotateKey {
        /// Do not ask for confirmation
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        sign_in: SignInArgs,
    },
    /// Replace the account key and the master key, after either may have leaked; the recovery code stops working
    ReplaceAccountKey {
        /// Do not ask for confirmation
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        sign_in: SignInArgs,
    },
    /// Revoke a device: its sessions end within seconds
    Revoke {
        /// The id or the name of the device
        device: String,
        /// Replace the master key too, so that the device cannot read later data
        #[arg(long)]
        rotate: bool,
        /// Do not ask for confirmation
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        sign_in: SignInArgs,
    },
}

/// The format of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ExportFormat {
    /// Every change on a line of its own, in the order of the log
    Jsonl,
    /// A database with a table for each table of the app, rows in their newest state, and every change
    Sqlite,
}

/// Export all of a user's data, decrypted: JSON lines or SQLite, and the files
///
/// The export is written to DIR as changes.jsonl or export.sqlite, files to DIR/blobs under their SHA-256. They appear
/// only when they are complete: the same command continues an interrupted export. The export registers a device of the
/// user, and revokes it at the end; on a machine that `synckit login` made a device, it is that one. It stores nothing in the keychain
/// of this machine.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The directory of the export; created, for this user only
    #[arg(long, value_name = "DIR", default_value = "synckit-export")]
    pub(crate) out: PathBuf,
    /// The format of the export
    #[arg(long, value_name = "FORM", value_enum, default_value_t = ExportFormat::Jsonl)]
    pub(crate) format: ExportFormat,
    /// Download every file too
    #[arg(long)]
    pub(crate) blobs: bool,
    /// Open the data with the recovery code (from the terminal or SYNCKIT_RECOVERY_CODE) after a password reset
    #[arg(long)]
    pub(crate) recovery_code: bool,
    /// Replace an existing export, and restart an interrupted one
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) sign_in: SignInArgs,
}

/// Back up the database and the files of a server, while it runs
///
/// Copies the database in one step, checks the copy, copies the files that it lists, and renames the database last: an
/// interrupted backup leaves the previous one intact. Run it again with the same directory to update the backup;
/// existing files are not copied again. Key files are copied only with --keys; store them apart from the backup.
#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// The directory of the backup; created, for this user only
    #[arg(value_name = "DIR")]
    pub(crate) target: PathBuf,
    /// Copy the key files too, to this other directory
    #[arg(long, value_name = "DIR")]
    pub(crate) keys: Option<PathBuf>,
    /// The place of the blobs, as for `synckit serve`: those in a bucket are not copied [default: directory]
    #[arg(long, value_name = "URL", env = "SYNCKIT_BLOBS", hide_env_values = true)]
    pub(crate) blobs: Option<String>,
    #[command(flatten)]
    pub(crate) data: DataArgs,
}

/// Move the database of a server to PostgreSQL, or back
///
/// Stop every server of both databases first. Copies all rows into an empty database, compares them, and checks the chain and
/// the hash of every batch. The source stays as it is, and a server refuses an incomplete copy. Run it again to continue an
/// interrupted copy. Keys and blobs stay in the data directory.
#[derive(Debug, Args)]
pub(crate) struct MigrateStoreArgs {
    /// The source: embedded, or the URL of a PostgreSQL without its password
    #[arg(long, value_name = "URL")]
    pub(crate) from: String,
    /// The target: embedded, or the URL of a PostgreSQL without its password
    #[arg(long, value_name = "URL")]
    pub(crate) to: String,
    /// The data directory of the server [default: synckit-data]
    #[arg(long, value_name = "DIR", env = "SYNCKIT_DATA_DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// The configuration file of the server, to find its data directory
    #[arg(long, value_name = "FILE", env = "SYNCKIT_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// A file with the password of the PostgreSQL user; or set SYNCKIT_DATABASE_PASSWORD
    #[arg(long, value_name = "FILE", env = "SYNCKIT_DATABASE_PASSWORD_FILE")]
    pub(crate) database_password_file: Option<String>,
}

/// Check a server, with advice for each problem
///
/// Checks the configuration, the data directory, the keys, the database, the blobs, the clock, the disk, mail and the
/// address. Changes nothing; the server may be running. Use the flags and the environment of `synckit serve`. With
/// --server URL it checks a server from outside instead, as an app sees it. The exit code is 0 if all is well, 1 if a
/// finding needs attention, 2 if something is broken.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Check this server from outside, instead of a data directory
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<String>,
    /// Check the whole database, hash every stored change, compare every blob, connect to the mail server: may take long
    #[arg(long)]
    pub(crate) full: bool,
    #[command(flatten)]
    pub(crate) serve: ServeArgs,
}

/// A plan, or none.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct PlanArgs {
    /// Gigabytes that the app may store, a whole number
    #[arg(long, value_name = "GB", required_unless_present = "none")]
    pub(crate) gb: Option<Gigabytes>,
    /// How often all of them may move in a month, with at most two decimals
    #[arg(long, value_name = "TIMES", default_value_t = Burst::SIMPLE, requires = "gb")]
    pub(crate) burst: Burst,
    /// Take the plan away: no limits
    #[arg(long, conflicts_with_all = ["gb", "burst"])]
    pub(crate) none: bool,
}

/// A limit of each user, or none.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct UserLimitArgs {
    /// Megabytes that each user may store in the app, a whole number
    #[arg(long, value_name = "MB", required_unless_present = "none")]
    pub(crate) mb: Option<Megabytes>,
    /// How often all of them may move in 30 days, with at most two decimals
    #[arg(long, value_name = "TIMES", default_value_t = Burst::SIMPLE, requires = "mb")]
    pub(crate) burst: Burst,
    /// Limit the users no longer
    #[arg(long, conflicts_with_all = ["mb", "burst"])]
    pub(crate) none: bool,
}

#[derive(Debug, Subcommand)]
#[command(disable_help_subcommand = true)]
pub(crate) enum AppCommand {
    /// Create an app and show its API key
    Create {
        /// The name that people see
        name: String,
        #[command(flatten)]
        data: DataArgs,
    },
    /// List the apps and their keys
    List {
        #[command(flatten)]
        data: DataArgs,
    },
    /// Give an app another name
    Rename {
        /// The id or the name of the app
        app: String,
        /// The new name
        name: String,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Delete an app and all data that its users keep in it, for good
    Delete {
        /// The id or the name of the app
        app: String,
        /// Do not ask for confirmation
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Say what an app may store and move; without a plan it has no limits
    Plan {
        /// The id or the name of the app
        app: String,
        #[command(flatten)]
        plan: PlanArgs,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Limit what each user may store and move in an app
    UserLimit {
        /// The id or the name of the app
        app: String,
        #[command(flatten)]
        limit: UserLimitArgs,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Show what an app stores and moves, and how much of its plan that is
    Usage {
        /// The id or the name of the app
        app: String,
        #[command(flatten)]
        data: DataArgs,
    },
    /// List the addresses that a browser sign-in may return to
    Redirects {
        /// The id or the name of the app
        app: String,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Register an address that a browser sign-in may return to
    ///
    /// `http://127.0.0.1/callback` and `http://[::1]/callback`, at any port, need no registration.
    AddRedirect {
        /// The id or the name of the app
        app: String,
        /// https://HOST/…, SCHEME:/… with a dot in SCHEME, or a loopback address without a port
        uri: String,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Remove an address that a browser sign-in may return to
    RemoveRedirect {
        /// The id or the name of the app
        app: String,
        /// The address, as it is listed
        uri: String,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Create a new API key and expire the old ones
    RotateKey {
        /// The id or the name of the app
        app: String,
        /// Time until the old keys expire, such as 12h or 7d
        #[arg(long, value_name = "TIME", default_value = "7d")]
        overlap: Span,
        #[command(flatten)]
        data: DataArgs,
    },
}

#[derive(Debug, Subcommand)]
#[command(disable_help_subcommand = true)]
pub(crate) enum TeamCommand {
    /// Create a team
    Create {
        /// The name that its members see
        name: String,
        /// The address of the account that owns it
        #[arg(long, value_name = "EMAIL")]
        owner: String,
        #[command(flatten)]
        data: DataArgs,
    },
    /// List the teams and their members
    List {
        #[command(flatten)]
        data: DataArgs,
    },
    /// Make an account a member, or give a member another role
    Add {
        /// The id or the name of the team
        team: String,
        /// The address of the account
        email: String,
        /// What it may do: owner (everything) or developer (all but to delete apps)
        #[arg(long)]
        role: TeamRole,
        #[command(flatten)]
        data: DataArgs,
    },
    /// End a membership
    Remove {
        /// The id or the name of the team
        team: String,
        /// The address of the account
        email: String,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Give an app to a team: its members administer it, and no other team does
    Give {
        /// The id or the name of the app
        app: String,
        /// The id or the name of the team
        team: String,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Delete a team that has no app
    Delete {
        /// The id or the name of the team
        team: String,
        #[command(flatten)]
        data: DataArgs,
    },
}

#[derive(Debug, Subcommand)]
#[command(disable_help_subcommand = true)]
pub(crate) enum AccountCommand {
    /// List the accounts
    List {
        #[command(flatten)]
        data: DataArgs,
    },
    /// Create an invitation for one account and show its code, once
    Invite {
        #[command(flatten)]
        data: DataArgs,
    },
    /// Write all data of an account to a file, as JSON lines
    Export {
        /// The e-mail address of the account
        email: String,
        /// The file to write; it must not exist
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Delete an account and all of its data, in every app, for good
    Delete {
        /// The e-mail address of the account
        email: String,
        /// Do not ask for confirmation
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Keep an account whose owner deleted it on its page, as long as its day has not come
    Keep {
        /// The address of the account
        email: String,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Give an account another address and end its sessions, for an owner whose address somebody else changed
    ChangeAddress {
        /// The account: its id, or its e-mail address
        account: String,
        /// The address that it gets; make sure that it is the owner's
        address: String,
        #[command(flatten)]
        data: DataArgs,
    },
    /// End every session of an account, in every app
    SignOut {
        /// The e-mail address of the account
        email: String,
        #[command(flatten)]
        data: DataArgs,
    },
    /// List the kept key envelopes of an account in an app
    Envelopes {
        #[command(flatten)]
        stream: StreamArgs,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Restore an older key envelope, for a user whose devices cannot open the newest
    RestoreEnvelope {
        #[command(flatten)]
        stream: StreamArgs,
        /// A version that `account envelopes` lists
        #[arg(long)]
        version: u64,
        #[command(flatten)]
        data: DataArgs,
    },
}

/// One account in one app.
#[derive(Debug, Args)]
pub(crate) struct StreamArgs {
    /// The app: its id, or its name if no other app has it
    #[arg(long)]
    pub(crate) app: String,
    /// The e-mail address of the account
    #[arg(long)]
    pub(crate) email: String,
}

#[derive(Debug, Subcommand)]
#[command(disable_help_subcommand = true)]
pub(crate) enum TokenCommand {
    /// Add a signing key for tokens, used from the server's next start on
    RotateKey {
        #[command(flatten)]
        data: DataArgs,
    },
}

/// Watch two devices sync a database and files through a server that can read neither
///
/// A real server starts on a temporary directory. A laptop and a phone sync, edit and converge. Then the server's data
/// is searched for every value of the dataset. The exit code is 1 if any check fails.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// A SQLite database or a folder to sync; it is only read [default: the IANA time zone tables]
    pub(crate) path: Option<PathBuf>,
    /// Use a running server instead of starting one
    #[arg(long, value_name = "URL", requires = "api_key")]
    pub(crate) server: Option<String>,
    /// The API key of an app on that server
    #[arg(long, value_name = "KEY", env = "SYNCKIT_API_KEY", hide_env_values = true)]
    pub(crate) api_key: Option<String>,
    /// An invitation, if that server asks for one
    #[arg(long, value_name = "CODE", requires = "server")]
    pub(crate) invite: Option<String>,
    /// The e-mail address of the account to create [default: a random one]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) email: Option<String>,
    /// Keep the server's data and both devices' databases
    #[arg(long)]
    pub(crate) keep: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_in_one_group_of_the_help() {
        let command = Cli::command();
        let mut names: Vec<&str> = command
            .get_subcommands()
            .map(clap::Command::get_name)
            .chain(["help"])
            .collect();
        let mut grouped: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| *names).copied().collect();
        names.sort_unstable();
        grouped.sort_unstable();
        assert_eq!(names, grouped);
    }
}
