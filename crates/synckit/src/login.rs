//! `synckit login` and `synckit logout`: store server, API key and address of a user for later commands.
//!
//! The password and the session are deliberately not stored. Every command asks for the password and signs out at its
//! end, so the file gives nobody access.

use std::{
    env, fs,
    io::{self, IsTerminal as _},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context as _, anyhow};
use console::Term;
use serde::{Deserialize, Serialize};

use crate::{
    cli::SignInArgs,
    failure::{Failure, WithHint as _},
    runtime, screen,
    shown::shown,
    user::signed_in_with,
};

/// The stored values.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    server: String,
    api_key: String,
    email: String,
}

/// The sign-in of a command: flags and environment, and stored values for the rest.
#[derive(Debug, Clone)]
pub(crate) struct Login {
    pub(crate) server: String,
    pub(crate) api_key: String,
    pub(crate) email: String,
}

impl Login {
    pub(crate) fn resolve(args: &SignInArgs) -> Result<Self, Failure> {
        // A file that is not needed must not cause an error.
        let is_whole = args.server.is_some() && args.api_key.is_some() && args.email.is_some();
        let kept = if is_whole { None } else { read()? };
        let kept = kept.as_ref();
        Ok(Self {
            server: given(&args.server, kept.map(|kept| &kept.server), "--server")?,
            api_key: given(&args.api_key, kept.map(|kept| &kept.api_key), "--api-key")?,
            email: given(&args.email, kept.map(|kept| &kept.email), "--email")?,
        })
    }
}

fn given(argument: &Option<String>, kept: Option<&String>, flag: &str) -> Result<String, Failure> {
    argument.as_ref().or(kept).cloned().ok_or_else(|| {
        Failure::new(
            anyhow!("{flag} is missing"),
            format!("`synckit login` stores server, API key and address for all commands; or give {flag}"),
        )
        .with_code("no_login")
    })
}

/// Signs in once, and stores the values without the password.
pub(crate) fn run(mut args: SignInArgs, mailed_code: Option<&str>) -> Result<ExitCode, Failure> {
    let file = file()?;
    for (argument, question) in [
        (&mut args.server, "Server: "),
        (&mut args.api_key, "API key of the app: "),
        (&mut args.email, "E-mail address: "),
    ] {
        if argument.is_none() {
            *argument = ask(question)?;
        }
    }
    let login = Login::resolve(&args)?;
    runtime()?.block_on(signed_in_with(&args, mailed_code, async |_| Ok(())))?;
    let kept = Kept {
        server: login.server,
        api_key: login.api_key,
        email: login.email,
    };
    write(&file, &kept).with_context(|| format!("cannot write {}", file.display()))?;
    if screen::is_for_programs() {
        screen::json(&serde_json::json!({
            "server": kept.server, "email": kept.email, "file": file.to_string_lossy(),
        }))?;
    } else {
        screen::line(format_args!("{} can sign in at {}", kept.email, kept.server));
        screen::line(format_args!(
            "Server, API key and address are stored in {}; the password is not.",
            file.display()
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// Removes the file.
pub(crate) fn forget() -> Result<ExitCode, Failure> {
    let file = file()?;
    let was_there = match fs::remove_file(&file) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => {
            return Err(anyhow::Error::from(error)
                .context(format!("cannot remove {}", file.display()))
                .into());
        }
    };
    if screen::is_for_programs() {
        screen::json(&serde_json::json!({ "forgotten": was_there }))?;
    } else if was_there {
        screen::line(format_args!("{} is removed", file.display()));
    } else {
        screen::line("nothing was stored");
    }
    Ok(ExitCode::SUCCESS)
}

/// A line from the terminal, if this process has one.
fn ask(question: &str) -> Result<Option<String>, Failure> {
    let terminal = Term::stderr();
    if !io::stdin().is_terminal() || !terminal.is_term() {
        return Ok(None);
    }
    terminal.write_str(&shown(question))?;
    let line = terminal.read_line()?;
    Ok(Some(line.trim().to_owned()).filter(|line| !line.is_empty()))
}

fn read() -> Result<Option<Kept>, Failure> {
    // Without a home directory, nothing can be stored.
    let Some(file) = place() else { return Ok(None) };
    match fs::read(&file) {
        Ok(bytes) => Ok(Some(
            serde_json::from_slice(&bytes)
                .with_context(|| format!("{} cannot be read", file.display()))
                .hint("`synckit logout` removes it, `synckit login` writes a new one")?,
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(anyhow::Error::from(error)
            .context(format!("{} cannot be read", file.display()))
            .into()),
    }
}

/// Writes a temporary file beside it first, so that the file is complete at every moment; temporary files are private.
fn write(file: &std::path::Path, kept: &Kept) -> anyhow::Result<()> {
    let directory = file.parent().context("the file has no directory")?;
    fs::create_dir_all(directory)?;
    let temporary = tempfile::NamedTempFile::new_in(directory)?;
    serde_json::to_writer_pretty(&temporary, kept)?;
    temporary.as_file().sync_all()?;
    temporary.persist(file)?;
    Ok(())
}

fn file() -> Result<PathBuf, Failure> {
    place().ok_or_else(|| {
        Failure::new(
            anyhow!("this user has no directory for settings"),
            "set HOME or XDG_CONFIG_HOME; or give --server, --api-key and --email to each command",
        )
        .with_code("no_home")
    })
}

/// According to the XDG base directory specification; on Windows, the application data of the user.
fn place() -> Option<PathBuf> {
    let variable = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = variable("XDG_CONFIG_HOME").or_else(|| {
        variable(if cfg!(windows) { "APPDATA" } else { "HOME" })
            .map(|home| if cfg!(windows) { home } else { home.join(".config") })
    })?;
    Some(base.join("synckit").join("login.json"))
}
