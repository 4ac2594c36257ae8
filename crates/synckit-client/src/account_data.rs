//! The account as a whole: what the server keeps of it, its sessions, an export of everything, and its end.
//!
//! These calls reach beyond the app: they need a password sign-in of the last five minutes, because a token of one app
//! must not open the way to all the others.

use std::pin::pin;

use futures_util::StreamExt as _;
use http::Method;
use synckit_protocol::{
    SessionId,
    wire::{
        accounts::{AccountInfo, SessionInfo, SessionList},
        export::ExportLine,
    },
};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use crate::{
    client::SyncKitClient,
    connection::call::Call,
    error::{Error, Result},
};

/// The last line of an export is shorter than this; of longer ones nothing needs to be remembered.
const LAST_LINE_BYTES_MAX: usize = 256;

/// An export that arrived whole.
///
/// # Examples
/// ```
/// # synckit_doctest::run(async |world| {
/// # let client = world.signed_in().await?;
/// let mut export = Vec::new();
/// let report = client.export_account(&mut export).await?;
/// assert_eq!(report.bytes, export.len() as u64);
/// assert_eq!(report.lines, export.split(|byte| *byte == b'\n').count() as u64 - 1);
/// # Ok(())
/// # });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExportReport {
    /// Lines, the first and the last included.
    pub lines: u64,
    /// Bytes that were written.
    pub bytes: u64,
}

impl SyncKitClient {
    /// Proves the password, so that the calls about the account work for the next five minutes: [`SyncKitClient::account`],
    /// [`SyncKitClient::sessions`], [`SyncKitClient::revoke_session`], [`SyncKitClient::export_account`]. Right after
    /// [`SyncKitClient::authenticate`] it is not needed.
    ///
    /// # Errors
    /// [`Error::InvalidCredentials`] if the password is not the account's, [`Error::RetryLater`] after too many guesses.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let client = world.signed_in().await?;
    /// # let typed = world.password;
    /// use synckit_client::Error;
    ///
    /// // Before the settings show what only the owner of the account may see.
    /// client.confirm_password(typed).await?;
    /// assert_eq!(client.account().await?.email, world.email);
    /// assert!(matches!(client.confirm_password("a guess").await, Err(Error::InvalidCredentials)));
    /// # Ok(())
    /// # });
    /// ```
    pub async fn confirm_password(&self, password: &str) -> Result<()> {
        self.stream()?.connection.unlock(password).await.map(drop)
    }

    /// The account of the user: address, when it was created, and what it keeps in each app on this server.
    ///
    /// # Errors
    /// [`Error::FreshLoginRequired`] without a password sign-in of the last five minutes.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let (client, device) = world.device("laptop").await?;
    /// let account = client.account().await?;
    /// for app in &account.apps {
    ///     println!("{}: {} bytes from {} devices", app.app_name, app.stored_bytes, app.devices);
    /// }
    /// # assert_eq!((account.apps[0].app_name.as_str(), account.apps[0].devices), ("Notes", 1));
    /// assert_eq!(account.email, world.email);
    /// # Ok(())
    /// # });
    /// ```
    pub async fn account(&self) -> Result<AccountInfo> {
        let token = self.stream()?.connection.account_token()?;
        self.app.api.call(Call::get("/api/account").bearer(&token)).await
    }

    /// The sessions of the account, in every app, newest first: where somebody is signed in.
    ///
    /// # Errors
    /// [`Error::FreshLoginRequired`] without a password sign-in of the last five minutes.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let client = world.signed_in().await?;
    /// # let elsewhere = world.signed_in().await?;
    /// let sessions = client.sessions().await?;
    /// for session in &sessions {
    ///     println!("{} on {:?}", session.app_name, session.device_name);
    /// }
    /// assert_eq!(sessions.iter().filter(|session| session.current).count(), 1); // this one
    /// # assert_eq!(sessions.len(), 2);
    /// # Ok(())
    /// # });
    /// ```
    pub async fn sessions(&self) -> Result<Vec<SessionInfo>> {
        let token = self.stream()?.connection.account_token()?;
        let list: SessionList = self
            .app
            .api
            .call(Call::get("/api/account/sessions").bearer(&token))
            .await?;
        Ok(list.sessions)
    }

    /// Ends one session of the account: its device must sign in again. The device keeps the data that it holds; so that it
    /// cannot read later data, revoke the device and rotate the keys.
    ///
    /// # Errors
    /// [`Error::FreshLoginRequired`] without a password sign-in of the last five minutes; [`Error::Problem`] with
    /// `session_not_found`, also if an earlier call ended it whose answer was lost.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let client = world.signed_in().await?;
    /// # let (phone, _) = world.device("phone").await?;
    /// // Everywhere but here.
    /// for session in client.sessions().await?.iter().filter(|session| !session.current) {
    ///     client.revoke_session(session.id).await?;
    /// }
    /// assert_eq!(client.sessions().await?.len(), 1);
    /// assert!(phone.devices().await.is_err()); // it must sign in again
    /// # Ok(())
    /// # });
    /// ```
    pub async fn revoke_session(&self, session_id: SessionId) -> Result<()> {
        let token = self.stream()?.connection.account_token()?;
        let call = Call::new(Method::DELETE, format!("/api/account/sessions/{session_id}")).bearer(&token);
        self.app.api.unit(call).await
    }

