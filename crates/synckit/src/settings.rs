//! The settings of a server as flags and environment variables, made from the server's table of settings.

use std::{fmt, path::PathBuf, sync::LazyLock};

use clap::{Arg, ArgMatches, Args, Command, Error, FromArgMatches, error::ErrorKind, parser::ValueSource};
use synckit_server::config::{Setting, SettingKind, Settings};
use synckit_store::PostgresUrl;

use crate::failure::Failure;

/// The only setting that may be other than UTF-8.
const DATA_DIR: &str = "data_dir";
const DATABASE: &str = "database";
const PASSWORD_IN_FLAG: &str = "--database takes no password, because every user of this machine can see it there: put the \
     password into SYNCKIT_DATABASE_PASSWORD or a file for --database-password-file";
const LIMITS: &str = "Limits (times as 30s, 15min, 12h, 7d; sizes as 64MiB)";

/// The settings from flags and environment variables.
#[derive(Debug, Clone, Default)]
pub(crate) struct SettingArgs(Settings);

impl SettingArgs {
    /// The settings from flags, from their variables, and from the variables without a flag, which contain secrets.
    pub(crate) fn with_secrets(&self) -> Result<Settings, Failure> {
        Ok(self.0.clone().over(secrets()?))
    }
}

/// The settings from the variables without a flag.
pub(crate) fn secrets() -> Result<Settings, Failure> {
    let mut settings = Settings::default();
    for Named { setting, variable, .. } in NAMED.iter().filter(|named| is_secret(named.setting)) {
        if let Some(value) = std::env::var(variable).ok().filter(|value| !value.is_empty()) {
            settings = settings.with(setting.key, &value)?;
        }
    }
    Ok(settings)
}

/// The environment variables of settings without a flag.
pub(crate) fn secret_variables() -> impl Iterator<Item = &'static str> {
    NAMED
        .iter()
        .filter(|named| is_secret(named.setting))
        .map(|named| named.variable.as_str())
}

/// A setting with its names, which clap borrows for the lifetime of the program.
struct Named {
    setting: &'static Setting,
    flag: String,
    variable: String,
}

static NAMED: LazyLock<Vec<Named>> = LazyLock::new(|| {
    Setting::all()
        .map(|setting| Named {
            setting,
            flag: setting.flag(),
            variable: setting.variable(),
        })
        .collect()
});

/// An error about a value. clap ends its own messages with a line break, and this kind not.
fn refused(message: impl fmt::Display) -> Error {
    Error::raw(ErrorKind::ValueValidation, format!("{message}\n"))
}

fn has_password_in_flag(matches: &ArgMatches) -> bool {
    matches.value_source(DATABASE) == Some(ValueSource::CommandLine)
        && matches
            .get_one::<String>(DATABASE)
            .is_some_and(|text| has_password(text))
}

/// Refuses the URL of a database in a flag that holds a password.
pub(crate) fn refuse_password_in_flag(url: &str) -> Result<(), Failure> {
    if has_password(url) {
        return Err(anyhow::anyhow!(PASSWORD_IN_FLAG).into());
    }
    Ok(())
}

/// Whether the URL of a database holds a password.
fn has_password(url: &str) -> bool {
    url.parse::<PostgresUrl>().is_ok_and(|url| url.has_password())
}

fn is_secret(setting: &Setting) -> bool {
    setting.kind == SettingKind::Secret
}

fn argument(named: &'static Named) -> Arg {
    let setting = named.setting;
    let default = match setting.kind {
        // A switch is off by default.
        SettingKind::Switch => String::new(),
        _ => format!(" [default: {}]", setting.default),
    };
    let check = |value: &str| setting.check(value).map(|()| value.to_owned());
    let argument = Arg::new(setting.key)
        .long(named.flag.as_str())
        .env(named.variable.as_str())
        .value_name(setting.value_name)
        .help(format!("{}{default}", setting.help))
        .value_parser(check);
    if setting.key == DATA_DIR {
        return argument.value_parser(clap::value_parser!(PathBuf));
    }
    match setting.kind {
        SettingKind::Switch => argument
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true"),
        // clap would show a value that is refused, and one from the environment in the help.
        SettingKind::Guarded => argument
            .hide_env_values(true)
            .value_parser(clap::builder::NonEmptyStringValueParser::new()),
        SettingKind::Limit => argument.hide_short_help(true).help_heading(LIMITS),
        _ => argument,
    }
}

impl Args for SettingArgs {
    fn augment_args(command: Command) -> Command {
        let flags = NAMED.iter().filter(|named| !is_secret(named.setting));
        command.args(flags.map(argument))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SettingArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut args = Self::default();
        args.update_from_arg_matches(matches)?;
        Ok(args)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        for Named { setting, .. } in NAMED.iter().filter(|named| !is_secret(named.setting)) {
            let settings = std::mem::take(&mut self.0);
            self.0 = if setting.key == DATA_DIR {
                match matches.get_one::<PathBuf>(DATA_DIR) {
                    Some(data_dir) => settings.with_data_dir(data_dir),
                    None => settings,
                }
            } else {
                if setting.key == DATABASE && has_password_in_flag(matches) {
                    return Err(refused(PASSWORD_IN_FLAG));
                }
                match matches.get_one::<String>(setting.key) {
                    Some(value) => settings.with(setting.key, value).map_err(refused)?,
                    None => settings,
                }
            };
        }
        Ok(())
    }
}
