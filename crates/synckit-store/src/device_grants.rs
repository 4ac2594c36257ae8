//! Sign-ins of machines without a browser (RFC 8628), as a store takes and returns them.

use async_trait::async_trait;
use synckit_protocol::{AppId, wire::UnixSeconds};

use crate::{SecretHash, StoreError};

/// A sign-in that a machine asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDeviceGrant {
    /// The hash of the code that the machine polls with.
    pub device_code: SecretHash,
    /// A keyed hash of the code that the person types: it is short enough to be found from a plain one.
    pub user_code: SecretHash,
    /// The app that asks.
    pub app_id: AppId,
    /// What the person is shown of the machine, sealed by the server.
    pub asked: Vec<u8>,
    /// Now.
    pub now: UnixSeconds,
    /// How many grants are kept: the oldest beyond it are deleted.
    pub grants_max: u32,
}

/// A sign-in that waits for its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingGrant {
    /// The app that asks.
    pub app_id: AppId,
    /// What the person is shown of the machine, sealed by the server.
    pub asked: Vec<u8>,
}

/// The answer to a poll.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DevicePoll {
    /// There is no such code in this app, or it has given a session already. Nothing was changed.
    Unknown,
    /// Nobody has answered yet.
    Waiting,
    /// The machine polls too fast: it must wait five seconds longer each time from now on.
    TooFast,
    /// The person refused.
    Denied,
    /// Nobody answered in time, or the machine came too late.
    Expired,
    /// The person allowed it. This is said once.
    Allowed {
        /// Who allowed it, as it was given to [`DeviceGrants::answer_device_grant`].
        allowed_by: Vec<u8>,
    },
}

/// Sign-ins of machines without a browser: a part of a [`crate::Store`].
#[async_trait]
pub trait DeviceGrants: Send + Sync {
    /// Keeps a sign-in until it ends. `false`: another one has the user code, and nothing was stored.
    async fn put_device_grant(&self, grant: NewDeviceGrant) -> Result<bool, StoreError>;

    /// The sign-in of a user code, if it waits for its answer at `now`.
    async fn waiting_grant(&self, user_code: SecretHash, now: UnixSeconds) -> Result<Option<WaitingGrant>, StoreError>;

    /// Answers a sign-in, once: allows it, or refuses it without `allowed_by`. `false`: it does not wait (any more).
    async fn answer_device_grant(
        &self,
        user_code: SecretHash,
        allowed_by: Option<Vec<u8>>,
        now: UnixSeconds,
    ) -> Result<bool, StoreError>;

    /// Notes a poll, and returns how the sign-in stands. Of several polls at once, one is told that it is allowed.
    async fn poll_device_grant(
        &self,
        device_code: SecretHash,
        app_id: AppId,
        now: UnixSeconds,
    ) -> Result<DevicePoll, StoreError>;
}
