//! A user at the command line: signed in through the SDK, like an app, with nothing stored on this machine.
//!
//! Invariant: the password comes from the terminal, from standard input or from the environment, never from an argument,
//! and the session ends with the command.

use std::io::{self, BufRead as _, IsTerminal as _};

use anyhow::{Context as _, anyhow};
use console::Term;
use synckit_client::{MemoryStore, RecoveryCode, SyncKitClient, SyncKitConfig};
use synckit_protocol::SecretText;

use crate::{
    cli::SignInArgs,
    failure::{Failure, WithHint as _},
    login::Login,
    screen,
    shown::shown,
};

/// A signed-in user.
#[derive(Debug)]
pub(crate) struct User {
    pub(crate) client: SyncKitClient,
    pub(crate) password: SecretText,
}

/// Signs in, runs `work`, and always signs out again.
pub(crate) async fn signed_in<T>(
    args: &SignInArgs,
    work: impl AsyncFnOnce(&User) -> Result<T, Failure>,
) -> Result<T, Failure> {
    signed_in_with(args, None, work).await
}

/// As [`signed_in`], with the code that was mailed to the address of a new account.
pub(crate) async fn signed_in_with<T>(
    args: &SignInArgs,
    mailed_code: Option<&str>,
    work: impl AsyncFnOnce(&User) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let login = Login::resolve(args)?;
    let client = SyncKitClient::builder(SyncKitConfig {
        server_url: login.server,
        api_key: login.api_key,
    })
    .credential_store(MemoryStore::default())
    .build();
    let user = User {
        client,
        password: password(args, &login.email)?,
    };
    let password = user.password.expose();
    match mailed_code {
        Some(code) => user.client.confirm_account(&login.email, password, code).await?,
        None => user.client.authenticate(&login.email, password).await?,
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

fn password(args: &SignInArgs, email: &str) -> Result<SecretText, Failure> {
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
    let question = format!("Password of {email}: ");
    secret("SYNCKIT_PASSWORD", &question)?.ok_or_else(|| {
        Failure::new(
            anyhow!("the command needs the password, and has no terminal to ask for it"),
            "use --password-stdin, or set SYNCKIT_PASSWORD",
        )
        .with_code("no_password")
    })
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
    let terminal = Term::stderr();
    if !io::stdin().is_terminal() || !terminal.is_term() {
        return Ok(None);
    }
    terminal.write_str(&shown(question))?;
    let text = SecretText::new(terminal.read_secure_line()?);
    Ok((!text.expose().is_empty()).then_some(text))
}

/// The platform of this machine, in SyncKit's terms.
pub(crate) fn platform() -> &'static str {
    match std::env::consts::OS {
        os @ ("macos" | "windows") => os,
        // Every other supported system is similar to Linux.
        _ => "linux",
    }
}
