//! The connection of one user: the server, the user's session, and the stored records of both.
//!
//! A connection belongs to one user of one app permanently. It ends with the session; the next user gets a new one.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use synckit_crypto::StreamScope;
use synckit_protocol::{AppId, SecretText, UserId, wire::UnixSeconds};
use zeroize::Zeroizing;

use super::{api::Api, app::App};
use crate::{
    error::{Error, Result},
    runtime::Turns,
    secrets::{
        accounts::keep_account,
        error::CredentialError,
        records::{Record, Secrets},
    },
    state::session::{Session, SessionState, Tokens},
};

/// The server, as one user of one app reaches it.
pub(crate) struct Connection {
    app: Arc<App>,
    scope: StreamScope,
    pub(crate) session: SessionState,
    /// Serialises refreshes of the token, so that parallel calls refresh once.
    pub(super) refreshing: Turns,
}

/// The record of a session in the credential store.
#[derive(Serialize, Deserialize)]
struct SessionRecord {
    app_id: AppId,
    user_id: UserId,
    token: SecretText,
    expires_at: UnixSeconds,
    refresh: SecretText,
}

impl Connection {
    pub(crate) fn new(app: Arc<App>, scope: StreamScope, tokens: Tokens) -> Self {
        Self {
            app,
            scope,
            session: SessionState::new(tokens),
            refreshing: Turns::default(),
        }
    }

    pub(crate) fn app(&self) -> &App {
        &self.app
    }

    pub(crate) fn api(&self) -> &Api {
        &self.app.api
    }

    pub(crate) fn secrets(&self) -> &Secrets {
        &self.app.secrets
    }

    /// The account and app of this connection.
    pub(crate) fn scope(&self) -> StreamScope {
        self.scope
    }

    pub(super) fn current_session(&self) -> Result<Session> {
        self.session.current().ok_or(Error::NotSignedIn)
    }

    /// The tokens in the credential store: this process's, or newer ones of another process of this device.
    pub(super) async fn stored_tokens(&self) -> Result<Option<Tokens>> {
        let user_id = self.scope.user_id;
        let stored = self
            .secrets()
            .run(move |secrets| read_session(secrets, user_id))
            .await?;
        Ok(stored.map(|(_, tokens)| tokens))
    }

    /// Writes the session to the credential store.
    pub(crate) async fn save_session(&self) -> Result<()> {
        let StreamScope { app_id, user_id } = self.scope;
        let Tokens {
            token,
            expires_at,
            refresh,
        } = self.current_session()?.tokens;
        let record = SessionRecord {
            app_id,
            user_id,
            token,
            expires_at,
            refresh,
        };
        let record = Zeroizing::new(
            minicbor_serde::to_vec(&record).map_err(|_| Error::Credentials(CredentialError::Damaged("session")))?,
        );
        self.secrets()
            .run(move |secrets| {
                secrets.write(Record::Session(user_id), &record)?;
                keep_account(secrets, user_id)
            })
            .await
    }
}

/// The session of a user in the credential store. Blocks.
pub(crate) fn read_session(
    secrets: &Secrets,
    user_id: UserId,
) -> Result<Option<(StreamScope, Tokens)>, CredentialError> {
    let Some(bytes) = secrets.read(Record::Session(user_id))? else {
        return Ok(None);
    };
    let record: SessionRecord = minicbor_serde::from_slice(&bytes).map_err(|_| CredentialError::Damaged("session"))?;
    let scope = StreamScope {
        app_id: record.app_id,
        user_id: record.user_id,
    };
    let tokens = Tokens {
        token: record.token,
        expires_at: record.expires_at,
        refresh: record.refresh,
    };
    Ok(Some((scope, tokens)))
}
