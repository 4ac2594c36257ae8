//! The command line, and which environment variable stands for which flag.

use std::{ffi::OsStr, net::SocketAddr, path::PathBuf};

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, builder::NonEmptyStringValueParser};
use synckit_protocol::SecretText;
use synckit_server::config::{AddressBlock, ByteSize, LogFormat, Registration, Settings, Span};

/// Where the server keeps its data unless it is told otherwise.
pub(crate) const DEFAULT_DATA_DIR: &str = "synckit-data";

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

/// The commands by who needs them, as the help lists them.
const GROUPS: &[(&str, &[&str])] = &[
    ("See it work", &["demo"]),
    ("Run a server", &["serve", "app", "account", "token", "doctor"]),
    ("Use an account", &["login", "logout", "device", "export"]),
    ("Other", &["completions", "man", "help"]),
];

/// Help of the program itself, in place of clap's one long list.
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
            text.push_str(&format!("  {name:<13}{about}\n"));
        }
    }
    text + "\nOptions:\n{options}"
}

/// Reads the command line. A variable that is set to nothing counts as unset, for every flag.
pub(crate) fn parse() -> Result<Cli, clap::Error> {
    let command = without_empty_variables(Cli::command());
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

/// The variable that gave a flag its value, if the command line did not: `--listen <ADDR>` may stand for `SYNCKIT_LISTEN`.
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
    /// List, export and delete accounts, create invitations, end sessions, restore key envelopes
    #[command(subcommand)]
    Account(AccountCommand),
    /// Rotate the key that signs the tokens of sessions
    #[command(subcommand)]
    Token(TokenCommand),
    /// Check server, API key and address of a user, and keep them for later commands
    Login {
        #[command(flatten)]
        sign_in: SignInArgs,
    },
    /// Forget what `login` keeps
    Logout,
    /// List, rename and revoke the devices of a user
    #[command(subcommand)]
    Device(DeviceCommand),
    /// Export all of a user's data, decrypted: JSON lines or SQLite, and the files
    Export(ExportArgs),
    /// Check a server, and say what to do about each problem
    Doctor(Box<DoctorArgs>),
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
/// A flag goes before its environment variable, that before the configuration file, that before the default. Ctrl-C or
/// SIGTERM stops the server after the requests that are running; a second one stops it at once.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// A TOML file with the keys below (data_dir, listen, ...)
    #[arg(long, value_name = "FILE", env = "SYNCKIT_CONFIG")]
    config: Option<PathBuf>,
    /// Where everything is kept; created on first start [default: synckit-data]
    #[arg(long, value_name = "DIR", env = "SYNCKIT_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// The address to listen at; port 0 takes any free one [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR", env = "SYNCKIT_LISTEN", value_parser = socket_address)]
    listen: Option<SocketAddr>,
    /// The URL under which clients reach this server [default: http:// and the listen address]
    #[arg(long, value_name = "URL", env = "SYNCKIT_PUBLIC_URL")]
    public_url: Option<String>,
    /// Who may create an account: open, invite or closed [default: open]
    #[arg(long, value_name = "WHO", env = "SYNCKIT_REGISTRATION")]
    registration: Option<Registration>,
    /// Take passwords in request bodies too, for scripts; the server then sees them
    #[arg(long, value_name = "BOOL", env = "SYNCKIT_ALLOW_PASSWORD_LOGIN", num_args = 0..=1, require_equals = true,
        default_missing_value = "true")]
    allow_password_login: Option<bool>,
    /// Go on after the OPRF seed was lost: every password must then be reset
    #[arg(long, value_name = "BOOL", env = "SYNCKIT_ACCEPT_NEW_OPRF_SEED", num_args = 0..=1, require_equals = true,
        default_missing_value = "true")]
    accept_new_oprf_seed: Option<bool>,
    /// Proxies whose X-Forwarded-For is believed, such as 10.0.0.0/8 [default: none]
    #[arg(
        long,
        value_name = "ADDR[/BITS],...",
        env = "SYNCKIT_TRUSTED_PROXIES",
        value_delimiter = ','
    )]
    trusted_proxies: Option<Vec<AddressBlock>>,
    /// The form of the log on standard error: text or json [default: text]
    #[arg(long, value_name = "FORM", env = "SYNCKIT_LOG_FORMAT")]
    log_format: Option<LogFormat>,
    /// What is logged: error, warn, info, debug or trace, also by module
    #[arg(long, value_name = "FILTER", env = "SYNCKIT_LOG", default_value = "info")]
    pub(crate) log: String,
    /// The sender of mails; needs smtp_url in the file or in SYNCKIT_SMTP_URL [default: mails become files]
    #[arg(long, value_name = "ADDRESS", env = "SYNCKIT_MAIL_FROM", value_parser = NonEmptyStringValueParser::new())]
    mail_from: Option<String>,
    #[command(flatten)]
    limits: LimitArgs,
}

