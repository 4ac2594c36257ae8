//! `/api/account/vault`: the account vault, which the server cannot open.
//!
//! Invariant: the editions of the vaults of an account grow, so that no device refuses the current one.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use synckit_protocol::{
    ProblemCode, UserId, VaultEdition, limits,
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
    let next = if body.keep_replaced {
        VaultEdition::next_generation
    } else {
        VaultEdition::next_count
    };
    check_successor(&state, access.user_id, &body.vault.0, body.expected_version, next).await?;
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

/// Checks a new vault of an account. The server cannot open a vault; it bounds its size and reads its edition, which must
/// follow that of the vault that it replaces: devices refuse any other for ever.
pub(super) fn check_vault(vault: &[u8], expected: VaultEdition) -> Result<(), ApiError> {
    check_size(vault)?;
    if VaultEdition::of(vault) != Some(expected) {
        let VaultEdition { generation, count } = expected;
        return Err(ApiError::invalid(
            "vault",
            format!("must be a vault of generation {generation} and count {count}"),
        ));
    }
    Ok(())
}

/// Checks a vault that replaces this version of the account's vault. A version that is not the current one is left to the
/// store, which refuses it.
pub(super) async fn check_successor(
    state: &ServerState,
    user_id: UserId,
    vault: &[u8],
    expected_version: u64,
    next: impl FnOnce(VaultEdition) -> Option<VaultEdition>,
) -> Result<(), ApiError> {
    let current = state.store.vault(user_id).await?.ok_or(ProblemCode::AccountGone)?;
    if current.version != expected_version {
        return check_size(vault);
    }
    let expected = VaultEdition::of(&current.vault).and_then(next);
    check_vault(
        vault,
        expected.ok_or_else(|| ApiError::invalid("vault", "the account can have no further vault"))?,
    )
}

fn check_size(vault: &[u8]) -> Result<(), ApiError> {
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
