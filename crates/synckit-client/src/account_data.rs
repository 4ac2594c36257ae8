//! The account as a whole: its stored data, its sessions, its export, and its deletion.
//!
//! These calls reach beyond the app. They need a password sign-in of the last five minutes, because the token of one
//! app must not give access to all the others.

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

/// The last line of an export is shorter than this, so longer lines need not be remembered.
const LAST_LINE_BYTES_MAX: usize = 256;

/// A complete export.
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
    /// Lines, including the first and the last.
    pub lines: u64,
    /// Bytes written.
    pub bytes: u64,
}

impl SyncKitClient {
    /// Proves the password to the server, so that the calls about the account work for the next five minutes:
    /// [`SyncKitClient::account`], [`SyncKitClient::sessions`], [`SyncKitClient::revoke_session`],
    /// [`SyncKitClient::export_account`]. Not needed right after [`SyncKitClient::authenticate`].
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
    /// // Ask for the password before showing the settings of the account.
    /// client.confirm_password(typed).await?;
    /// assert_eq!(client.account().await?.email, world.email);
    /// assert!(matches!(client.confirm_password("a guess").await, Err(Error::InvalidCredentials)));
    /// # Ok(())
    /// # });
    /// ```
    pub async fn confirm_password(&self, password: &str) -> Result<()> {
        self.stream()?.connection.unlock(password).await.map(drop)
    }

    /// The account of the user: address, time of creation, and the data that it stores in each app on this server.
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

    /// The sessions of the account, in every app, newest first.
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

    /// Ends one session of the account: its device must sign in again. The device keeps its data. To keep it from
    /// reading later changes, revoke the device and rotate the keys.
    ///
    /// # Errors
    /// [`Error::FreshLoginRequired`] without a password sign-in of the last five minutes; [`Error::Problem`] with
    /// `session_not_found`, also if an earlier call ended the session and its answer was lost.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let client = world.signed_in().await?;
    /// # let (phone, _) = world.device("phone").await?;
    /// // End all sessions except this one.
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

    /// Writes all of the user's data on the server, in every app, as JSON lines, and flushes. Sealed data stays sealed:
    /// the file shows the user what the server holds, and a program with the user's keys can open it. Files are listed
    /// with URLs that are valid for an hour. `docs/protocol.md`, section 3.11, defines the format.
    ///
    /// Memory stays small, whatever the amount of data. The call does not retry: after an error, start again with an
    /// empty writer.
    ///
    /// # Errors
    /// [`Error::FreshLoginRequired`] without a password sign-in of the last five minutes; [`Error::Network`] and
    /// [`Error::Protocol`] if the export arrived incomplete; [`Error::Io`] if it could not be written.
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
        let mut body = self.app.api.stream(&call, self.app.api.request_timeout).await?;
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

    /// Deletes the account and all of its data on the server, in every app, for good. Every session ends. This device
    /// also forgets session and keys, in memory and in the credential store. Other devices get [`Error::AccountGone`];
    /// the data that apps have stored on devices stays there. The address can be registered again.
    ///
    /// The call always needs the password itself. If the answer was lost, call it again: for a deleted account it
    /// succeeds.
    ///
    /// # Errors
    /// [`Error::InvalidCredentials`] if the password is not the account's: nothing was deleted. [`Error::Credentials`]
    /// if the account is deleted, and this device could not forget its keys.
    ///
    /// # Examples
    /// ```
    /// # synckit_doctest::run(async |world| {
    /// # let client = world.signed_in().await?;
    /// # let typed = world.password;
    /// client.delete_account(typed).await?;
    /// assert_eq!(client.user_id(), None);
    /// // It is deleted in every app, and the address is free.
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

/// The end of an export that has passed through: enough to tell whether the export is complete.
#[derive(Debug, Default)]
struct SeenLines {
    /// The line that has not ended yet, up to the maximum length of a last line.
    open: Vec<u8>,
    open_is_long: bool,
    /// The previous line, if it was short.
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
            // No newline follows the last piece.
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

    /// An interrupted export has no last line, or fewer lines than its last line says.
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
                reason: "an export that ends with its closing line",
            })
        }
    }
}