/// Limits that few operators change.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits (times as 30s, 15min, 12h, 7d; sizes as 64MiB)")]
struct LimitArgs {
    /// The time in which used-up sign-in guesses come back [default: 15min]
    #[arg(long, value_name = "TIME", env = "SYNCKIT_GUESS_WINDOW", hide_short_help = true)]
    guess_window: Option<Span>,
    /// Guesses at one account from one address [default: 10]
    #[arg(
        long,
        value_name = "N",
        env = "SYNCKIT_GUESSES_PER_ACCOUNT_AND_ADDRESS",
        hide_short_help = true
    )]
    guesses_per_account_and_address: Option<u32>,
    /// Guesses from one address at any account [default: 60]
    #[arg(long, value_name = "N", env = "SYNCKIT_GUESSES_PER_ADDRESS", hide_short_help = true)]
    guesses_per_address: Option<u32>,
    /// Guesses at one account from addresses that it was never used from [default: 100]
    #[arg(
        long,
        value_name = "N",
        env = "SYNCKIT_GUESSES_PER_ACCOUNT_FROM_STRANGERS",
        hide_short_help = true
    )]
    guesses_per_account_from_strangers: Option<u32>,
    /// Requests a second of one session [default: 1000]
    #[arg(
        long,
        value_name = "N",
        env = "SYNCKIT_SESSION_REQUESTS_PER_SECOND",
        hide_short_help = true
    )]
    session_requests_per_second: Option<u32>,
    /// Requests of one session at once [default: 2000]
    #[arg(
        long,
        value_name = "N",
        env = "SYNCKIT_SESSION_REQUEST_BURST",
        hide_short_help = true
    )]
    session_request_burst: Option<u32>,
    /// Requests a second from one address that need no token [default: 200]
    #[arg(
        long,
        value_name = "N",
        env = "SYNCKIT_ADDRESS_REQUESTS_PER_SECOND",
        hide_short_help = true
    )]
    address_requests_per_second: Option<u32>,
    /// Requests from one address that need no token, at once [default: 1000]
    #[arg(
        long,
        value_name = "N",
        env = "SYNCKIT_ADDRESS_REQUEST_BURST",
        hide_short_help = true
    )]
    address_request_burst: Option<u32>,
    /// Until the head of a request is there [default: 60s]
    #[arg(
        long,
        value_name = "TIME",
        env = "SYNCKIT_REQUEST_HEAD_TIMEOUT",
        hide_short_help = true
    )]
    request_head_timeout: Option<Span>,
    /// Until the body of a request is there [default: 30s]
    #[arg(
        long,
        value_name = "TIME",
        env = "SYNCKIT_REQUEST_BODY_TIMEOUT",
        hide_short_help = true
    )]
    request_body_timeout: Option<Span>,
    /// Until a request is answered [default: 60s]
    #[arg(long, value_name = "TIME", env = "SYNCKIT_REQUEST_TIMEOUT", hide_short_help = true)]
    request_timeout: Option<Span>,
    /// Between two pieces of a blob or an answer [default: 30s]
    #[arg(long, value_name = "TIME", env = "SYNCKIT_STALL_TIMEOUT", hide_short_help = true)]
    stall_timeout: Option<Span>,
    /// How long running requests may go on after the server was told to stop [default: 30s]
    #[arg(long, value_name = "TIME", env = "SYNCKIT_SHUTDOWN_GRACE", hide_short_help = true)]
    shutdown_grace: Option<Span>,
    /// How often expired uploads and deleted blobs are swept [default: 60s]
    #[arg(long, value_name = "TIME", env = "SYNCKIT_SWEEP_INTERVAL", hide_short_help = true)]
    sweep_interval: Option<Span>,
    /// How old a snapshot is before the log below it may go [default: 14d]
    #[arg(
        long,
        value_name = "TIME",
        env = "SYNCKIT_SNAPSHOT_SETTLE_TIME",
        hide_short_help = true
    )]
    snapshot_settle_time: Option<Span>,
    /// How long a device that was not seen holds the log that it has not pulled [default: 90d]
    #[arg(
        long,
        value_name = "TIME",
        env = "SYNCKIT_DEVICE_ACTIVE_TIME",
        hide_short_help = true
    )]
    device_active_time: Option<Span>,
    /// How long after its last part an unfinished snapshot is swept [default: 24h]
    #[arg(
        long,
        value_name = "TIME",
        env = "SYNCKIT_SNAPSHOT_UPLOAD_TIME",
        hide_short_help = true
    )]
    snapshot_upload_time: Option<Span>,
    /// Open connections [default: 4096]
    #[arg(long, value_name = "N", env = "SYNCKIT_CONNECTIONS_MAX", hide_short_help = true)]
    connections_max: Option<u32>,
    /// API requests at work [default: 1024]
    #[arg(long, value_name = "N", env = "SYNCKIT_REQUESTS_MAX", hide_short_help = true)]
    requests_max: Option<u32>,
    /// Blobs on their way [default: 128]
    #[arg(long, value_name = "N", env = "SYNCKIT_TRANSFERS_MAX", hide_short_help = true)]
    transfers_max: Option<u32>,
    /// Memory for the bodies of pushes [default: 64MiB]
    #[arg(long, value_name = "SIZE", env = "SYNCKIT_PUSH_BODY_MEMORY", hide_short_help = true)]
    push_body_memory: Option<ByteSize>,
    /// Memory for the pages of pulls [default: 64MiB]
    #[arg(long, value_name = "SIZE", env = "SYNCKIT_PAGE_MEMORY", hide_short_help = true)]
    page_memory: Option<ByteSize>,
    /// The most that the database may take; blobs do not count [default: what the disk holds]
    #[arg(long, value_name = "SIZE", env = "SYNCKIT_DATABASE_MAX", hide_short_help = true)]
    database_max: Option<ByteSize>,
}

