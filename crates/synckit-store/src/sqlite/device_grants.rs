//! Sign-ins of machines without a browser in the embedded store.

use async_trait::async_trait;
use synckit_protocol::{AppId, wire::UnixSeconds};

use super::{
    SqliteStore,
    executor::{Transaction, run},
    writer::Lane,
};
use crate::{DeviceGrants, DevicePoll, NewDeviceGrant, SecretHash, StoreError, WaitingGrant, records::device_grants};

#[async_trait]
impl DeviceGrants for SqliteStore {
    async fn put_device_grant(&self, grant: NewDeviceGrant) -> Result<bool, StoreError> {
        self.write(Lane::Server, move |db| {
            run(device_grants::put(&Transaction(db), &grant))
        })
        .await
    }

    async fn waiting_grant(&self, user_code: SecretHash, now: UnixSeconds) -> Result<Option<WaitingGrant>, StoreError> {
        self.read(move |db| run(device_grants::waiting(&Transaction(db), user_code, now)))
            .await
    }

    async fn answer_device_grant(
        &self,
        user_code: SecretHash,
        allowed_by: Option<Vec<u8>>,
        now: UnixSeconds,
    ) -> Result<bool, StoreError> {
        self.write(Lane::Server, move |db| {
            run(device_grants::answer(
                &Transaction(db),
                user_code,
                allowed_by.as_deref(),
                now,
            ))
        })
        .await
    }

    async fn poll_device_grant(
        &self,
        device_code: SecretHash,
        app_id: AppId,
        now: UnixSeconds,
    ) -> Result<DevicePoll, StoreError> {
        self.write(Lane::Server, move |db| {
            run(device_grants::poll(&Transaction(db), device_code, app_id, now))
        })
        .await
    }
}
