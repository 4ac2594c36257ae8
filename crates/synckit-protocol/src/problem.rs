//! Errors on the wire: RFC 9457 problem details with a stable code.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{BatchDigest, Position, wire::snapshots::SnapshotInfo};

/// Declares the codes once: name, wire text, HTTP status, title.
macro_rules! problem_codes {
    ($($(#[doc = $doc:literal])* $name:ident = $text:literal, $status:literal, $title:literal;)*) => {
        /// The stable code of a problem. Clients decide by the code, never by a status alone or by a text.
        ///
        /// # Examples
        /// ```
        /// use synckit_protocol::ProblemCode;
        ///
        /// let code: ProblemCode = "too_many_guesses".parse()?;
        /// assert_eq!(code, ProblemCode::TooManyGuesses);
        /// // A newer server may send unknown codes: then the status decides.
        /// assert!("invented_tomorrow".parse::<ProblemCode>().is_err());
        /// # Ok::<(), synckit_protocol::UnknownProblemCode>(())
        /// ```
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ProblemCode {
            $($(#[doc = $doc])* $name,)*
        }

        impl ProblemCode {
            /// Every code, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The text on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The HTTP status of the code.
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }

            /// A short summary for people, the same at every occurrence.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }
        }

        impl FromStr for ProblemCode {
            type Err = UnknownProblemCode;

            fn from_str(text: &str) -> Result<Self, UnknownProblemCode> {
                match text { $($text => Ok(Self::$name),)* _ => Err(UnknownProblemCode) }
            }
        }
    };
}

problem_codes! {
    // The request itself.
    /// The body is not of the form that the endpoint expects.
    MalformedBody = "malformed_body", 400, "The body cannot be read";
    /// A field has a value that is not allowed; `field` names it.
    InvalidValue = "invalid_value", 422, "A value is not allowed";
    /// The body is neither `application/json` nor `application/cbor`.
    UnsupportedMediaType = "unsupported_media_type", 415, "The content type is not supported";
    /// The body exceeds the limit of the endpoint.
    BodyTooLarge = "body_too_large", 413, "The body is too large";
    /// No such route.
    NotFound = "not_found", 404, "No such route";
    /// The route exists, but not for this method.
    MethodNotAllowed = "method_not_allowed", 405, "The method is not allowed";
    /// The request did not arrive, or was not answered, in time.
    Timeout = "timeout", 503, "The request took too long";

    // Who asks.
    /// The API key is incomplete or mistyped: its checksum does not match.
    KeyMalformed = "key_malformed", 400, "The API key is incomplete or mistyped";
    /// The API key is not of the kind that the endpoint accepts: apps sign in with a publishable key.
    KeyKind = "key_kind", 403, "The API key is of the wrong kind";
    /// The API key is unknown, or was rotated out.
    ApiKeyInvalid = "api_key_invalid", 401, "The API key is not valid";
    /// The token is missing, or is not one of this server's for this purpose.
    TokenInvalid = "token_invalid", 401, "The token is not valid";
    /// The token is older than its lifetime; refresh it.
    TokenExpired = "token_expired", 401, "The token has expired";
    /// The session was signed out or revoked, or its refresh secret was used twice.
    SessionEnded = "session_ended", 401, "The session has ended";
    /// The server no longer has the account of the token: it was deleted, or is newer than a restored backup.
    AccountGone = "account_gone", 401, "The account is no longer on this server";
    /// The account endpoints need a password login of the last five minutes.
    FreshLoginRequired = "fresh_login_required", 401, "A fresh sign-in is required";
    /// The e-mail or the password is wrong; the answer does not tell which.
    InvalidCredentials = "invalid_credentials", 401, "The e-mail or the password is wrong";
    /// The login or registration exceeded its time limit; start again.
    LoginExpired = "login_expired", 400, "The sign-in took too long";
    /// The server accepts no passwords in bodies: sign in with OPAQUE.
    PasswordLoginDisabled = "password_login_disabled", 400, "The server takes no passwords";
    /// This server does not support the login suite.
    UnsupportedSuite = "unsupported_suite", 400, "The login suite is not supported";
    /// Too many password guesses; `Retry-After` tells when to try again.
    TooManyGuesses = "too_many_guesses", 429, "Too many sign-in attempts";
    /// This server accepts no new accounts.
    RegistrationClosed = "registration_closed", 403, "Registration is closed";
    /// The invitation is unknown or used up.
    InviteInvalid = "invite_invalid", 403, "The invitation is not valid";
    /// The code from a mail is unknown, used or too old.
    MailCodeInvalid = "mail_code_invalid", 403, "The code from the mail is not valid";
    /// No such session of this account.
    SessionNotFound = "session_not_found", 404, "There is no such session";

    // Devices and keys.
    /// No such device of this user in this app.
    DeviceNotFound = "device_not_found", 404, "There is no such device";
    /// The request names another device than that of its session. Register the device in this session first; a session
    /// that has a device never gets another one.
    DeviceMismatch = "device_mismatch", 403, "The session belongs to another device, or to none yet";
    /// The device was revoked; register again under a new id.
    DeviceRevoked = "device_revoked", 403, "The device was revoked";
    /// The account has the most devices in this app.
    DeviceLimit = "device_limit", 409, "The account has too many devices";
    /// The stream has no envelope yet: the only answer with this meaning.
    NoEnvelope = "no_envelope", 404, "Encryption is not set up";
    /// `expected_version` is not the current one: another write came first.
    VersionConflict = "version_conflict", 409, "Another write came first";
    /// The batch is sealed under another key than the envelope's current one.
    KeyMismatch = "key_mismatch", 409, "The key is not the current one";
    /// The signature is not one of the stream's owner key over this request.
    OwnerProofInvalid = "owner_proof_invalid", 403, "The proof of the master key is not valid";

    // The log.
    /// The batch was not sealed on top of the stream's head; `behind` contains the batches after its parent.
    Behind = "behind", 409, "The stream has moved on";
    /// The cursor is not on this server's chain.
    HistoryDiverged = "history_diverged", 409, "The cursor is not in this history";
    /// The cursor is before the start of the log; `snapshot` tells where to continue.
    CursorCompacted = "cursor_compacted", 410, "The cursor is older than the log";
    /// The batch exceeds the limit of entries or bytes.
    BatchTooLarge = "batch_too_large", 413, "The batch is too large";

    // Snapshots.
    /// No such snapshot of this user in this app, or no such part of it.
    SnapshotNotFound = "snapshot_not_found", 404, "There is no such snapshot";
    /// A part of the snapshot is missing: the upload was started too long ago, or newer uploads replaced it.
    SnapshotIncomplete = "snapshot_incomplete", 409, "A part of the snapshot is missing";
    /// The snapshot is not newer than the current one, or its id was used already.
    SnapshotStale = "snapshot_stale", 409, "A newer snapshot exists";

    // Blobs.
    /// No such blob of this user in this app.
    BlobNotFound = "blob_not_found", 404, "There is no such blob";
    /// The blob exceeds the limit.
    BlobTooLarge = "blob_too_large", 413, "The blob is too large";
    /// The uploaded bytes are missing or incomplete.
    UploadIncomplete = "upload_incomplete", 409, "The upload is not complete";
    /// No such upload in parts of this user in this app: it has ended, or never began.
    UploadNotFound = "upload_not_found", 404, "There is no such upload";
    /// The presigned URL was changed, or is not for this method.
    UrlInvalid = "url_invalid", 403, "The URL is not valid";
    /// The presigned URL is older than its lifetime.
    UrlExpired = "url_expired", 403, "The URL has expired";
    /// The body does not have the signed length.
    LengthMismatch = "length_mismatch", 400, "The body does not have the signed length";
    /// The body does not have the signed SHA-256.
    HashMismatch = "hash_mismatch", 400, "The body does not have the signed hash";
    /// The object already exists: an earlier attempt of this upload arrived whole.
    ObjectExists = "object_exists", 409, "The object already exists";
    /// The range lies outside the object.
    RangeNotSatisfiable = "range_not_satisfiable", 416, "The range lies outside the object";

    // The server.
    /// The disk is full. Nothing was stored.
    ServerFull = "server_full", 507, "The server is full";
    /// The account has reached a quota; `field` names it. Nothing was stored.
    QuotaExceeded = "quota_exceeded", 403, "The account has reached a quota";
    /// The app stores as much as its plan holds. Nothing was stored; reading, deletion, export and sign-in go on.
    StorageLimitReached = "storage_limit_reached", 402, "The app stores as much as its plan holds";
    /// The account stores as much in the app as the app's developer allows each user. Nothing was stored; reading, deletion, export
    /// and sign-in go on.
    UserLimitReached = "user_limit_reached", 402, "The account stores as much as the app allows each user";
    /// The app has moved as much this month as its plan allows, or this user as much as the app allows each user. 64 KiB a minute
    /// go on; `Retry-After` tells when the next call passes.
    TransferLimit = "transfer_limit", 429, "The transfer of the app, or of this user in it, is used up";
    /// More requests than the limit of this session, or of this address without a token; `Retry-After` tells when to
    /// try again.
    RateLimited = "rate_limited", 429, "Too many requests";
    /// The server sheds load; `Retry-After` tells when to try again.
    Overloaded = "overloaded", 503, "The server is overloaded";
    /// The server's database or object store cannot be reached, or did not answer in time; `detail` names the step that
    /// failed.
    StoreUnavailable = "store_unavailable", 503, "The server's storage is unavailable";
    /// The server failed; the request id finds the cause in its log.
    Internal = "internal", 500, "Something failed inside the server";
}

impl fmt::Display for ProblemCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A code that this version does not know. The status still distinguishes the client's fault from the server's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown problem code")]
pub struct UnknownProblemCode;

/// The body of every error answer (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Problem {
    /// A URN, `urn:synckit:problem:<code>`, because `https://` would promise a page.
    #[serde(rename = "type")]
    pub type_uri: String,
    /// The stable code as text, so that clients can handle unknown codes.
    pub code: String,
    /// A summary for people.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// The specific problem and its remedy. Never a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The field with `invalid_value`; the quota with `quota_exceeded`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The request id, to find the request in the server's log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The batches after the parent, with `behind`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind: Option<Behind>,
    /// The server's newest position, with `history_diverged`. Unverified: evidence, not a cursor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest: Option<Position>,
    /// The current version, with `version_conflict`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_version: Option<u64>,
    /// With `cursor_compacted`: the snapshot that replaces the start of the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotInfo>,
}

impl Problem {
    /// A problem with a code, without details.
    pub fn new(code: ProblemCode) -> Self {
        Self {
            type_uri: format!("urn:synckit:problem:{code}"),
            code: code.as_str().to_owned(),
            title: code.title().to_owned(),
            status: code.status(),
            detail: None,
            field: None,
            request_id: None,
            behind: None,
            latest: None,
            current_version: None,
            snapshot: None,
        }
    }

    /// The code, if this version knows it.
    pub fn known_code(&self) -> Option<ProblemCode> {
        self.code.parse().ok()
    }
}

/// The extension of a `behind` problem: the digests after the parent that the batch named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Behind {
    /// The stream's head as the server claims it. The client believes it only after hashing forward to it.
    pub latest: Position,
    /// The batches after the refused parent, at most [`crate::limits::CHAIN_PAGE_DIGESTS_MAX`].
    pub digests: Vec<BatchDigest>,
    /// Whether more follow, in `GET /api/sync/chain`.
    pub has_more: bool,
}

impl Serialize for ProblemCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ProblemCode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
