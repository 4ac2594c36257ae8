//! Failures for people and programs: a stable code, a message, and a hint.

use std::{
    error::Error,
    fmt,
    io::{self, IsTerminal as _},
    process::ExitCode,
};

use clap::error::{ContextKind, ContextValue};
use rusqlite::ErrorCode;
use serde::Serialize;
use synckit_client::{
    ApiKeyError, CredentialError, ProblemCode, PushError, Quota, Tampering, transport::TransportError,
};
use synckit_server::{
    DataDirError, KeyFileError, ServeError,
    admin::{AdminError, BackupError, MigrateStoreError},
    config::ConfigError,
};
use synckit_store::{StoreError, TransferError};

use crate::{cli, demo::Unreadable, screen};

/// The hint for a machine without trusted root certificates.
pub(crate) const NO_CERTIFICATES: &str = "install the root certificates of this machine (Debian: ca-certificates)";

/// The failure of a command.
pub(crate) struct Failure {
    error: anyhow::Error,
    code: String,
    hint: Option<String>,
}

/// A well-known error: its code for programs, and its hint.
struct Known {
    code: String,
    hint: Option<&'static str>,
}

impl Known {
    fn new(code: impl Into<String>, hint: &'static str) -> Self {
        Self {
            code: code.into(),
            hint: Some(hint),
        }
    }

    fn code(code: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            hint: None,
        }
    }
}

/// Any error becomes a failure; well-known ones get a code and a hint.
impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        let error = error.into();
        let known = error.chain().find_map(known).unwrap_or_else(|| Known::code("failed"));
        Self {
            error,
            code: known.code,
            hint: known.hint.map(str::to_owned),
        }
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.error)
    }
}

impl Failure {
    /// A failure with a hint. Its code is that of the error.
    pub(crate) fn new(error: impl Into<anyhow::Error>, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..Self::from(error)
        }
    }

    /// The same failure with another hint.
    pub(crate) fn with_hint(mut self, hint: &str) -> Self {
        self.hint = Some(hint.to_owned());
        self
    }

    /// The same failure under another code.
    pub(crate) fn with_code(mut self, code: &str) -> Self {
        code.clone_into(&mut self.code);
        self
    }

    pub(crate) fn code(&self) -> &str {
        &self.code
    }

    /// The message, with its causes, in one line.
    pub(crate) fn message(&self) -> String {
        format!("{:#}", self.error)
    }

    pub(crate) fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Prints it to standard error.
    pub(crate) fn report(&self) {
        report(&self.code, &self.message(), self.hint());
    }
}

/// Prints the error of a command line, or the requested help or version.
pub(crate) fn report_usage(error: &clap::Error) -> ExitCode {
    // The flag in the message may have got its value from a variable; the user must then correct the variable.
    let variable = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(flag)) => cli::variable_behind(flag),
        _ => None,
    };
    let hint = variable.map(|variable| format!("the value is that of the environment variable {variable}"));
    if screen::is_for_programs() && error.use_stderr() {
        let text = error.render().to_string();
        let message = text.split("\n\n").next().unwrap_or(&text).trim_start_matches("error: ");
        let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
        report(
            "usage",
            &message,
            Some(hint.as_deref().unwrap_or("--help shows the correct usage")),
        );
    } else if error.use_stderr() {
        // No other output is left for this error.
        let _ = error.print();
        if let Some(hint) = hint {
            screen::note(format_args!("hint: {hint}"));
        }
    } else {
        let text = error.render();
        let coloured = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        screen::raw_output(
            if coloured {
                text.ansi().to_string()
            } else {
                text.to_string()
            }
            .as_bytes(),
        );
    }
    unless_output_was_lost(u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// The exit code, or 1 if some of the output was lost. A reader that closed the pipe gets no message.
pub(crate) fn unless_output_was_lost(code: ExitCode) -> ExitCode {
    match screen::all_written() {
        Ok(()) => code,
        Err(error) => {
            if error.kind() != io::ErrorKind::BrokenPipe {
                Failure::from(anyhow::Error::from(error).context("standard output cannot be written")).report();
            }
            ExitCode::FAILURE
        }
    }
}

fn report(code: &str, message: &str, hint: Option<&str>) {
    #[derive(Serialize)]
    struct Said<'a> {
        code: &'a str,
        message: &'a str,
        hint: Option<&'a str>,
    }
    if screen::is_for_programs() {
        let said = Said { code, message, hint };
        screen::json_note(&serde_json::json!({ "error": said }));
        return;
    }
    screen::note(format_args!("error: {message}"));
    if let Some(hint) = hint {
        screen::note(format_args!("hint: {hint}"));
    }
}

