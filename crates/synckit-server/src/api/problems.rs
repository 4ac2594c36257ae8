//! The problems for errors of lower layers, and problems that several resources share.
//!
//! Invariant: below the API no code knows problems or statuses. Every error becomes one here.

use synckit_protocol::{ApiKeyError, ProblemCode};
use synckit_store::{StoreError, Unavailable, rules::quotas::Quota};

use crate::{
    admin::ExportError,
    blobs::ObjectFailure,
    http::ApiError,
    limits::{DiskNearlyFull, NotCounted, TooManyRequests},
    mail::QueueFull,
    metering::TransferLimit,
    sign_in::{EmailError, StateError},
    startup::{NotReady, Trouble},
};

/// The problem for a write that names another version than the current one.
pub(super) fn version_conflict(current: u64) -> ApiError {
    ApiError::new(ProblemCode::VersionConflict).with(|problem| problem.current_version = Some(current))
}

/// The problem for a write over a quota of the account.
pub(super) fn over_quota(quota: Quota) -> ApiError {
    if quota == Quota::UserStorage {
        return ApiError::new(ProblemCode::UserLimitReached)
            .with_detail("delete files; the app's developer sets how much each of its users may store");
    }
    if quota == Quota::AppStorage {
        return ApiError::new(ProblemCode::StorageLimitReached).with_detail(
            "reading, deletion, export and sign-in go on; writing does when data is deleted or the plan grows",
        );
    }
    ApiError::new(ProblemCode::QuotaExceeded).with(|problem| problem.field = Some(quota.as_str().to_owned()))
}

impl From<TransferLimit> for ApiError {
    fn from(limit: TransferLimit) -> Self {
        Self::new(ProblemCode::TransferLimit).retry_after(limit.retry_after_seconds)
    }
}

/// The problem for a database that is away.
fn store_unavailable(step: Unavailable) -> ApiError {
    ApiError::new(ProblemCode::StoreUnavailable).with_detail(step.to_string())
}

/// The problem for an invalid e-mail address.
pub(crate) fn invalid_email(error: EmailError) -> ApiError {
    ApiError::invalid("email", error.to_string())
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let code = match &error {
            StoreError::Full(_) => ProblemCode::ServerFull,
            StoreError::Busy => ProblemCode::Overloaded,
            // The account was deleted after the request was let in.
            StoreError::NoSuchStream => return Self::new(ProblemCode::AccountGone),
            StoreError::Unavailable { step, .. } => return store_unavailable(*step).caused_by(error),
            _ => ProblemCode::Internal,
        };
        Self::new(code).caused_by(error)
    }
}

impl From<ObjectFailure> for ApiError {
    fn from(error: ObjectFailure) -> Self {
        match &error {
            ObjectFailure::Directory(_) => Self::internal(error),
            ObjectFailure::Full(_) => Self::new(ProblemCode::ServerFull).caused_by(error),
            // A refusal by the bucket, too: its keys or its clock are for the operator to mend, and a retry then helps.
            ObjectFailure::Bucket(_) => Self::new(ProblemCode::StoreUnavailable)
                .with_detail("the object store cannot be used at the moment")
                .caused_by(error),
        }
    }
}

impl From<NotReady> for ApiError {
    fn from(error: NotReady) -> Self {
        match error {
            NotReady::Checked(error) => error.into(),
            NotReady::Remembered(trouble) => Self::new(match trouble {
                Trouble::Full => ProblemCode::ServerFull,
                Trouble::Busy => ProblemCode::Overloaded,
                Trouble::Unavailable(step) => return store_unavailable(step),
                Trouble::Failed => ProblemCode::Internal,
            }),
        }
    }
}

impl From<DiskNearlyFull> for ApiError {
    fn from(_: DiskNearlyFull) -> Self {
        Self::new(ProblemCode::ServerFull).with_detail("the disk is nearly full")
    }
}

impl From<ApiKeyError> for ApiError {
    fn from(error: ApiKeyError) -> Self {
        let code = match error {
            ApiKeyError::Kind(_) => ProblemCode::KeyKind,
            _ => ProblemCode::KeyMalformed,
        };
        Self::new(code).with_detail(error.to_string())
    }
}

impl From<StateError> for ApiError {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Expired => Self::new(ProblemCode::LoginExpired),
            StateError::Invalid => Self::new(ProblemCode::LoginExpired)
                .with_detail("this is no exchange that the server began: start again"),
        }
    }
}

impl From<NotCounted> for ApiError {
    fn from(refused: NotCounted) -> Self {
        match refused {
            NotCounted::TooMany(refused) => {
                Self::new(ProblemCode::TooManyGuesses).retry_after(refused.retry_after.as_secs().max(1))
            }
            NotCounted::Store(error) => error.into(),
        }
    }
}

impl From<QueueFull> for ApiError {
    fn from(_: QueueFull) -> Self {
        Self::new(ProblemCode::Overloaded).with_detail("too many mails wait for the mail server")
    }
}

impl From<TooManyRequests> for ApiError {
    fn from(refused: TooManyRequests) -> Self {
        Self::new(ProblemCode::RateLimited).retry_after(refused.retry_after_seconds)
    }
}

impl From<ExportError> for ApiError {
    fn from(error: ExportError) -> Self {
        match error {
            ExportError::AccountGone => ProblemCode::AccountGone.into(),
            ExportError::Store(error) => error.into(),
            ExportError::Encode(error) => Self::internal(error),
            ExportError::Lost(error) => Self::internal(error),
        }
    }
}