/// What only the environment and the file may say.
#[derive(Debug, Default)]
pub(crate) struct SecretSettings {
    /// The URL of an SMTP server, which holds a password.
    pub(crate) smtp_url: Option<SecretText>,
    /// The token that opens `/metrics`.
    pub(crate) metrics_token: Option<SecretText>,
}

impl ServeArgs {
    /// The configuration file.
    pub(crate) fn config_file(&self) -> Option<&PathBuf> {
        self.config.as_ref()
    }

    /// What flags and environment say. Secrets have no flags, which every user of the machine could read.
    pub(crate) fn settings(&self, secrets: SecretSettings) -> Settings {
        let limits = &self.limits;
        Settings {
            data_dir: self.data_dir.clone(),
            listen: self.listen,
            public_url: self.public_url.clone(),
            registration: self.registration,
            allow_password_login: self.allow_password_login,
            accept_new_oprf_seed: self.accept_new_oprf_seed,
            trusted_proxies: self.trusted_proxies.clone(),
            guess_window: limits.guess_window,
            guesses_per_account_and_address: limits.guesses_per_account_and_address,
            guesses_per_address: limits.guesses_per_address,
            guesses_per_account_from_strangers: limits.guesses_per_account_from_strangers,
            session_requests_per_second: limits.session_requests_per_second,
            session_request_burst: limits.session_request_burst,
            address_requests_per_second: limits.address_requests_per_second,
            address_request_burst: limits.address_request_burst,
            metrics_token: secrets.metrics_token,
            request_head_timeout: limits.request_head_timeout,
            request_body_timeout: limits.request_body_timeout,
            request_timeout: limits.request_timeout,
            stall_timeout: limits.stall_timeout,
            shutdown_grace: limits.shutdown_grace,
            connections_max: limits.connections_max,
            requests_max: limits.requests_max,
            transfers_max: limits.transfers_max,
            push_body_memory: limits.push_body_memory,
            page_memory: limits.page_memory,
            database_max: limits.database_max,
            sweep_interval: limits.sweep_interval,
            snapshot_settle_time: limits.snapshot_settle_time,
            device_active_time: limits.device_active_time,
            snapshot_upload_time: limits.snapshot_upload_time,
            log_format: self.log_format,
            smtp_url: secrets.smtp_url,
            mail_from: self.mail_from.clone(),
        }
    }
}

