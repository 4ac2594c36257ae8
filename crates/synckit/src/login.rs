//! `synckit login` and `synckit logout`: what later commands sign in with.
//!
//! Without an address, `login` makes this machine a device of an account, which somebody allows in a browser elsewhere. Session and keys are
//! then in a file of the SDK beside the stored values, and open the data. With an address, only server, API key and address are stored:
//! every command asks for the password and signs out at its end, so the file gives nobody access.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, anyhow};
use console::Term;
use serde::{Deserialize, Serialize};
use synckit_client::{DeviceCode, Error, FileStore, SyncKitClient, SyncKitConfig};

use crate::{
    cli::SignInArgs,
    failure::{Failure, WithHint as _},
    runtime, screen,
    shown::shown,
    units,
    user::{self, signed_in_with},
};

/// The file with the session and the keys of this machine, beside that of the stored values.
const SESSION: &str = "session.json";
/// How often a wrong password is asked for again.
const PASSWORDS_MAX: u32 = 3;

/// The stored values.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    server: String,
    api_key: String,
    /// Of an account whose password is asked for. Without it, the session of this machine is stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<String>,
}

/// The sign-in of a command: flags and environment, and stored values for the rest.
#[derive(Debug, Clone)]
pub(crate) struct Login {
    pub(crate) server: String,
    pub(crate) api_key: String,
    pub(crate) identity: Identity,
}

/// Who signs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Identity {
    /// The account of this address, by its password.
    Email(String),
    /// This machine, by the session in this file.
    Device(PathBuf),
}

impl Login {
    pub(crate) fn resolve(args: &SignInArgs) -> Result<Self, Failure> {
        // A file that is not needed must not cause an error.
        let is_whole = args.server.is_some() && args.api_key.is_some() && args.email.is_some();
        let kept = if is_whole { None } else { read()? };
        let kept = kept.as_ref();
        let server = given(&args.server, kept.map(|kept| &kept.server), "--server")?;
        let api_key = given(&args.api_key, kept.map(|kept| &kept.api_key), "--api-key")?;
        let email = args.email.as_ref().or(kept.and_then(|kept| kept.email.as_ref()));
        // The secrets of the session go to the server and the app that they are of, and to no other.
        let is_kept = kept.is_some_and(|kept| kept.server == server && kept.api_key == api_key);
        let identity = match email {
            Some(email) => Identity::Email(email.clone()),
            None if is_kept => Identity::Device(file()?.with_file_name(SESSION)),
            None => Identity::Email(given(&None, None, "--email")?),
        };
        Ok(Self {
            server,
            api_key,
            identity,
        })
    }
}

fn given(argument: &Option<String>, kept: Option<&String>, flag: &str) -> Result<String, Failure> {
    argument.as_ref().or(kept).cloned().ok_or_else(|| {
        Failure::new(
            anyhow!("{flag} is missing"),
            format!("`synckit login` stores who signs in, for all commands; or give {flag}"),
        )
        .with_code("no_login")
    })
}

