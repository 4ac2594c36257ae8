//! A user at the command line: signed in through the SDK, like an app, either with a password, with nothing stored on this
//! machine, or by the session that `synckit login` stored.
//!
//! Invariants: the password comes from the terminal, from standard input or from the environment, never from an argument; a session
//! that a password opened ends with the command.

use std::{
    cell::OnceCell,
    io::{self, BufRead as _, IsTerminal as _},
};

use anyhow::{Context as _, anyhow};
use console::Term;
use synckit_client::{FileStore, MemoryStore, RecoveryCode, SyncKitClient, SyncKitConfig};
use synckit_protocol::{SecretText, check_name, limits::DEVICE_NAME_BYTES_MAX};

use crate::{
    cli::SignInArgs,
    failure::{Failure, WithHint as _},
    login::{Identity, Login},
    screen,
    shown::shown,
};

/// A signed-in user.
#[derive(Debug)]
pub(crate) struct User<'a> {
    pub(crate) client: SyncKitClient,
    /// Whether this machine is a device of the user, and has the keys.
    pub(crate) is_device: bool,
    args: &'a SignInArgs,
    password: OnceCell<SecretText>,
}

impl User<'_> {
    /// The password, asked for at the first call.
    pub(crate) fn password(&self) -> Result<&str, Failure> {
        if let Some(password) = self.password.get() {
            return Ok(password.expose());
        }
        let password = password(self.args, "Password of the account: ")?;
        Ok(self.password.get_or_init(|| password).expose())
    }

    /// Opens the keys, unless this machine has them.
    pub(crate) async fn open_keys(&self) -> Result<(), Failure> {
        if !self.is_device {
            self.client.setup_encryption_existing(self.password()?).await?;
        }
        Ok(())
    }
}

