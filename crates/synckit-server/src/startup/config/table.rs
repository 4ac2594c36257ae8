//! The table of settings: each key once, with its form, default and text.
//!
//! A row makes the key of the configuration file, the environment variable, the flag with its help, and the row of
//! `docs/operations.md`, which a test compares. A row of [`limit_groups!`] makes the field of the configuration, too: a
//! new limit is one row there, and the code that obeys it.

use std::time::Duration;

use super::{Config, forms};

/// One key of the configuration.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Setting {
    /// The key in a file. With `-` for `_` it is the flag, with `SYNCKIT_` and in capitals the environment variable.
    pub key: &'static str,
    /// The placeholder of its value in help texts.
    pub value_name: &'static str,
    /// The value where nobody sets one, as text for people.
    pub default: &'static str,
    /// One sentence without a full stop: the help text of the flag.
    pub help: &'static str,
    /// Where it is set, and where it is shown.
    pub kind: SettingKind,
    /// Additional text in `docs/operations.md` after `help`, in Markdown.
    more: &'static str,
    set: fn(&mut Config, &str) -> Result<(), String>,
}

/// Where a setting is set, and where it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SettingKind {
    /// In the short help.
    Basic,
    /// `true` or `false`; the flag without a value means `true`.
    Switch,
    /// A limit that few operators change: in the long help.
    Limit,
    /// Shown nowhere, because it may hold a password. The flag refuses one: every user of the machine could read it in the
    /// list of processes.
    Guarded,
    /// No flag, because every user of the machine could read it in the list of processes.
    Secret,
}

impl Setting {
    /// Every setting, in the order of the documentation.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        BASICS.iter().chain(LIMITS)
    }

    /// The setting of a key.
    pub fn of_key(key: &str) -> Option<&'static Self> {
        Self::all().find(|setting| setting.key == key)
    }

    /// The environment variable.
    pub fn variable(&self) -> String {
        format!("SYNCKIT_{}", self.key.to_uppercase())
    }

    /// The flag without its dashes.
    pub fn flag(&self) -> String {
        self.key.replace('_', "-")
    }

    /// Checks a value.
    ///
    /// # Errors
    /// The allowed values, as text for people.
    pub fn check(&self, value: &str) -> Result<(), String> {
        (self.set)(&mut Config::new(""), value)
    }

    /// The row of the table in `docs/operations.md`.
    pub fn documentation(&self) -> String {
        let Self { key, help, more, .. } = self;
        // A value, or words about its origin.
        let default = match self.check(self.default) {
            Ok(()) => format!("`{}`", self.default),
            Err(_) => self.default.to_owned(),
        };
        let secret = match self.kind {
            SettingKind::Secret => " (no flag: flags are visible in the list of processes)",
            _ => "",
        };
        let space = if more.is_empty() { "" } else { " " };
        format!("| `{key}`{secret} | {default} | {help}.{space}{more} |")
    }

    pub(super) fn apply(&self, config: &mut Config, value: &str) -> Result<(), String> {
        (self.set)(config, value)
    }
}

/// Puts a parsed value in its place.
macro_rules! row {
    ($key:ident, $kind:ident, $name:literal, $default:expr, $help:literal, $more:literal, $form:expr => $field:ident) => {
        Setting {
            key: stringify!($key),
            value_name: $name,
            default: $default,
            help: $help,
            kind: SettingKind::$kind,
            more: $more,
            set: |config, text| {
                config.$field = $form(text)?.into();
                Ok(())
            },
        }
    };
}

