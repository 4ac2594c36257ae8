//! Quotas of one account, so that no account fills the disk for all.

/// The quotas of one account, over all apps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quotas {
    /// Sealed bytes of batches, snapshots and blobs, and of announced blobs. Parts of snapshots may take as much again,
    /// because a snapshot allows the server to free space. So may what a snapshot has replaced until it is deleted.
    pub bytes: u64,
    /// Blobs, deleted ones included until it is too late to bring them back.
    pub blobs: u64,
    /// Uploads that are begun and not confirmed.
    pub pending_uploads: u64,
    /// Sessions. A further one ends the one that was refreshed least recently.
    pub sessions: u64,
    /// Revoked devices in one app, whose rows stay because batches name them.
    pub revoked_devices: u64,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            bytes: 100 << 30,
            blobs: 1_000_000,
            pending_uploads: 1_000,
            sessions: 1_000,
            revoked_devices: 10_000,
        }
    }
}

/// A quota that a write would exceed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quota {
    /// [`Quotas::bytes`].
    Bytes,
    /// [`Quotas::blobs`].
    Blobs,
    /// [`Quotas::pending_uploads`].
    PendingUploads,
    /// [`Quotas::revoked_devices`].
    RevokedDevices,
    /// The plan of the app, which is no quota of the account: all its users together reached it.
    AppStorage,
    /// What one user may store in the app, by the word of its developer: [`PlanRoom::user_bytes_max`].
    UserStorage,
}

impl Quota {
    /// Its name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Blobs => "blobs",
            Self::PendingUploads => "pending_uploads",
            Self::RevokedDevices => "revoked_devices",
            Self::AppStorage => "app_storage",
            Self::UserStorage => "user_storage",
        }
    }
}

/// What an app leaves to one write of a user, as its server knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PlanRoom {
    /// The app stores as much as its plan holds.
    pub app_is_full: bool,
    /// Sealed bytes that one user may store in the app, if that is limited. Deleted blobs do not count.
    pub user_bytes_max: Option<u64>,
}

impl PlanRoom {
    /// The limit that a write of so many bytes would exceed, by a user who stores `user_bytes` in the app.
    pub const fn exceeded(self, user_bytes: u64, more_bytes: u64) -> Option<Quota> {
        match self {
            Self { app_is_full: true, .. } => Some(Quota::AppStorage),
            Self {
                user_bytes_max: Some(max),
                ..
            } => over(user_bytes, more_bytes, max, Quota::UserStorage),
            Self {
                user_bytes_max: None, ..
            } => None,
        }
    }

    /// Without what files leave to batches, as of the quota of an account.
    #[must_use]
    pub const fn for_files(self) -> Self {
        Self {
            user_bytes_max: match self.user_bytes_max {
                Some(max) => Some(max - reserve(max)),
                None => None,
            },
            ..self
        }
    }

    /// With twice the limit of the user: snapshots, which allow the server to free space.
    #[must_use]
    pub const fn for_snapshots(self) -> Self {
        Self {
            user_bytes_max: match self.user_bytes_max {
                Some(max) => Some(max.saturating_mul(2)),
                None => None,
            },
            ..self
        }
    }
}

/// Of the quota of bytes, files leave one in so many parts to batches, at most [`RESERVE_BYTES_MAX`]: an account that is full of
/// files still takes deletions.
pub const RESERVE_ONE_IN: u64 = 64;
/// The most that files leave to batches.
pub const RESERVE_BYTES_MAX: u64 = 16 << 20;

/// The usage of an account that limits uploads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Sealed bytes that are stored.
    pub stored_bytes: u64,
    /// Sealed bytes that are announced and not confirmed, or replaced and not deleted yet.
    pub pending_bytes: u64,
    /// Blobs, and objects of replaced ones that are not deleted yet.
    pub blobs: u64,
    /// Uploads that are begun and not confirmed.
    pub pending_uploads: u64,
}

/// The quota that a batch of so many bytes would exceed.
pub const fn batch(quotas: &Quotas, stored_bytes: u64, more_bytes: u64) -> Option<Quota> {
    over(stored_bytes, more_bytes, quotas.bytes, Quota::Bytes)
}

/// The quota that a write of so many bytes would exceed in an account that is past its quota, but of whose bytes a newer snapshot has
/// replaced so many: they are deleted when that has settled.
pub const fn beside_replaced(quotas: &Quotas, taken: u64, replaced_bytes: u64, more_bytes: u64) -> Option<Quota> {
    match over(
        taken.saturating_sub(replaced_bytes),
        more_bytes,
        quotas.bytes,
        Quota::Bytes,
    ) {
        None => over(taken, more_bytes, quotas.bytes.saturating_mul(2), Quota::Bytes),
        exceeded => exceeded,
    }
}

/// The quota that a part of a snapshot would exceed.
pub const fn snapshot_part(quotas: &Quotas, stored_bytes: u64, more_bytes: u64) -> Option<Quota> {
    over(stored_bytes, more_bytes, quotas.bytes.saturating_mul(2), Quota::Bytes)
}

/// The quota that an upload of so many bytes would exceed.
pub const fn upload(quotas: &Quotas, usage: &Usage, more_bytes: u64) -> Option<Quota> {
    if usage.pending_uploads >= quotas.pending_uploads {
        return Some(Quota::PendingUploads);
    }
    if usage.blobs.saturating_add(usage.pending_uploads) >= quotas.blobs {
        return Some(Quota::Blobs);
    }
    let taken = usage.stored_bytes.saturating_add(usage.pending_bytes);
    over(taken, more_bytes, for_files(quotas).bytes, Quota::Bytes)
}

/// The quotas, without what files leave to batches.
pub const fn for_files(quotas: &Quotas) -> Quotas {
    Quotas {
        bytes: quotas.bytes - reserve(quotas.bytes),
        ..*quotas
    }
}

/// What files leave to batches of so many bytes.
const fn reserve(bytes: u64) -> u64 {
    let part = bytes / RESERVE_ONE_IN;
    if part < RESERVE_BYTES_MAX {
        part
    } else {
        RESERVE_BYTES_MAX
    }
}

/// The quota that a new device would exceed beside so many revoked ones.
pub const fn device(quotas: &Quotas, revoked: u64) -> Option<Quota> {
    if revoked >= quotas.revoked_devices {
        Some(Quota::RevokedDevices)
    } else {
        None
    }
}

/// The number of sessions that stay when a new one begins.
pub const fn sessions_beside_new(quotas: &Quotas) -> u64 {
    quotas.sessions.saturating_sub(1)
}

const fn over(taken: u64, more: u64, max: u64, quota: Quota) -> Option<Quota> {
    if taken.saturating_add(more) > max {
        Some(quota)
    } else {
        None
    }
}