    /// Writes everything that the server keeps of the user, in every app, as JSON lines, and flushes. What is sealed
    /// stays sealed: the file shows the user what the server holds, and a program with the user's keys can open it. Files
    /// are named with URLs that work for an hour. The format is that of `docs/protocol.md`, section 3.11.
    ///
    /// Memory stays small however much there is. Nothing is repeated: after an error, begin again with an empty writer.
    ///
    /// # Errors
    /// [`Error::FreshLoginRequired`] without a password sign-in of the last five minutes; [`Error::Network`] and
    /// [`Error::Protocol`] if it did not arrive whole; [`Error::Io`] if it could not be written.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let client = world.signed_in().await?;
    /// # let (path, typed) = (world.path("my-data.jsonl"), world.password);
    /// client.confirm_password(typed).await?;
    /// let report = client.export_account(tokio::fs::File::create(&path).await?).await?;
    /// println!("{} lines, {} bytes", report.lines, report.bytes);
    /// assert_eq!(std::fs::metadata(path)?.len(), report.bytes);
    /// # Ok(())
    /// # });
    /// ```
    pub async fn export_account(&self, writer: impl AsyncWrite + Send) -> Result<ExportReport> {
        let token = self.stream()?.connection.account_token()?;
        let call = Call::get("/api/account/export").bearer(&token);
        let mut body = self.app.api.stream(&call).await?;
        let mut writer = pin!(writer);
        let mut seen = SeenLines::default();
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(Error::Network)?;
            seen.see(&chunk);
            writer.write_all(&chunk).await?;
        }
        writer.flush().await?;
        seen.report()
    }

    /// Deletes the account and everything that it keeps on the server, in every app, for good. Every session ends; on
    /// this device session and keys are forgotten, too, in memory and in the credential store. Other devices get
    /// [`Error::AccountGone`]; the data that apps have stored on devices stays there. The address can be registered again.
    ///
    /// The password is always asked for anew. If the answer was lost, call it again: an account that is gone is a
    /// success.
    ///
    /// # Errors
    /// [`Error::InvalidCredentials`] if the password is not the account's: nothing happened then. [`Error::Credentials`]
    /// if the account is deleted, and this device could not forget its keys.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let client = world.signed_in().await?;
    /// # let typed = world.password;
    /// client.delete_account(typed).await?;
    /// assert_eq!(client.user_id(), None);
    /// // It is gone for everybody, and the address is free.
    /// assert!(client.authenticate(world.email, typed).await.is_err());
    /// client.create_account(world.email, "another password").await?;
    /// # Ok(())
    /// # });
    /// ```
    pub async fn delete_account(&self, password: &str) -> Result<()> {
        let stream = self.stream()?;
        let deleted = async {
            let access = stream.connection.unlock(password).await?;
            let call = Call::new(Method::DELETE, "/api/account").bearer(&access.token);
            self.app.api.unit(call).await
        };
        match deleted.await {
            Ok(()) | Err(Error::AccountGone) => self.forget(stream.scope().user_id).await,
            Err(error) => Err(error),
        }
    }
}

/// What went by of an export: enough to tell whether it is whole.
#[derive(Debug, Default)]
struct SeenLines {
    /// The line that has not ended yet, as far as it can be the last one.
    open: Vec<u8>,
    open_is_long: bool,
    /// The line before it, if it was short.
    last: Vec<u8>,
    lines: u64,
    bytes: u64,
}

impl SeenLines {
    fn see(&mut self, chunk: &[u8]) {
        self.bytes += chunk.len() as u64;
        let mut pieces = chunk.split(|byte| *byte == b'\n').peekable();
        while let Some(piece) = pieces.next() {
            self.open_is_long |= self.open.len() + piece.len() > LAST_LINE_BYTES_MAX;
            if !self.open_is_long {
                self.open.extend_from_slice(piece);
            }
            // After the last piece there was no end of a line.
            if pieces.peek().is_some() {
                self.lines += 1;
                self.last = if self.open_is_long {
                    Vec::new()
                } else {
                    self.open.clone()
                };
                self.open.clear();
                self.open_is_long = false;
            }
        }
    }

    /// An export that was cut off has no last line, or not as many as its last line says.
    fn report(self) -> Result<ExportReport> {
        let whole = match serde_json::from_slice(&self.last) {
            Ok(ExportLine::End { lines }) => lines.checked_add(1) == Some(self.lines),
            _ => false,
        };
        if whole && self.open.is_empty() && !self.open_is_long {
            Ok(ExportReport {
                lines: self.lines,
                bytes: self.bytes,
            })
        } else {
            Err(Error::Protocol {
                status: 200,
                reason: "an export with its last line",
            })
        }
    }
}