/// Signs in once, and stores what later commands need.
pub(crate) fn run(mut args: SignInArgs, mailed_code: Option<&str>) -> Result<ExitCode, Failure> {
    let file = file()?;
    let session = file.with_file_name(SESSION);
    if session.exists() {
        return Err(Failure::new(
            anyhow!("this machine is signed in already, by {}", session.display()),
            "`synckit logout` signs it out",
        )
        .with_code("already_signed_in"));
    }
    for (argument, question) in [
        (&mut args.server, "Server: "),
        (&mut args.api_key, "API key of the app: "),
    ] {
        if argument.is_none() {
            *argument = ask(question)?;
        }
    }
    if mailed_code.is_some() && args.email.is_none() {
        args.email = Some(match ask("E-mail address: ")? {
            Some(email) => email,
            None => given(&None, None, "--email")?,
        });
    }
    match args.email.clone() {
        Some(email) => with_password(&args, mailed_code, email, &file),
        None => runtime()?.block_on(as_device(&args, &file, &session)),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn with_password(args: &SignInArgs, mailed_code: Option<&str>, email: String, file: &Path) -> Result<(), Failure> {
    let login = Login::resolve(args)?;
    runtime()?.block_on(signed_in_with(args, mailed_code, async |_| Ok(())))?;
    write(
        file,
        &Kept {
            server: login.server.clone(),
            api_key: login.api_key,
            email: Some(email.clone()),
        },
    )?;
    if screen::is_for_programs() {
        return Ok(screen::json(&serde_json::json!({
            "server": login.server, "email": email, "file": file.to_string_lossy(),
        }))?);
    }
    screen::line(format_args!("{email} can sign in at {}", login.server));
    screen::line(format_args!(
        "Server, API key and address are stored in {}; the password is not.",
        file.display()
    ));
    Ok(())
}

/// Makes this machine a device of the account of whoever allows it.
async fn as_device(args: &SignInArgs, file: &Path, session: &Path) -> Result<(), Failure> {
    let kept = Kept {
        server: given(&args.server, None, "--server")?,
        api_key: given(&args.api_key, None, "--api-key")?,
        email: None,
    };
    // Before somebody goes to a browser in vain.
    if !user::can_ask_password(args) {
        return Err(user::no_password());
    }
    if let Some(directory) = session.parent() {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    let client = client(&kept, session);
    let name = user::machine_name();
    client.login_with_device_code(&name, tell).await?;
    let made = async {
        // First, so that a sign-in that is cut off here can be ended by `synckit logout`.
        write(file, &kept)?;
        open_keys(&client, args).await?;
        Ok::<_, Failure>(client.register_device(&name, user::platform()).await?)
    };
    let device = match made.await {
        Ok(device) => device,
        Err(failure) => {
            // Half a sign-in is none.
            if let Err(error) = client.sign_out().await {
                screen::note(format_args!(
                    "note: the session could not be ended; it expires after 90 days: {error}"
                ));
            }
            remove(session)?;
            remove(file)?;
            return Err(failure);
        }
    };
    if screen::is_for_programs() {
        return Ok(screen::json(&serde_json::json!({
            "server": kept.server, "device_id": device.id, "name": device.device_name, "file": session.to_string_lossy(),
        }))?);
    }
    screen::line(format_args!(
        "This machine is signed in at {} as the device {}.",
        kept.server, device.device_name
    ));
    screen::line(format_args!(
        "Session and keys are stored in {}: whoever can read it can read the data. `synckit logout` ends both.",
        session.display()
    ));
    Ok(())
}

/// Shows what the person needs, before the wait.
fn tell(code: &DeviceCode) {
    if screen::is_for_programs() {
        return screen::event(&serde_json::json!({
            "user_code": code.user_code, "verification_uri": code.verification_uri,
            "verification_uri_complete": code.verification_uri_complete, "expires_in": code.expires_in.as_secs(),
        }));
    }
    screen::line(format_args!(
        "Open this address in a browser, on any machine: {}",
        code.verification_uri
    ));
    screen::line(format_args!(
        "Type this code there:                            {}",
        code.user_code
    ));
    screen::line(format_args!(
        "It is valid for {}. Give it to nobody else.",
        units::counted(code.expires_in.as_secs().div_ceil(60), "minute")
    ));
}

/// Opens the keys by the password, which may be mistyped at a terminal.
async fn open_keys(client: &SyncKitClient, args: &SignInArgs) -> Result<(), Failure> {
    for attempt in 1.. {
        let password = user::password(args, "Allowed. Password of the account, which opens the data: ")?;
        match client.setup_encryption_existing(password.expose()).await {
            Err(Error::InvalidCredentials) if attempt < PASSWORDS_MAX && user::asks_at_terminal(args) => {
                screen::note(format_args!("That is not the password."));
            }
            opened => return Ok(opened?),
        }
    }
    Ok(())
}

fn client(kept: &Kept, session: &Path) -> SyncKitClient {
    SyncKitClient::builder(SyncKitConfig {
        server_url: kept.server.clone(),
        api_key: kept.api_key.clone(),
    })
    .credential_store(FileStore::new(session))
    .build()
}

/// Revokes this machine, if it is a device of an account, and removes the files.
pub(crate) fn forget() -> Result<ExitCode, Failure> {
    let file = file()?;
    let session = file.with_file_name(SESSION);
    let mut is_signed_out = false;
    if session.exists() {
        let revoked = match read() {
            Ok(Some(kept)) => runtime()?.block_on(revoke(&client(&kept, &session))),
            _ => Err(Failure::new(anyhow!("its server is not stored"), "")),
        };
        match revoked {
            Ok(()) => is_signed_out = true,
            // What is left here must go all the same.
            Err(failure) => screen::note(format_args!(
                "note: the device could not be revoked, do it on the page of the account: {}",
                failure.message()
            )),
        }
    }
    let was_there = [remove(&session)?, remove(&file)?].contains(&true);
    if screen::is_for_programs() {
        screen::json(&serde_json::json!({ "forgotten": was_there, "signed_out": is_signed_out }))?;
    } else if was_there {
        if is_signed_out {
            screen::line("This machine is signed out, and no device of the account any more.");
        }
        screen::line(format_args!("{} is removed", file.display()));
    } else {
        screen::line("nothing was stored");
    }
    Ok(ExitCode::SUCCESS)
}

async fn revoke(client: &SyncKitClient) -> Result<(), Failure> {
    match client.try_load_key_from_keychain() {
        Ok(()) => {}
        // A sign-in that was cut off has stored no key.
        Err(Error::NoStoredKey) => {
            for account in client.stored_accounts()? {
                client.forget_account(account.user_id).await?;
            }
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    }
    let revoked = async {
        let device = client.register_device(&user::machine_name(), user::platform()).await?;
        client.revoke_device(device.id).await
    };
    match revoked.await {
        // Somebody was faster.
        Ok(()) | Err(Error::SessionEnded | Error::AccountGone | Error::DeviceRevoked) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Whether there was a file to remove.
fn remove(file: &Path) -> Result<bool, Failure> {
    match fs::remove_file(file) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(anyhow::Error::from(error)
            .context(format!("cannot remove {}", file.display()))
            .into()),
    }
}

/// A line from the terminal, if this process has one.
fn ask(question: &str) -> Result<Option<String>, Failure> {
    if !user::is_terminal() {
        return Ok(None);
    }
    let terminal = Term::stderr();
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
fn write(file: &Path, kept: &Kept) -> Result<(), Failure> {
    let written = || write_whole(file, kept);
    Ok(written().with_context(|| format!("cannot write {}", file.display()))?)
}

fn write_whole(file: &Path, kept: &Kept) -> anyhow::Result<()> {
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
