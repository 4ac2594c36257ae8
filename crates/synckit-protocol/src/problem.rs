//! Errors on the wire: RFC 9457 problem details with a stable code.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{BatchDigest, Position, wire::snapshots::SnapshotInfo};

/// Declares the codes once: name, wire text, HTTP status, title.
macro_rules! problem_codes {
    ($($(#[doc = $doc:literal])* $name:ident = $text:literal, $status:literal, $title:literal;)*) => {
        /// The stable code of a problem. Clients decide by it, never by a status alone or by a text.
        ///
        /// # Examples
        /// ```
        /// use synckit_protocol::ProblemCode;
        ///
        /// let code: ProblemCode = "too_many_guesses".parse()?;
        /// assert_eq!(code, ProblemCode::TooManyGuesses);
        /// // A newer server may know more of them: then the status decides.
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
    /// The body is not what the endpoint expects.
    MalformedBody = "malformed_body", 400, "The body cannot be read";
    /// A field has a value that is not allowed; `field` names it.
    InvalidValue = "invalid_value", 422, "A value is not allowed";
    /// The body is neither `application/json` nor `application/cbor`.
    UnsupportedMediaType = "unsupported_media_type", 415, "The content type is not supported";
    /// The body is larger than the endpoint takes.
    BodyTooLarge = "body_too_large", 413, "The body is too large";
    /// No such route.
    NotFound = "not_found", 404, "There is nothing here";
    /// The route exists, but not for this method.
    MethodNotAllowed = "method_not_allowed", 405, "The method is not allowed here";
    /// The request did not arrive, or was not answered, in time.
    Timeout = "timeout", 503, "The request took too long";

    // Who asks.
    /// The API key is incomplete or mistyped: its checksum does not match.
    KeyMalformed = "key_malformed", 400, "The API key is incomplete or mistyped";
    /// The API key is of another kind than the endpoint takes: apps sign in with a publishable key.
    KeyKind = "key_kind", 403, "The API key is of the wrong kind";
    /// The API key is unknown, or was rotated out.
    ApiKeyInvalid = "api_key_invalid", 401, "The API key is not valid";
    /// There is no token, or it is not one of this server's for this purpose.
    TokenInvalid = "token_invalid", 401, "The token is not valid";
    /// The token is older than its lifetime; refresh it.
    TokenExpired = "token_expired", 401, "The token has expired";
    /// The session was signed out or revoked, or its refresh secret was used twice.
    SessionEnded = "session_ended", 401, "The session has ended";
    /// The account of the token is not on this server any more: it was deleted, or is newer than a restored backup.
    AccountGone = "account_gone", 401, "The account is no longer on this server";
    /// The account endpoints need a password login not older than five minutes.
    FreshLoginRequired = "fresh_login_required", 401, "A fresh sign-in is required";
    /// E-mail or password is wrong; which one is not said.
    InvalidCredentials = "invalid_credentials", 401, "The e-mail or the password is wrong";
    /// The login or registration took longer than it may; start again.
    LoginExpired = "login_expired", 400, "The sign-in took too long";
    /// A password in the body is not accepted here: sign in with OPAQUE.
    PasswordLoginDisabled = "password_login_disabled", 400, "The server takes no passwords";
    /// The login suite is not one that this server knows.
    UnsupportedSuite = "unsupported_suite", 400, "The login suite is not supported";
    /// Too many guesses at passwords; `Retry-After` says when to go on.
    TooManyGuesses = "too_many_guesses", 429, "Too many sign-in attempts";
    /// This server takes no new accounts.
    RegistrationClosed = "registration_closed", 403, "Registration is closed";
    /// The invitation is unknown or used up.
    InviteInvalid = "invite_invalid", 403, "The invitation is not valid";
    /// The link of a mail is unknown, used or too old.
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
    /// The account has as many devices in this app as it may.
    DeviceLimit = "device_limit", 409, "There are too many devices";
    /// There is no envelope yet: the only answer that means so.
    NoEnvelope = "no_envelope", 404, "Encryption is not set up";
    /// `expected_version` is not the current one: another write came first.
    VersionConflict = "version_conflict", 409, "Another write came first";
    /// The batch is sealed under another key than the envelope's current one.
    KeyMismatch = "key_mismatch", 409, "The key is not the current one";
    /// The signature is not one of the stream's owner key over this request.
    OwnerProofInvalid = "owner_proof_invalid", 403, "The proof of the master key is not valid";

    // The log.
    /// The batch was not sealed on top of the stream's head; `behind` carries what came in between.
    Behind = "behind", 409, "The stream has moved on";
    /// The cursor is not on this server's chain.
    HistoryDiverged = "history_diverged", 409, "The cursor is not in this history";
    /// The cursor is older than what the log still holds; `snapshot` says where to go on.
    CursorCompacted = "cursor_compacted", 410, "The cursor is older than the log";
    /// The batch holds more entries or bytes than it may.
    BatchTooLarge = "batch_too_large", 413, "The batch is too large";

    // Snapshots.
    /// No such snapshot of this user in this app, or no such part of it.
    SnapshotNotFound = "snapshot_not_found", 404, "There is no such snapshot";
    /// A part of the snapshot is missing: it was begun too long ago, or pushed out by others.
    SnapshotIncomplete = "snapshot_incomplete", 409, "A part of the snapshot is missing";
    /// The snapshot is not newer than the current one, or its id is used up.
    SnapshotStale = "snapshot_stale", 409, "There is a newer snapshot";

    // Blobs.
    /// No such blob of this user in this app.
    BlobNotFound = "blob_not_found", 404, "There is no such blob";
    /// The blob is larger than it may be.
    BlobTooLarge = "blob_too_large", 413, "The blob is too large";
    /// The bytes to confirm have not arrived, or not as many as announced.
    UploadIncomplete = "upload_incomplete", 409, "The upload is not complete";
    /// The presigned URL was changed, or is not for this method.
    UrlInvalid = "url_invalid", 403, "The URL is not valid";
    /// The presigned URL is older than its lifetime.
    UrlExpired = "url_expired", 403, "The URL has expired";
    /// The body is not as long as the URL says.
    LengthMismatch = "length_mismatch", 400, "The body has another length than signed";
    /// The object is there already: an earlier attempt of this upload arrived whole.
    ObjectExists = "object_exists", 409, "The object is there already";
    /// The range lies outside the object.
    RangeNotSatisfiable = "range_not_satisfiable", 416, "The range lies outside the object";

    // The server.
    /// The disk is full. Nothing was stored.
    ServerFull = "server_full", 507, "The server is full";
    /// The account keeps as much as it may; `field` names the quota. Nothing was stored.
    QuotaExceeded = "quota_exceeded", 403, "The account keeps as much as it may";
    /// More requests than this session, or this address without a token, may send; `Retry-After` says when to go on.
    RateLimited = "rate_limited", 429, "Too many requests";
    /// The server sheds load; `Retry-After` says when to come back.
    Overloaded = "overloaded", 503, "The server is overloaded";
    /// Something failed inside; the request id finds it in the server's log.
    Internal = "internal", 500, "Something failed inside the server";
}

impl fmt::Display for ProblemCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A code that this version does not know. The status still says whose fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown problem code")]
pub struct UnknownProblemCode;

/// The body of every error answer (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Problem {
    /// `https://` would promise a page; the type is the code as a URN: `urn:synckit:problem:<code>`.
    #[serde(rename = "type")]
    pub type_uri: String,
    /// The stable code as text, so that a client survives codes that it does not know.
    pub code: String,
    /// A summary for people.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What was wrong this time, and what to do. Never a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The field with `invalid_value`; the quota with `quota_exceeded`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The request id, to find the request in the server's log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// What came in between, with `behind`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind: Option<Behind>,
    /// The server's own newest position, with `history_diverged`. Unverified: evidence, not a cursor.
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
    /// A problem of a code, with nothing but what the code says.
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
    /// The stream's head as the server claims it. The client hashes forward to it before it believes it.
    pub latest: Position,
    /// The batches after the refused parent, at most [`crate::limits::CHAIN_PAGE_DIGESTS_MAX`].
    pub digests: Vec<BatchDigest>,
    /// Whether more follow, to be read from `GET /api/sync/chain`.
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
