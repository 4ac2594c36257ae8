//! `/api/account/vault`: the account vault, which the server cannot open.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use synckit_protocol::{
    ProblemCode, limits,
    wire::accounts::{PutVault, VaultAnswer, VaultWritten},
};
use synckit_store::{VaultWrite, VersionedWrite};

use super::{access::AccountAccess, problems::version_conflict};
use crate::{
    http::{ApiError, Received, Reply},
    state::ServerState,
};

type Server = State<Arc<ServerState>>;

/// `GET /api/account/vault`.
pub(super) async fn read(State(state): Server, access: AccountAccess, reply: Reply) -> Result<Response, ApiError> {
    let vault = state
        .store
        .vault(access.user_id)
        .await?
        .ok_or(ProblemCode::AccountGone)?;
    reply.ok(&VaultAnswer {
        vault: vault.vault.into(),
        version: vault.version,
        earlier: vault.earlier.into_iter().map(Into::into).collect(),
    })
}

/// `PUT /api/account/vault`.
pub(super) async fn replace(
    State(state): Server,
    access: AccountAccess,
    Received { value: body, reply }: Received<PutVault>,
) -> Result<Response, ApiError> {
    check_vault(&body.vault.0)?;
    let write = VaultWrite {
        user_id: access.user_id,
        vault: body.vault.0,
        expected_version: body.expected_version,
        keep_replaced: body.keep_replaced,
        password: None,
        keep_session: None,
    };
    let version = written(state.store.write_vault(write).await?)?;
    reply.ok(&VaultWritten { version })
}

/// The server cannot look into a vault; it can only bound it.
pub(super) fn check_vault(vault: &[u8]) -> Result<(), ApiError> {
    if vault.is_empty() || vault.len() > limits::VAULT_BYTES_MAX {
        return Err(ApiError::invalid(
            "vault",
            format!("must be 1 to {} bytes", limits::VAULT_BYTES_MAX),
        ));
    }
    Ok(())
}

/// The version that was written, or the problem that tells which one is current.
pub(super) fn written(outcome: VersionedWrite) -> Result<u64, ApiError> {
    match outcome {
        VersionedWrite::Written(version) => Ok(version),
        VersionedWrite::Conflict(current) => Err(version_conflict(current)),
    }
}