/// Settings with a form of their own. Their defaults are those of [`Config::new`].
#[rustfmt::skip]
const BASICS: &[Setting] = &[
    row!(data_dir, Basic, "DIR", Config::DEFAULT_DATA_DIR, "Directory for all data; created on first start",
        "A local disk with hard links: SQLite does not work reliably on a network share.", forms::some_text => data_dir),
    row!(listen, Basic, "ADDR", "127.0.0.1:8080", "Address to listen at; port 0 takes any free port",
        "", forms::socket_address => listen),
    row!(database, Guarded, "URL", "embedded", "Database: embedded, or the URL of a PostgreSQL",
        "The embedded one is `synckit.db` in the data directory. `postgres://user@host:5432/database`: \
         [PostgreSQL](#postgresql). The flag takes no password.", forms::database => database),
    Setting {
        key: "database_password",
        value_name: "PASSWORD",
        default: "none",
        help: "Password of the PostgreSQL user",
        kind: SettingKind::Secret,
        more: "It wins over one in the URL.",
        // Part of `database`: `Config::resolve` puts them together.
        set: |_, text| forms::given_text(text).map(drop),
    },
    Setting {
        key: "database_password_file",
        value_name: "FILE",
        default: "none",
        help: "File with the password of the PostgreSQL user",
        kind: SettingKind::Basic,
        more: "A line break at its end is not part of it.",
        set: |_, text| forms::given_text(text).map(drop),
    },
    row!(blobs, Guarded, "URL", "directory", "Place of the sealed files: directory, or the address of a bucket",
        "The directory is `blobs/` in the data directory. `s3://bucket?endpoint=https://…&region=…&prefix=…`: [S3](#s3).",
        forms::blob_place => blobs),
    Setting {
        key: "bucket_access_key",
        value_name: "ID",
        default: "none",
        help: "Access key id of the bucket",
        kind: SettingKind::Limit,
        more: "",
        // Part of `blobs`: `Config::resolve` puts them together.
        set: |_, text| forms::given_text(text).map(drop),
    },
    Setting {
        key: "bucket_secret_key",
        value_name: "KEY",
        default: "none",
        help: "Secret access key of the bucket",
        kind: SettingKind::Secret,
        more: "",
        set: |_, text| forms::given_text(text).map(drop),
    },
    Setting {
        key: "bucket_secret_key_file",
        value_name: "FILE",
        default: "none",
        help: "File with the secret access key of the bucket",
        kind: SettingKind::Limit,
        more: "A line break at its end is not part of it.",
        set: |_, text| forms::given_text(text).map(drop),
    },
    row!(public_url, Basic, "URL", "http:// and the listen address", "URL under which clients reach this server",
        "It may have a path. Presigned URLs begin with it, mails contain it, and it is the issuer of tokens. **Set it** on \
         every server that is reached from other machines. A change makes clients refresh their tokens, and nothing else.",
        forms::parsed::<super::PublicUrl> => public_url),
    row!(registration, Basic, "WHO", "open", "Who may create an account: open, invite or closed",
        "", forms::parsed::<super::Registration> => registration),
    row!(allow_password_login, Switch, "BOOL", "false",
        "Accept passwords in request bodies, for scripts; the server then sees them",
        "This concerns `POST /api/sync/auth`. The flag without a value means true.", forms::truth => allow_password_login),
    row!(accept_new_oprf_seed, Switch, "BOOL", "false",
        "Continue after the OPRF seed was lost: every password must then be reset",
        "[Read this first](#losing-the-oprf-seed). For one start; never in the file.",
        forms::truth => accept_new_oprf_seed),
    row!(trusted_proxies, Basic, "ADDR[/BITS],...", "none",
        "Proxies whose X-Forwarded-For is trusted, such as 10.0.0.0/8",
        "Addresses or blocks. Flag and variable: separated by commas; file: an array of texts.",
        forms::address_blocks => trusted_proxies),
    row!(log_format, Basic, "FORM", "text", "Format of the log on standard error: text or json",
        "", forms::parsed::<super::LogFormat> => log_format),
    Setting {
        key: "smtp_url",
        value_name: "URL",
        default: "none",
        help: "URL of the mail server; needs mail_from",
        kind: SettingKind::Secret,
        more: "`smtps://user:password@host:port` (TLS from the start) or `smtp://user:password@host:port?tls=required` \
               (STARTTLS).",
        // Two keys make one value: `Config::resolve` puts them together.
        set: |_, text| forms::smtp_url(text).map(drop),
    },
    Setting {
        key: "mail_from",
        value_name: "ADDRESS",
        default: "none: mails become files",
        help: "Sender of mails; needs smtp_url in the file or in SYNCKIT_SMTP_URL",
        kind: SettingKind::Basic,
        more: "`sync@example.com` or `Name <sync@example.com>`.",
        set: |_, text| forms::sender(text).map(drop),
    },
    row!(metrics_token, Secret, "TOKEN", "none", "Bearer token for GET /metrics",
        "See [metrics](#metrics). At least 16 characters.", forms::bearer_token => metrics_token),
    row!(database_max, Limit, "SIZE", "the free space of the disk", "Maximum size of the database file; blobs do not count",
        "Past it, requests that would store more get `507 server_full`.", forms::size => database_bytes_max),
    row!(sweep_interval, Limit, "TIME", "60 s", "Interval between runs of the background jobs",
        "They delete expired uploads, deleted blobs, log entries that snapshots cover, accounts that nobody confirmed, and the \
         remains of deleted accounts.",
        forms::time => sweep_interval),
];