/// Which server's data an administrative command works on.
#[derive(Debug, Args)]
pub(crate) struct DataArgs {
    /// The data directory of the server [default: synckit-data]
    #[arg(long, value_name = "DIR", env = "SYNCKIT_DATA_DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// The configuration file of the server, to find its data directory
    #[arg(long, value_name = "FILE", env = "SYNCKIT_CONFIG")]
    pub(crate) config: Option<PathBuf>,
}

/// The user as whom a command signs in; what is missing comes from `synckit login`. The password is asked for at the
/// terminal, or read from SYNCKIT_PASSWORD; it is never an argument, which every user of the machine could read.
#[derive(Debug, Args)]
pub(crate) struct SignInArgs {
    /// The server [default: that of `synckit login`]
    #[arg(long, value_name = "URL", env = "SYNCKIT_SERVER")]
    pub(crate) server: Option<String>,
    /// The API key of the app [default: that of `synckit login`]
    #[arg(long, value_name = "KEY", env = "SYNCKIT_API_KEY", hide_env_values = true)]
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
pub(crate) enum DeviceCommand {
    /// List the devices of a user in an app
    List {
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
    /// Replace the master key: later data is readable only with the new key, which devices get with the password
    RotateKey {
        /// Do not ask
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
        /// Do not ask
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        sign_in: SignInArgs,
    },
}

/// The form of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ExportFormat {
    /// Every change on a line of its own, in the order of the log
    Jsonl,
    /// A database with a table for each table of the app, rows in their newest state, and every change
    Sqlite,
}

/// Export all of a user's data, decrypted: JSON lines or SQLite, and the files
///
/// The export stands in DIR as changes.jsonl or export.sqlite, files in DIR/blobs under their SHA-256. They appear whole or
/// not at all: an export that was interrupted goes on where it was when the same command runs again. While it runs it is a
/// device of the user, which is revoked when it ends. Nothing is stored in the keychain of this machine.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The directory of the export; created, for this user only
    #[arg(long, value_name = "DIR", default_value = "synckit-export")]
    pub(crate) out: PathBuf,
    /// The form of the export
    #[arg(long, value_name = "FORM", value_enum, default_value_t = ExportFormat::Jsonl)]
    pub(crate) format: ExportFormat,
    /// Download every file too
    #[arg(long)]
    pub(crate) blobs: bool,
    /// Open the data with the recovery code (asked for, or in SYNCKIT_RECOVERY_CODE) after the password was reset
    #[arg(long)]
    pub(crate) recovery_code: bool,
    /// Replace an existing export, and restart an interrupted one
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) sign_in: SignInArgs,
}

/// Check a server, and say what to do about each problem
///
/// Looks at the configuration, the data directory, the keys, the database, the blobs, the clock, the disk, mail and the
/// address, and changes nothing, also beside a running server. Give it the flags and the environment of `synckit serve`.
/// With --server URL it looks at a server from outside instead, as an app does. The exit code is 0 if all is well, 1 if
/// something should be looked at, 2 if something is broken.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Look at this server from outside instead of at a data directory
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<String>,
    /// Read the whole database, compare every blob, and connect to the mail server: may take long
    #[arg(long)]
    pub(crate) full: bool,
    #[command(flatten)]
    pub(crate) serve: ServeArgs,
}

#[derive(Debug, Subcommand)]
#[command(disable_help_subcommand = true)]
pub(crate) enum AppCommand {
    /// Create an app and show its API key, once
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
        /// Do not ask
        #[arg(long)]
        yes: bool,
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
/// A real server starts on a temporary directory; a laptop and a phone sync, edit and converge; what the server holds is
/// searched for every value of the data. The exit code is 1 if anything is not as it should be.
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

/// An address to listen at. A host name could mean several, so it is none.
fn socket_address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse()
        .map_err(|_| "expected an IP address and a port, such as 127.0.0.1:8080 or [::]:8080")
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