/// Adds a hint to an error.
pub(crate) trait WithHint<T> {
    /// Replaces any other hint.
    fn hint(self, hint: impl Into<String>) -> Result<T, Failure>;
}

impl<T, E: Into<anyhow::Error>> WithHint<T> for Result<T, E> {
    fn hint(self, hint: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(error, hint))
    }
}

fn known(cause: &(dyn Error + 'static)) -> Option<Known> {
    if let Some(error) = cause.downcast_ref() {
        return Some(of_sdk(error));
    }
    if let Some(error) = cause.downcast_ref::<PushError>() {
        return Some(of_sdk(&error.source));
    }
    if cause.is::<Unreadable>() {
        return Some(Known::new(
            "unreadable_database",
            "if another program uses it, give a copy; if it is damaged, `sqlite3 FILE .recover` may save its rows",
        ));
    }
    if let Some(error) = cause.downcast_ref::<CredentialError>() {
        return Some(of_credentials(error));
    }
    if let Some(error) = cause.downcast_ref::<ServeError>() {
        return match error {
            ServeError::DataDir(error) => Some(of_data_dir(error)),
            ServeError::Keys(error) => Some(of_keys(error)),
            ServeError::Store(error) => of_store(error),
            ServeError::OtherSeed => Some(Known::new(
                "other_oprf_seed",
                "see \"Losing the OPRF seed\" in docs/operations.md before you replace the seed",
            )),
            ServeError::Bucket(_) => Some(Known::new("configuration", "`synckit doctor` tries the bucket")),
            ServeError::Mail(_) => Some(Known::new("configuration", "check smtp_url and mail_from")),
            _ => None,
        };
    }
    if let Some(error) = cause.downcast_ref::<AdminError>() {
        return match error {
            AdminError::DataDir(error) => Some(of_data_dir(error)),
            AdminError::Keys(error) => Some(of_keys(error)),
            AdminError::Store(error) => of_store(error),
            AdminError::AppName(_) | AdminError::TeamName(_) | AdminError::Plan(_) | AdminError::Address(_) => {
                Some(Known::code("invalid_value"))
            }
            AdminError::AppNameTaken(_) => Some(Known::new(
                "name_taken",
                "choose another name; `synckit app list` shows the apps and their keys",
            )),
            AdminError::AddressTaken(_) => Some(Known::new(
                "address_taken",
                "`synckit account list` shows the accounts of this server",
            )),
            AdminError::TeamNameTaken(_) => Some(Known::new(
                "name_taken",
                "choose another name; `synckit team list` shows the teams",
            )),
            AdminError::TooManyApps | AdminError::TooManyMembers | AdminError::LastOwner | AdminError::TeamHasApps => {
                Some(Known::new("invalid_value", "`synckit team list` shows the teams"))
            }
            AdminError::OlderServer { .. } => Some(Known::new(
                "older_server",
                "restart the server with this program, or use the program of the running server",
            )),
            AdminError::NoSuchAccount(_) | AdminError::NoSuchEnvelope(_) => Some(Known::code("not_found")),
            AdminError::EnvelopeIsCurrent(_) => Some(Known::code("invalid_value")),
            AdminError::Write(error) => Some(of_io(error)),
            AdminError::NoSuchTeam(_) => Some(Known::new(
                "not_found",
                "`synckit team list` shows the teams of this server",
            )),
            AdminError::NoSuchApp(_) => Some(Known::new(
                "not_found",
                "`synckit app list` shows the apps of this server",
            )),
            _ => None,
        };
    }
    if let Some(error) = cause.downcast_ref::<BackupError>() {
        return of_backup(error);
    }
    if let Some(error) = cause.downcast_ref::<MigrateStoreError>() {
        return match error {
            MigrateStoreError::Same => Some(Known::code("invalid_value")),
            MigrateStoreError::DataDir(error) => Some(of_data_dir(error)),
            MigrateStoreError::Transfer(error) => of_transfer(error),
            _ => None,
        };
    }
    if let Some(error) = cause.downcast_ref() {
        return Some(of_configuration(error));
    }
    if let Some(error) = cause.downcast_ref() {
        return of_store(error);
    }
    if let Some(error) = cause.downcast_ref() {
        return of_sqlite(error);
    }
    cause.downcast_ref().map(of_io)
}

fn of_configuration(error: &ConfigError) -> Known {
    Known::new(
        "configuration",
        match error {
            ConfigError::Read { .. } => "check the path that --config or SYNCKIT_CONFIG names",
            ConfigError::File { .. } => "the keys are those of `synckit serve --help`, with _ in place of -",
            _ => "`synckit serve --help` lists the allowed values",
        },
    )
}

fn of_data_dir(error: &DataDirError) -> Known {
    match error {
        DataDirError::InUse { .. } => Known::new(
            "data_dir_in_use",
            "administration (`synckit app`, `synckit account`) works beside a running server",
        ),
        DataDirError::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => Known::new(
            "permission_denied",
            "run it as the user who owns the data directory, or choose another one with --data-dir",
        ),
        DataDirError::DatabaseMissing { .. } => Known::new(
            "database_missing",
            "docs/operations.md explains how to restore a backup",
        ),
        _ => Known::new(
            "data_dir",
            "choose a directory that this user can write with --data-dir",
        ),
    }
}

fn of_backup(error: &BackupError) -> Option<Known> {
    match error {
        BackupError::NoData { .. } => Some(Known::new(
            "no_data",
            "name the server's data directory with --data-dir",
        )),
        BackupError::TargetIsDataDir { .. } => Some(Known::new(
            "data_dir",
            "name a directory that is new, or that holds an earlier backup",
        )),
        BackupError::TargetInUse { .. } => Some(Known::new("data_dir_in_use", "wait until the other backup has ended")),
        BackupError::KeysInTarget { .. } => Some(Known::new(
            "invalid_value",
            "name a different directory with --keys, so that one theft does not expose both",
        )),
        BackupError::Io { source, .. } => Some(of_io(source)),
        BackupError::Store(error) => of_store(error),
        BackupError::Keys(error) => Some(of_keys(error)),
        BackupError::OtherKeys => Some(Known::new(
            "other_oprf_seed",
            "`synckit doctor` checks the keys; docs/operations.md explains how to restore them",
        )),
        _ => None,
    }
}

fn of_transfer(error: &TransferError) -> Option<Known> {
    match error {
        TransferError::NoSource => Some(Known::new(
            "no_data",
            "name the database of the server with --from, and its directory with --data-dir",
        )),
        TransferError::NotEmpty => Some(Known::new(
            "not_empty",
            "name an empty database with --to; the embedded one is synckit.db in the data directory",
        )),
        TransferError::OtherSource => Some(Known::new(
            "other_source",
            "name the source of the interrupted transfer with --from, or an empty database with --to",
        )),
        TransferError::InUse(_) => Some(Known::new(
            "database_in_use",
            "stop every server and command that uses it, then run this again",
        )),
        TransferError::Different { .. } => Some(Known::new(
            "source_changed",
            "stop every server, empty the target, then run this again",
        )),
        TransferError::Damaged { .. } => Some(Known::new(
            "database_damaged",
            "`synckit doctor --full` shows all damage of the source; restore a backup of it",
        )),
        TransferError::Io { source, .. } => Some(of_io(source)),
        TransferError::Store(error) => of_store(error),
        _ => None,
    }
}

fn of_keys(error: &KeyFileError) -> Known {
    match error {
        KeyFileError::Exposed { .. } => Known::new("key_file", "only the server's own user may read its keys"),
        KeyFileError::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
            Known::new("permission_denied", "run it as the user who owns the data directory")
        }
        _ => Known::code("key_file"),
    }
}