/// Signs in, runs `work`, and signs out again what a password opened.
pub(crate) async fn signed_in<T>(
    args: &SignInArgs,
    work: impl AsyncFnOnce(&User<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    signed_in_with(args, None, work).await
}

/// As [`signed_in`], with the code that was mailed to the address of a new account.
pub(crate) async fn signed_in_with<T>(
    args: &SignInArgs,
    mailed_code: Option<&str>,
    work: impl AsyncFnOnce(&User<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let login = Login::resolve(args)?;
    let builder = SyncKitClient::builder(SyncKitConfig {
        server_url: login.server,
        api_key: login.api_key,
    });
    match login.identity {
        Identity::Device(session) => {
            let client = builder.credential_store(FileStore::new(session)).build();
            client.try_load_key_from_keychain().hint(SIGN_IN_AGAIN)?;
            let user = User {
                client,
                is_device: true,
                args,
                password: OnceCell::new(),
            };
            work(&user).await.map_err(|failure| match failure.code() {
                "session_ended" | "device_revoked" | "account_gone" => failure.with_hint(SIGN_IN_AGAIN),
                _ => failure,
            })
        }
        Identity::Email(email) => {
            let user = User {
                client: builder.credential_store(MemoryStore::default()).build(),
                is_device: false,
                args,
                password: OnceCell::from(password(args, &format!("Password of {email}: "))?),
            };
            match mailed_code {
                Some(code) => user.client.confirm_account(&email, user.password()?, code).await?,
                None => user.client.authenticate(&email, user.password()?).await?,
            };
            let done = work(&user).await;
            if let Err(error) = user.client.sign_out().await
                && done.is_ok()
            {
                screen::note(format_args!(
                    "note: the session could not be ended; it expires after 90 days: {error}"
                ));
            }
            done
        }
    }
}

/// The hint for a machine whose session is no more.
const SIGN_IN_AGAIN: &str = "`synckit logout` forgets the session of this machine, `synckit login` signs it in again";

/// Whether there is a way to ask for the password.
pub(crate) fn can_ask_password(args: &SignInArgs) -> bool {
    args.password_stdin || is_set("SYNCKIT_PASSWORD") || is_terminal()
}

/// Whether the password is typed, and can be typed again.
pub(crate) fn asks_at_terminal(args: &SignInArgs) -> bool {
    !args.password_stdin && !is_set("SYNCKIT_PASSWORD")
}

/// The password, by the way that the user chose.
pub(crate) fn password(args: &SignInArgs, question: &str) -> Result<SecretText, Failure> {
    if args.password_stdin {
        let mut line = String::new();
        io::stdin()
            .lock()
            .read_line(&mut line)
            .context("the password cannot be read from standard input")?;
        line.truncate(line.trim_end_matches(['\r', '\n']).len());
        let password = SecretText::new(line);
        if password.expose().is_empty() {
            return Err(Failure::new(
                anyhow!("standard input contains no password"),
                "with --password-stdin the first line of standard input is the password",
            )
            .with_code("no_password"));
        }
        return Ok(password);
    }
    secret("SYNCKIT_PASSWORD", question)?.ok_or_else(no_password)
}

/// The failure of a command that needs the password and cannot ask for it.
pub(crate) fn no_password() -> Failure {
    Failure::new(
        anyhow!("the command needs the password, and has no terminal to ask for it"),
        "use --password-stdin, or set SYNCKIT_PASSWORD",
    )
    .with_code("no_password")
}

/// The recovery code, from SYNCKIT_RECOVERY_CODE or the terminal.
pub(crate) fn recovery_code() -> Result<RecoveryCode, Failure> {
    let text = secret("SYNCKIT_RECOVERY_CODE", "Recovery code (24 words): ")?.ok_or_else(|| {
        Failure::new(
            anyhow!("the command needs the recovery code, and has no terminal to ask for it"),
            "set SYNCKIT_RECOVERY_CODE",
        )
        .with_code("no_recovery_code")
    })?;
    RecoveryCode::parse(text.expose())
        .hint("check the 24 words and their order")
        .map_err(|failure| failure.with_code("wrong_recovery_code"))
}

/// The code that was mailed to an address, from SYNCKIT_MAILED_CODE or the terminal.
pub(crate) fn mailed_code(email: &str) -> Result<SecretText, Failure> {
    let question = format!("Code from the mail to {email}: ");
    secret("SYNCKIT_MAILED_CODE", &question)?.ok_or_else(|| {
        Failure::new(
            anyhow!("the server mails a code to {email}, and the command has no terminal to ask for it"),
            "run it in a terminal, with an --email that you can read; or use a server that sends no mail",
        )
        .with_code("no_mailed_code")
    })
}

/// A secret from the environment or the terminal.
fn secret(variable: &str, question: &str) -> Result<Option<SecretText>, Failure> {
    if let Some(value) = std::env::var_os(variable).filter(|value| !value.is_empty()) {
        let text = value.into_string().map_err(|_| anyhow!("{variable} is not UTF-8"))?;
        return Ok(Some(SecretText::new(text)));
    }
    if !is_terminal() {
        return Ok(None);
    }
    let terminal = Term::stderr();
    terminal.write_str(&shown(question))?;
    let text = SecretText::new(terminal.read_secure_line()?);
    Ok((!text.expose().is_empty()).then_some(text))
}

fn is_set(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|value| !value.is_empty())
}

/// Whether somebody can be asked.
pub(crate) fn is_terminal() -> bool {
    io::stdin().is_terminal() && Term::stderr().is_term()
}

/// The platform of this machine, in SyncKit's terms.
pub(crate) fn platform() -> &'static str {
    match std::env::consts::OS {
        os @ ("macos" | "windows") => os,
        // Every other supported system is similar to Linux.
        _ => "linux",
    }
}

/// What this machine calls itself, for the list of devices.
pub(crate) fn machine_name() -> String {
    let from_system = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let from_variable = || {
        ["HOSTNAME", "COMPUTERNAME"]
            .iter()
            .find_map(|name| std::env::var(name).ok())
    };
    let name = from_system.or_else(from_variable).unwrap_or_default();
    let name = name.trim();
    match check_name(name, DEVICE_NAME_BYTES_MAX) {
        Ok(()) => name.to_owned(),
        Err(_) => "terminal".to_owned(),
    }
}