/// Declares groups of limits: for each key the field of the configuration, its default, and the row of the table.
macro_rules! limit_groups {
    ($($(#[$about:meta])* $group:ident in $place:ident {
        $($key:ident => $field:ident: $type:ty, $form:ident, $default:literal, $help:literal, $more:literal;)*
    })*) => {
        $(
            $(#[$about])*
            #[derive(Debug, Clone, Copy, PartialEq, Eq)]
            #[non_exhaustive]
            pub struct $group {
                $(
                    #[doc = concat!($help, ". ", $more)]
                    #[doc = ""]
                    #[doc = concat!("Key `", stringify!($key), "`, default ", $default, ".")]
                    pub $field: $type,
                )*
            }

            impl Default for $group {
                fn default() -> Self {
                    Self { $($field: forms::$form($default).expect("a default is allowed"),)* }
                }
            }
        )*

        const LIMITS: &[Setting] = &[$($(
            Setting {
                key: stringify!($key),
                value_name: forms::value_name(stringify!($form)),
                default: $default,
                help: $help,
                kind: SettingKind::Limit,
                more: $more,
                set: |config, text| {
                    config.$place.$field = forms::$form(text)?;
                    Ok(())
                },
            },
        )*)*];
    };
}

limit_groups! {
    /// How many sign-ins may fail within [`GuessLimits::window`]. Every start of a sign-in counts; a successful finish
    /// gives the guess back. The database counts, for all nodes: a restart clears nothing.
    GuessLimits in guesses {
        guess_window => window: Duration, time, "15 min", "Time in which used-up sign-in guesses come back", "";
        guesses_per_account_and_address => per_account_and_address: u32, number, "10",
            "Guesses at one account from one address", "See [limits on guesses](#limits-on-guesses).";
        guesses_per_address => per_address: u32, number, "60", "Guesses from one address at any account", "";
        guesses_per_account_from_strangers => per_account_from_strangers: u32, number, "100",
            "Guesses at one account from all unfamiliar addresses",
            "An address is familiar if the account signed in or synced from it within 90 days: strangers cannot lock the \
             owner out.";
    }

    /// How many mails one address or mailbox gets. Past it: `too_many_guesses`. The database counts, for all nodes: a restart clears
    /// nothing.
    MailLimits in mails {
        reset_mail_burst => reset_burst: u32, number, "5",
            "Mails with a code to reset a password that one address gets at once", "See [mail](#mail).";
        reset_mails_per_day => resets_per_day: u32, number, "24",
            "Mails with a code to reset a password that one address gets in a day, after the burst",
            "With fewer than 24, strangers can keep the owner of an address from a reset: a code is valid for an hour.";
        registration_mail_burst => registration_burst: u32, number, "5",
            "Mails about registrations that one mailbox gets at once", "";
        registration_mails_per_day => registrations_per_day: u32, number, "12",
            "Mails about registrations that one mailbox gets in a day, after the burst", "";
    }

    /// How many requests a session, and an address without a token, may send. Past it: `rate_limited`. Counters are in
    /// memory: they are bounded, and a restart clears them.
    RequestRates in rates {
        session_requests_per_second => session_per_second: u32, number, "1000", "Requests per second of one session",
            "See [limits on requests](#limits-on-requests).";
        session_request_burst => session_burst: u32, number, "2000", "Burst of requests of one session", "";
        address_requests_per_second => address_per_second: u32, number, "200",
            "Requests per second without a token from one address", "An IPv6 address counts as its /64 network.";
        address_request_burst => address_burst: u32, number, "1000", "Burst of requests without a token from one address", "";
    }

    /// Time limits.
    Timeouts in timeouts {
        request_head_timeout => request_head: Duration, time, "60 s", "Time limit for receiving request headers",
            "An idle connection is closed after the same time.";
        request_body_timeout => request_body: Duration, time, "30 s", "Time that the body of an API request may lag behind 4 KiB per second",
            "";
        request_timeout => request: Duration, time, "60 s", "Time limit for answering an API request",
            "It includes the time for the body.";
        stall_timeout => stall: Duration, time, "30 s", "Time that a blob or an answer may lag behind 4 KiB per second", "";
        shutdown_grace => shutdown_grace: Duration, time_or_none, "30 s",
            "Time limit for running requests after the server is told to stop",
            "Uploads of blobs get half of it. It may be `0 s`.";
        event_stream_time => event_stream: Duration, time, "60 min", "Time after which the server closes an event stream, give or take 10 %",
            "Clients open the next one by themselves.";
    }

    /// How long data that is no longer needed is kept.
    RetentionAges in retention {
        snapshot_settle_time => snapshot_settle: Duration, time, "14 d",
            "Minimum age of a snapshot before the log it covers is deleted",
            "During this time devices can still avoid a bad snapshot.";
        device_active_time => device_active: Duration, time, "90 d",
            "Time since a device was last seen during which the log it has not pulled is kept", "";
        snapshot_upload_time => snapshot_upload: Duration, time, "24 h",
            "Time since its last part after which an unfinished snapshot is deleted", "";
        pending_account_time => pending_account: Duration, time, "24 h",
            "Time within which the address of a new account must be confirmed",
            "Only with [mail](#mail) configured. The server deletes a registration that is not confirmed by then.";
    }

    /// How much may happen at once. Excess work waits for a moment and is then shed with `overloaded`.
    Bounds in bounds {
        connections_max => connections: usize, count, "4096", "Maximum open connections",
            "At most a quarter of them from one address. Further ones get `503 overloaded`.";
        requests_max => requests: usize, count, "1024", "Maximum concurrent API requests",
            "It counts requests with a token whose body has arrived; a quarter as many without a token. Further ones get \
             `503 overloaded`.";
        transfers_max => transfers: usize, count, "128", "Maximum concurrent blob transfers",
            "Further ones get `503 overloaded`.";
        event_streams_max => event_streams: usize, count, "2048", "Maximum open event streams",
            "At most half of the connections. Further ones get `503 overloaded`, and their clients poll.";
        event_streams_per_account_max => event_streams_per_account: usize, count, "128",
            "Maximum open event streams of one account", "";
        push_body_memory => push_body_bytes: u64, memory, "64 MiB", "Memory for request bodies above 64 KiB",
            "16 MiB to 256 GiB. Smaller bodies have half as much, those without a token an eighth. A body waits up to 5 s for its \
             share, then gets `503 overloaded`.";
        pending_accounts_max => pending_accounts: u32, number, "100000", "Maximum pending accounts: their address is not confirmed yet",
            "A further one replaces the oldest. Each takes about 1 KiB, at most 5 KiB.";
        page_memory => page_bytes: u64, memory, "96 MiB", "Memory for the pages of pulls, until they are sent",
            "16 MiB to 256 GiB.";
    }

    /// How a server works with a PostgreSQL. Past a time limit: `store_unavailable`.
    DatabaseLimits in database_limits {
        database_connections => connections: usize, connections, "16", "Maximum connections of this node to PostgreSQL",
            "At most 10000. All nodes together must stay below its `max_connections`. A start needs two.";
        database_acquire_timeout => acquire: Duration, time, "5 s", "Time that a request waits for a connection", "";
        database_connect_timeout => connect: Duration, time, "5 s", "Time limit for making a connection", "";
        database_statement_timeout => statement: Duration, time_of_statement, "30 s", "Time limit for one statement",
            "At most 24 h.";
    }

    /// How much one account may keep, in all apps. Past it: `quota_exceeded`.
    AccountQuotas in quotas {
        account_bytes_max => bytes: u64, size, "100 GiB", "Maximum size of what one account stores",
            "It counts batches, snapshots, blobs and announced uploads. See [quotas](#quotas).";
        account_blobs_max => blobs: u32, number, "1000000", "Maximum blobs of one account",
            "Deleted ones count until they are swept.";
        account_pending_uploads_max => pending_uploads: u32, number, "1000", "Maximum unconfirmed uploads of one account", "";
        account_sessions_max => sessions: u32, number, "1000", "Maximum sessions of one account",
            "A further one ends the one that was refreshed least recently.";
        account_revoked_devices_max => revoked_devices: u32, number, "10000",
            "Maximum revoked devices of one account in one app", "";
    }
}