/// SQLite's own error code gives a better hint for the other errors.
fn of_store(error: &StoreError) -> Option<Known> {
    match error {
        StoreError::NewerSchema { .. } => Some(Known::new(
            "newer_schema",
            "use the newer synckit that made this database",
        )),
        StoreError::OtherSchema { .. } => Some(Known::new(
            "other_schema",
            "use the synckit program of the server that uses this database",
        )),
        StoreError::Damaged(_) => Some(Known::new(
            "database_damaged",
            "restore a backup that `synckit backup` made: see docs/operations.md",
        )),
        StoreError::Full(_) => Some(Known::new(
            "disk_full",
            "free some space on the disk, or raise database_max",
        )),
        StoreError::Unavailable { .. } => Some(Known::new(
            "database_unavailable",
            "check that PostgreSQL runs at that address, and that user, password and certificate are right",
        )),
        StoreError::Unfinished => Some(Known::new(
            "unfinished_transfer",
            "run the same `synckit migrate-store` again until it succeeds",
        )),
        StoreError::Pooler => Some(Known::new(
            "database_pooler",
            "let --database name PostgreSQL itself, or use `pool_mode = session`",
        )),
        StoreError::Encoding(_) => Some(Known::new(
            "database",
            "create another database: `createdb --encoding UTF8 --template template0 NAME`",
        )),
        StoreError::Busy => Some(Known::new(
            "database_busy",
            "another process has locked the database: try again",
        )),
        _ => None,
    }
}

