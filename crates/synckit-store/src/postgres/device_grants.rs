//! Sign-ins of machines without a browser in PostgreSQL.

use async_trait::async_trait;
use synckit_protocol::{AppId, wire::UnixSeconds};

use super::{
    PostgresStore,
    retry::{read, single, transaction},
};
use crate::{DeviceGrants, DevicePoll, NewDeviceGrant, SecretHash, StoreError, WaitingGrant, records::device_grants};

#[async_trait]
impl DeviceGrants for PostgresStore {
    async fn put_device_grant(&self, grant: NewDeviceGrant) -> Result<bool, StoreError> {
        transaction!(self, Serializable, |db| device_grants::put(db, &grant))
    }

    async fn waiting_grant(&self, user_code: SecretHash, now: UnixSeconds) -> Result<Option<WaitingGrant>, StoreError> {
        single!(self, |db| device_grants::waiting(db, user_code, now))
    }

    async fn answer_device_grant(
        &self,
        user_code: SecretHash,
        allowed_by: Option<Vec<u8>>,
        now: UnixSeconds,
    ) -> Result<bool, StoreError> {
        transaction!(self, Serializable, |db| device_grants::answer(
            db,
            user_code,
            allowed_by.as_deref(),
            now
        ))
    }

    async fn poll_device_grant(
        &self,
        device_code: SecretHash,
        app_id: AppId,
        now: UnixSeconds,
    ) -> Result<DevicePoll, StoreError> {
        transaction!(self, Serializable, |db| device_grants::poll(
            db,
            device_code,
            app_id,
            now
        ))
    }
}