fn of_sqlite(error: &rusqlite::Error) -> Option<Known> {
    Some(match error.sqlite_error_code()? {
        ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied => Known::new(
            "permission_denied",
            "check that this user may read and write the database; run it as the user who owns the data directory",
        ),
        ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt => Known::new(
            "database_damaged",
            "`synckit doctor` shows the damage; docs/operations.md explains how to restore a backup",
        ),
        _ => Known::code("database"),
    })
}

fn of_io(error: &io::Error) -> Known {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Known::new("disk_full", "free some space on the disk, or use another one")
        }
        io::ErrorKind::PermissionDenied => Known::new(
            "permission_denied",
            "run it as a user with access, or choose another place",
        ),
        io::ErrorKind::NotFound => Known::code("file_not_found"),
        io::ErrorKind::AddrInUse => Known::code("address_in_use"),
        _ => Known::code("io"),
    }
}

fn of_credentials(error: &CredentialError) -> Known {
    match error {
        CredentialError::NoKeychain(_) | CredentialError::Locked(_) => {
            Known::new("credentials", "unlock or start the keychain of this session")
        }
        _ => Known::code("credentials"),
    }
}

fn of_sdk(error: &synckit_client::Error) -> Known {
    use synckit_client::Error;
    match error {
        Error::InvalidServerUrl { .. } => Known::new(
            "invalid_server_url",
            "give the server's address as --server https://sync.example.com",
        ),
        Error::InvalidArgument { .. } => Known::code("invalid_value"),
        Error::Network(TransportError::Tls(_)) => Known::new("network", NO_CERTIFICATES),
        Error::Network(_) => Known::new(
            "network",
            "check the address, and that the server runs and is reachable from here; `synckit doctor --server URL` finds the cause",
        ),
        Error::RetryLater { code, .. } => {
            Known::new(code.clone(), "wait for the time that the server named, then try again")
        }
        Error::Protocol { .. } => Known::new(
            "protocol",
            "check that the address is a SyncKit server's, with its path if it has one; `synckit doctor --server URL` finds the cause",
        ),
        Error::InvalidCredentials => Known::new(
            "invalid_credentials",
            "check the address and the password; after ten wrong ones the server refuses sign-ins for some minutes",
        ),
        Error::AddressNotConfirmed => Known::new(
            "address_not_confirmed",
            "`synckit login --confirm CODE` confirms the address with the code from the mail",
        ),
        Error::NoStoredKey => Known::code("no_login"),
        Error::DeviceSignInDenied => Known::code("access_denied"),
        Error::DeviceSignInExpired => Known::new("expired_token", "run the command again, for a new code"),
        Error::BrowserSignIn { code, .. } => Known::new(code.clone(), "run the command again, for a new code"),
        Error::AccountGone => Known::code("account_gone"),
        Error::SessionEnded => Known::new("session_ended", "run the command again"),
        Error::FreshLoginRequired => Known::new("fresh_login_required", "run the command again"),
        Error::ApiKeyUnusable(ApiKeyError::Kind(_)) => Known::new(
            "key_kind",
            "give a publishable key: `synckit app list` shows it; replace a secret key that was in an app",
        ),
        Error::ApiKeyUnusable(_) => Known::new("key_malformed", "copy the whole key: `synckit app list` shows it"),
        Error::ApiKeyInvalid => Known::new(
            "api_key_invalid",
            "show the apps with `synckit app list`, make a new key with `synckit app rotate-key`",
        ),
        Error::NoServerKey => Known::new(
            "no_envelope",
            "no device of this account has set up encryption in this app yet: check that the API key is the app's",
        ),
        Error::KeyRotated { .. } => Known::new("key_rotated", "another device changed the key: run the command again"),
        Error::PasswordWasReset { .. } => Known::new(
            "password_was_reset",
            "use the recovery code, or open the app on a device that still holds the key",
        ),
        Error::WrongRecoveryCode => Known::new("wrong_recovery_code", "check the 24 words and their order"),
        Error::DeviceRevoked => Known::new("device_revoked", "run the command again: it registers a new device"),
        Error::Io(error) => of_io(error),
        Error::Credentials(error) => of_credentials(error),
        Error::Tampering(Tampering::ServerKeyChanged) => Known::new(
            "server_key_changed",
            "ask the operator whether the server's keys were lost and replaced; if not, do not sign in there",
        ),
        Error::Tampering(Tampering::OtherApp { .. }) => {
            Known::new("other_app", "do not sign in there, and tell the operator of the server")
        }
        error if error.is_tampering() => Known::new(
            "tampering",
            "the server's data differs from its earlier data: ask its operator whether a backup was restored, and keep this message",
        ),
        Error::QuotaExceeded { quota } => Known::new(
            "quota_exceeded",
            match quota {
                Quota::PendingUploads => {
                    "wait: the server deletes unfinished uploads after 2 hours, and those of files above 64 MiB after 7 days"
                }
                Quota::AppStorage | Quota::AppTransfer => {
                    "delete something, or ask the developer of the app for a larger plan"
                }
                Quota::UserStorage => "delete something: the developer of the app decides how much each user may store",
                _ => "delete something, or ask the operator of the server for more room",
            },
        ),
        Error::Problem(problem) => Known {
            code: problem.code.clone(),
            hint: problem.known_code().and_then(hint_for_problem),
        },
        _ => Known::code("failed"),
    }
}

fn hint_for_problem(code: ProblemCode) -> Option<&'static str> {
    Some(match code {
        ProblemCode::RegistrationClosed => "ask the operator for an account, or use another server",
        ProblemCode::MailCodeInvalid => {
            "take the code from the newest mail, and the password of that registration; or register again"
        }
        ProblemCode::InviteInvalid => "get a code with `synckit account invite` and pass it as --invite CODE",
        ProblemCode::DeviceNotFound => "`synckit device list` shows the devices of this account",
        ProblemCode::DeviceMismatch => "run the command again: it signs in and registers anew",
        ProblemCode::DeviceLimit => "revoke an unused device with `synckit device revoke`",
        ProblemCode::UnsupportedSuite => "use the same version of synckit as the server",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use synckit_client::Error;
    use synckit_protocol::limits;

    use super::*;

    #[test]
    fn a_full_quota_of_uploads_says_when_it_frees() {
        let hint_of = |quota| Failure::from(Error::QuotaExceeded { quota }).hint;
        let hours = (limits::PRESIGNED_URL_SECONDS + limits::UPLOAD_SWEEP_SECONDS) / 3600;
        let mebibytes = limits::UPLOAD_WHOLE_BYTES_MAX >> 20;
        let days = limits::UPLOAD_IN_PARTS_SECONDS / 86_400;
        assert_eq!(
            hint_of(Quota::PendingUploads),
            Some(format!(
                "wait: the server deletes unfinished uploads after {hours} hours, and those of files above {mebibytes} MiB \
                 after {days} days"
            ))
        );
        assert_eq!(
            hint_of(Quota::Bytes).as_deref(),
            Some("delete something, or ask the operator of the server for more room")
        );
    }
}
