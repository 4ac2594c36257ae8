//! Every operation of the server, in one table: its route, its handler, and its description in the OpenAPI document.
//!
//! To add a route, add an entry here. The router and the document are both made from it, and the tests compare every
//! answer of the new route with the entry. `Description::all_problems` adds problems that follow from the kind of the
//! operation (its token, its body, load); an entry names its own.

use schemars::{Schema, SchemaGenerator, json_schema};
use synckit_protocol::{
    BlobId, Cursor, DeviceId, MEDIA_TYPE_EVENTS, MEDIA_TYPE_JSON_LINES, ObjectKey, ProblemCode as P, SealedHash,
    SessionId, SnapshotId, UploadId, limits,
    wire::{
        accounts::{
            AccountInfo, PasswordChangeFinish, PasswordChangeStart, PasswordChanged, PasswordReplaced, PutVault,
            RegisterFinish, RegisterStart, RegisterStarted, Registered, ResetRequest, ResetStart, SessionList,
            VaultAnswer, VaultWritten,
        },
        auth::{
            LoginFinish, LoginStart, LoginStarted, PasswordLogin, Refresh, Refreshed, SignedIn, UnlockFinish,
            UnlockStart, Unlocked,
        },
        blobs::{
            BlobConfirm, BlobDownload, BlobDownloadAnswer, BlobList, BlobUpload, BlobUploadAnswer, UploadPart,
            UploadPartAnswer, UploadStatus,
        },
        devices::{Device, DeviceList, RegisterDevice, RenameDevice},
        keys::{EnvelopeAnswer, EnvelopeWritten, PutEnvelope},
        log::{Chain, Page, Pull, Push, Pushed, Status},
        oauth::{BrowserSignIn, BrowserSignedIn, DeviceAuthorization, OAuthError, OAuthMetadata, OAuthTokens},
        snapshots::{PutSnapshot, PutSnapshotPart, SnapshotAnswer, SnapshotPartAnswer},
    },
};

use super::{
    account_deletion, account_export, account_overview, auth, blobs, devices, documents, envelopes, events, health,
    log, metrics, oauth, oauth_device, objects, password_change, password_reset, registration, sessions, snapshots,
    vault,
};
use crate::openapi::{Access, Answer, Content, Operation, Place, delete, get, patch, post, put};

/// Every operation, in the order of the document.
pub(super) fn operations() -> Vec<Operation> {
    let groups: [(&'static str, Vec<Operation>); 10] = [
        ("accounts", accounts()),
        ("sessions", sessions()),
        ("devices", devices()),
        ("keys", keys()),
        ("log", log()),
        ("snapshots", snapshots()),
        ("blobs", blobs()),
        ("account", account()),
        ("browser", browser()),
        ("server", server()),
    ];
    let tagged = |(tag, operations): (_, Vec<Operation>)| operations.into_iter().map(move |one| one.tagged(tag));
    groups.into_iter().flat_map(tagged).collect()
}

fn accounts() -> Vec<Operation> {
    vec![
        post("/api/accounts/start", registration::start)
            .does("Begins a registration")
            .takes::<RegisterStart>()
            .answers::<RegisterStarted>("The same for an address that has an account.")
            .refuses(&[
                P::UnsupportedSuite,
                P::TooManyGuesses,
                P::RegistrationClosed,
                P::InviteInvalid,
                P::InvalidValue,
            ])
            .writes(),
        post("/api/accounts", registration::finish)
            .does("Creates the account, or a pending one where the server sends mail")
            .takes::<RegisterFinish>()
            .answers::<Registered>("The same for an address that has an account; its owner gets a mail.")
            .refuses(&[
                P::RegistrationClosed,
                P::LoginExpired,
                P::InvalidValue,
                P::InviteInvalid,
                P::TooManyGuesses,
            ])
            .writes(),
        post("/api/accounts/reset/request", password_reset::request)
            .does("Asks for a mail with a reset code")
            .takes::<ResetRequest>()
            .answers_nothing("The server sends a mail if the account exists.")
            .refuses(&[P::InvalidValue, P::TooManyGuesses])
            .writes(),
        post("/api/accounts/reset/start", password_reset::start)
            .does("Begins a registration that replaces a forgotten password")
            .takes::<ResetStart>()
            .answers::<RegisterStarted>("What the new vault must be made for.")
            .refuses(&[
                P::UnsupportedSuite,
                P::TooManyGuesses,
                P::MailCodeInvalid,
                P::InvalidValue,
            ])
            .writes(),
        post("/api/accounts/reset", password_reset::finish)
            .does("Replaces a forgotten password and ends every session of the account")
            .takes::<RegisterFinish>()
            .answers::<PasswordReplaced>("The account.")
            .refuses(&[P::LoginExpired, P::InvalidValue, P::MailCodeInvalid, P::VersionConflict])
            .writes(),
    ]
}

fn account() -> Vec<Operation> {
    vec![
        get("/api/account", account_overview::info)
            .does("Tells what is kept of the account")
            .by_account_token()
            .answers::<AccountInfo>("The account, and what it keeps in each app."),
        delete("/api/account", account_deletion::delete)
            .does("Deletes the account and all that it stored, for good")
            .by_account_token()
            .answers_nothing("The account is deleted; also if it was before.")
            .writes(),
        get("/api/account/export", account_export::export)
            .does("Exports everything that the server holds of the account, as JSON lines")
            .by_account_token()
            .answer(Answer {
                status: 200,
                description: "One JSON object a line; the last one is of the kind `end`.",
                content: Content::Other(MEDIA_TYPE_JSON_LINES),
                headers: &[],
            }),
        get("/api/account/vault", vault::read)
            .does("Reads the vault, and those that resets left behind")
            .by_account_token()
            .answers::<VaultAnswer>("The vault."),
        put("/api/account/vault", vault::replace)
            .does("Replaces the vault without touching the password")
            .by_account_token()
            .takes::<PutVault>()
            .answers::<VaultWritten>("The new version.")
            .refuses(&[P::InvalidValue, P::VersionConflict])
            .writes(),
        post("/api/account/password/start", password_change::start)
            .does("Begins a change of password")
            .by_account_token()
            .takes::<PasswordChangeStart>()
            .answers::<RegisterStarted>("Without `vault_generation`: the vault keeps its own.")
            .refuses(&[P::UnsupportedSuite, P::TooManyGuesses, P::InvalidValue])
            .writes(),
        post("/api/account/password", password_change::finish)
            .does("Changes the password and ends every other session of the account")
            .by_account_token()
            .takes::<PasswordChangeFinish>()
            .answers::<PasswordChanged>("The new version of the vault, and a new refresh secret.")
            .refuses(&[P::LoginExpired, P::InvalidValue, P::VersionConflict])
            .writes(),
        get("/api/account/sessions", sessions::list)
            .does("Lists the sessions of the account in every app, newest first")
            .by_account_token()
            .answers::<SessionList>("The sessions."),
        delete("/api/account/sessions/{id}", sessions::end)
            .does("Ends a session of the account")
            .by_account_token()
            .path::<SessionId>("id", "The session.")
            .answers_nothing("The session has ended.")
            .refuses(&[P::SessionNotFound])
            .writes(),
    ]
}

fn sessions() -> Vec<Operation> {
    vec![
        post("/api/sync/auth/start", auth::start)
            .does("Begins a sign-in; counts as a guess")
            .takes::<LoginStart>()
            .answers::<LoginStarted>("Of the same form and size for an unknown address.")
            .refuses(&[
                P::UnsupportedSuite,
                P::KeyMalformed,
                P::KeyKind,
                P::ApiKeyInvalid,
                P::InvalidValue,
                P::TooManyGuesses,
                P::MailCodeInvalid,
            ])
            .writes(),
        post("/api/sync/auth", auth::finish)
            .does("Signs in: with OPAQUE, or with a password where the operator allows that")
            .takes_schema(login_body)
            .answers::<SignedIn>("A session.")
            .refuses(&[
                P::KeyMalformed,
                P::KeyKind,
                P::ApiKeyInvalid,
                P::LoginExpired,
                P::InvalidValue,
                P::MailCodeInvalid,
                P::InvalidCredentials,
                P::PasswordLoginDisabled,
                P::TooManyGuesses,
            ])
            .writes(),
        delete("/api/sync/auth", auth::sign_out)
            .does("Signs out: ends the session of the token")
            .by_app_token()
            .answers_nothing("The session has ended.")
            .writes(),
        post("/api/sync/auth/unlock/start", auth::unlock_start)
            .does("Begins an unlock: the exchange of a sign-in, for the account of the token; counts as a guess")
            .by_app_token()
            .takes::<UnlockStart>()
            .answers::<LoginStarted>("The server's half of the exchange.")
            .refuses(&[P::UnsupportedSuite, P::TooManyGuesses, P::InvalidValue])
            .writes(),
        post("/api/sync/auth/unlock", auth::unlock_finish)
            .does("Unlocks the account for five minutes")
            .by_app_token()
            .takes::<UnlockFinish>()
            .answers::<Unlocked>("A token for the account.")
            .refuses(&[P::LoginExpired, P::InvalidValue, P::InvalidCredentials])
            .writes(),
        post("/api/sync/auth/refresh", auth::refresh)
            .does("Makes a new token of a refresh secret, which changes too")
            .takes::<Refresh>()
            .answers::<Refreshed>("The new token and the next refresh secret.")
            .refuses(&[P::SessionEnded])
            .writes(),
    ]
}

fn devices() -> Vec<Operation> {
    vec![
        post("/api/sync/devices", devices::register)
            .does("Registers a device, or finds it again, and binds the session to it for good")
            .by_app_token()
            .takes::<RegisterDevice>()
            .answers::<Device>("The device.")
            .refuses(&[P::InvalidValue, P::DeviceMismatch, P::DeviceLimit, P::QuotaExceeded])
            .writes(),
        get("/api/sync/devices", devices::list)
            .does("Lists the devices that are not revoked, and the sessions")
            .by_app_token()
            .answers::<DeviceList>("The devices and the sessions."),
        patch("/api/sync/devices/{id}", devices::rename)
            .does("Renames a device")
            .by_app_token()
            .path::<DeviceId>("id", "The device.")
            .takes::<RenameDevice>()
            .answers::<Device>("The device.")
            .refuses(&[P::DeviceNotFound, P::InvalidValue])
            .writes(),
        delete("/api/sync/devices/{id}", devices::revoke)
            .does("Revokes a device and ends its sessions")
            .by_app_token()
            .path::<DeviceId>("id", "The device.")
            .answers_nothing("The device is revoked.")
            .refuses(&[P::DeviceNotFound])
            .writes(),
    ]
}

fn keys() -> Vec<Operation> {
    vec![
        get("/api/sync/keys", envelopes::read)
            .does("Reads the envelope")
            .by_app_token()
            .answers::<EnvelopeAnswer>("The current envelope.")
            .refuses(&[P::NoEnvelope]),
        put("/api/sync/keys", envelopes::write)
            .does("Writes an envelope on top of the current one")
            .by_app_token()
            .takes::<PutEnvelope>()
            .answers::<EnvelopeWritten>("The new version.")
            .refuses(&[
                P::InvalidValue,
                P::OwnerProofInvalid,
                P::VersionConflict,
                P::Behind,
                P::CursorCompacted,
                P::HistoryDiverged,
                P::SnapshotStale,
            ])
            .writes(),
    ]
}

fn log() -> Vec<Operation> {
    vec![
        post("/api/sync/push", log::push)
            .does("Appends a sealed batch; a repeated one gets its first answer")
            .by_app_token()
            .takes_large::<Push>()
            .answers::<Pushed>("The place of the batch, which is on the disk.")
            .refuses(&[
                P::InvalidValue,
                P::BatchTooLarge,
                P::DeviceMismatch,
                P::DeviceRevoked,
                P::NoEnvelope,
                P::KeyMismatch,
                P::QuotaExceeded,
                P::StorageLimitReached,
                P::UserLimitReached,
                P::TransferLimit,
                P::Behind,
                P::CursorCompacted,
                P::HistoryDiverged,
            ])
            .writes(),
        post("/api/sync/pull", log::pull)
            .does("Reads a page of the log after a cursor")
            .by_app_token()
            .takes::<Pull>()
            .answers::<Page>("The page, or the snapshot that covers the beginning of the log.")
            .refuses(&[
                P::TransferLimit,
                P::InvalidValue,
                P::DeviceMismatch,
                P::DeviceRevoked,
                P::CursorCompacted,
                P::HistoryDiverged,
            ]),
        get("/api/sync/chain", log::chain)
            .does("Reads the digests of the batches after a cursor")
            .by_app_token()
            .query::<Cursor>("from", "Where to go on.")
            .answers::<Chain>("The digests.")
            .refuses(&[P::InvalidValue, P::CursorCompacted, P::HistoryDiverged]),
        get("/api/sync/status", log::status)
            .does("Tells the state of the stream in numbers")
            .by_app_token()
            .answers::<Status>("The state, as the server claims it."),
        get("/api/sync/events", events::events)
            .does("Tells the newest position of the stream whenever it changes, as server-sent events")
            .by_app_token()
            .answer(Answer {
                status: 200,
                description: "A stream that begins with the newest position. Each event `position` carries a cursor; \
                    `going` is the last one of a server that stops.",
                content: Content::Other(MEDIA_TYPE_EVENTS),
                headers: &["X-Accel-Buffering"],
            }),
    ]
}

fn snapshots() -> Vec<Operation> {
    let id = "The snapshot.";
    let part = "The part, from 0, without leading zeros.";
    vec![
        get("/api/sync/snapshots/{id}", snapshots::read)
            .does("Reads the manifest of a snapshot")
            .by_app_token()
            .path::<SnapshotId>("id", id)
            .answers::<SnapshotAnswer>("The snapshot and its sealed manifest.")
            .refuses(&[P::SnapshotNotFound, P::TransferLimit]),
        put("/api/sync/snapshots/{id}", snapshots::write)
            .does("Completes a snapshot, all of whose parts are there")
            .by_app_token()
            .path::<SnapshotId>("id", id)
            .takes_large::<PutSnapshot>()
            .answers_nothing("The snapshot is the newest.")
            .refuses(&[
                P::InvalidValue,
                P::SnapshotNotFound,
                P::NoEnvelope,
                P::OwnerProofInvalid,
                P::KeyMismatch,
                P::SnapshotStale,
                P::HistoryDiverged,
                P::SnapshotIncomplete,
                P::QuotaExceeded,
                P::StorageLimitReached,
                P::UserLimitReached,
                P::TransferLimit,
            ])
            .writes(),
        get("/api/sync/snapshots/{id}/parts/{part}", snapshots::read_part)
            .does("Reads a part of a snapshot")
            .by_app_token()
            .path::<SnapshotId>("id", id)
            .parameter(Place::Path, "part", part, part_number)
            .answers::<SnapshotPartAnswer>("The sealed part.")
            .refuses(&[P::SnapshotNotFound, P::TransferLimit]),
        put("/api/sync/snapshots/{id}/parts/{part}", snapshots::write_part)
            .does("Stores a part of a snapshot that has no manifest yet")
            .by_app_token()
            .path::<SnapshotId>("id", id)
            .parameter(Place::Path, "part", part, part_number)
            .takes_large::<PutSnapshotPart>()
            .answers_nothing("The part is stored.")
            .refuses(&[
                P::InvalidValue,
                P::SnapshotNotFound,
                P::NoEnvelope,
                P::SnapshotStale,
                P::QuotaExceeded,
                P::StorageLimitReached,
                P::UserLimitReached,
                P::TransferLimit,
            ])
            .writes(),
    ]
}

fn blobs() -> Vec<Operation> {
    vec![
        get("/api/sync/blobs", blobs::list)
            .does("Lists blobs in order of their ids")
            .by_app_token()
            .optional_query::<BlobId>("after", "The blob after which to go on.")
            .answers::<BlobList>("A page of blobs.")
            .refuses(&[P::InvalidValue]),
        post("/api/sync/blobs/upload", blobs::upload)
            .does("Asks for a URL to upload to, or begins an upload in parts, unless the blob is there")
            .by_app_token()
            .takes::<BlobUpload>()
            .answers::<BlobUploadAnswer>("The URL.")
            .refuses(&[
                P::InvalidValue,
                P::BlobTooLarge,
                P::QuotaExceeded,
                P::StorageLimitReached,
                P::UserLimitReached,
                P::TransferLimit,
                P::UploadNotFound,
            ])
            .writes(),
        get("/api/sync/blobs/uploads/{upload_id}", blobs::upload_status)
            .does("Tells which parts of an upload have arrived")
            .by_app_token()
            .path::<UploadId>("upload_id", "The upload.")
            .answers::<UploadStatus>("The parts.")
            .refuses(&[P::UploadNotFound]),
        post("/api/sync/blobs/uploads/{upload_id}/parts", blobs::part)
            .does("Asks for a URL to upload one part to")
            .by_app_token()
            .path::<UploadId>("upload_id", "The upload.")
            .takes::<UploadPart>()
            .answers::<UploadPartAnswer>("The URL.")
            .refuses(&[P::InvalidValue, P::UploadNotFound]),
        delete("/api/sync/blobs/uploads/{upload_id}", blobs::end_upload)
            .does("Ends an upload without a blob")
            .by_app_token()
            .path::<UploadId>("upload_id", "The upload.")
            .answers_nothing("The upload is over.")
            .refuses(&[P::UploadNotFound])
            .writes(),
        post("/api/sync/blobs/confirm", blobs::confirm)
            .does("Makes an uploaded object count")
            .by_app_token()
            .takes::<BlobConfirm>()
            .answers_nothing("The blob is there.")
            .refuses(&[
                P::InvalidValue,
                P::UploadIncomplete,
                P::BlobTooLarge,
                P::StorageLimitReached,
            ])
            .writes(),
        post("/api/sync/blobs/download", blobs::download)
            .does("Asks for a URL to download from")
            .by_app_token()
            .takes::<BlobDownload>()
            .answers::<BlobDownloadAnswer>("The URL.")
            .refuses(&[P::BlobNotFound, P::TransferLimit]),
        delete("/api/sync/blobs/{hash}", blobs::remove)
            .does("Deletes a blob; an upload of the same one brings it back for 30 days")
            .by_app_token()
            .path::<BlobId>("hash", "The blob.")
            .answers_nothing("The blob is deleted.")
            .refuses(&[P::BlobNotFound])
            .writes(),
        presigned(get("/blobs/{object_key}", objects::read))
            .does("Downloads an object, or one range of it")
            .answer(Answer {
                status: 200,
                description: "The object.",
                content: Content::Other("application/octet-stream"),
                headers: &["ETag", "Accept-Ranges"],
            })
            .answer(Answer {
                status: 206,
                description: "The range that `Range` asked for.",
                content: Content::Other("application/octet-stream"),
                headers: &["ETag", "Accept-Ranges", "Content-Range"],
            })
            .refuses(&[P::BlobNotFound, P::RangeNotSatisfiable]),
        presigned(put("/blobs/{object_key}", objects::write))
            .does("Uploads an object, or one part of it")
            .query::<SealedHash>("hash", "The hash of the object, or of the part.")
            .optional_query::<u32>("part", "The number of the part.")
            .takes_object()
            .answer(Answer {
                status: 200,
                description: "The object is stored.",
                content: Content::Nothing,
                headers: &[],
            })
            .refuses(&[P::LengthMismatch, P::HashMismatch, P::ObjectExists, P::Timeout])
            .writes(),
    ]
}

/// An operation behind a URL that the server gave out.
fn presigned(operation: Operation) -> Operation {
    operation
        .by(Access::PresignedUrl)
        .always_admitted()
        .path::<ObjectKey>("object_key", "The object.")
        .parameter(
            Place::Query,
            "op",
            "The method that the URL is for.",
            |_| json_schema!({ "enum": ["get", "put", "part"] }),
        )
        .query::<u64>("size", "The size of the object, or of the part, in bytes.")
        .query::<u64>("expires", "When the URL stops working, in seconds since 1970.")
        .query::<String>("by", "A pseudonym of the account that asked for the URL.")
        .query::<String>("sig", "The server's signature of all of this.")
}

fn server() -> Vec<Operation> {
    vec![
        get("/healthz", health::healthz)
            .does("Tells that the process answers")
            .always_admitted()
            .answer(json_answer("It does, and in which versions.", |_| {
                json_schema!({
                    "type": "object",
                    "required": ["status", "version", "protocol"],
                    "properties": {
                        "status": { "const": "ok" },
                        "version": { "type": "string", "description": "The version of the server." },
                        "protocol": { "type": "integer", "description": "The version of the protocol." },
                    },
                })
            })),
        get("/readyz", health::readyz)
            .does("Tells whether the store reads and writes and the server is not stopping")
            .always_admitted()
            .answer(json_answer("It is ready.", |_| status_is("ready")))
            .refuses(&[P::Overloaded, P::StoreUnavailable])
            .writes(),
        get("/metrics", metrics::read)
            .does("Reads the server's figures, for Prometheus")
            .by(Access::Metrics)
            .always_admitted()
            .answer(Answer {
                status: 200,
                description: "The figures, as OpenMetrics text.",
                content: Content::Other(metrics::MEDIA_TYPE),
                headers: &[],
            })
            .refuses(&[P::NotFound, P::TokenInvalid, P::Overloaded, P::StoreUnavailable]),
        get("/api/openapi.json", documents::openapi)
            .does("Reads this document")
            .always_admitted()
            .answer(json_answer(
                "OpenAPI 3.1.",
                |_| json_schema!({ "type": "object", "required": ["openapi"] }),
            )),
        get("/api/docs", documents::page)
            .does("Shows this document to people")
            .always_admitted()
            .answer(Answer {
                status: 200,
                description: "One page that loads nothing.",
                content: Content::Other("text/html"),
                headers: &["Content-Security-Policy"],
            }),
    ]
}

const HTML: Content = Content::Other("text/html");
const REFUSED_PAGE: Answer = Answer {
    status: 400,
    description: "A page that says why the request cannot go on, and leads nowhere",
    content: HTML,
    // A problem of this status has no policy.
    headers: &[],
};
const BACK_TO_THE_APP: Answer = Answer {
    status: 303,
    description: "Back to the app, with `code` or `error`, `state` and `iss` (RFC 9207).",
    content: Content::Nothing,
    headers: &["Location"],
};
const REFUSED_GRANT: Answer = Answer {
    status: 400,
    description: "A refusal of RFC 6749, section 5.2",
    content: Content::Json(SchemaGenerator::subschema_for::<OAuthError>),
    headers: &[],
};

const fn page(description: &'static str) -> Answer {
    Answer {
        status: 200,
        description,
        content: HTML,
        headers: &["Content-Security-Policy"],
    }
}

fn browser() -> Vec<Operation> {
    vec![
        get("/oauth/authorize", oauth::authorize)
            .does("Shows the sign-in or the sign-up page (RFC 6749, section 4.1.1)")
            .optional_query::<String>("response_type", "`code`.")
            .optional_query::<String>("client_id", "The publishable API key.")
            .optional_query::<String>("redirect_uri", "A loopback address, or a registered one.")
            .optional_query::<String>("state", "Given back as it is; needed.")
            .optional_query::<String>("code_challenge", "SHA-256 of the verifier, in base64url (RFC 7636).")
            .optional_query::<String>("code_challenge_method", "`S256`.")
            .optional_query::<String>("prompt", "`create` shows the sign-up page.")
            .answer(page("The page."))
            .answer(BACK_TO_THE_APP)
            .answer(REFUSED_PAGE),
        get("/account/recover", oauth::recover)
            .does("Shows the page for a forgotten password")
            .answer(page(
                "The page. A query is that of an authorization request, to go back to.",
            )),
        post("/oauth/sign-in", oauth::sign_in)
            .does("Finishes the login of the sign-in page")
            .takes::<BrowserSignIn>()
            .answers::<BrowserSignedIn>("What the consent page is asked for.")
            .refuses(&[
                P::LoginExpired,
                P::InvalidCredentials,
                P::InvalidValue,
                P::ApiKeyInvalid,
                P::MailCodeInvalid,
                P::TooManyGuesses,
            ])
            .writes(),
        post("/oauth/consent", oauth::consent)
            .does("Shows the consent page")
            .takes_form(&[("grant", "Of `/oauth/sign-in`.")])
            .answer(page("The page."))
            .answer(REFUSED_PAGE),
        post("/oauth/authorize", oauth::decide)
            .does("Answers the consent page")
            .takes_form(&[
                ("grant", "Of `/oauth/sign-in`."),
                ("answer", "`yes`, or anything else."),
            ])
            .answer(BACK_TO_THE_APP)
            .answer(REFUSED_PAGE)
            .writes(),
        post("/oauth/device_authorization", oauth_device::begin)
            .does("Asks for the codes of a machine without a browser (RFC 8628)")
            .takes_form(&[
                ("client_id", "The publishable API key."),
                ("device_name", "What the person is shown of the machine; up to 100 bytes."),
            ])
            .answer(json_answer(
                "The codes.",
                SchemaGenerator::subschema_for::<DeviceAuthorization>,
            ))
            .answer(REFUSED_GRANT)
            .writes(),
        post("/oauth/token", oauth::token)
            .does("Exchanges a code or a refresh secret for a token (RFC 6749, sections 4.1.3 and 6; RFC 8628, section 3.4)")
            .takes_form(&[
                (
                    "grant_type",
                    "`authorization_code`, `refresh_token` or `urn:ietf:params:oauth:grant-type:device_code`.",
                ),
                ("device_code", "Of `/oauth/device_authorization`. Gives a session once."),
                ("client_id", "The publishable API key."),
                ("code", "From the redirect. Good for 60 seconds, once."),
                ("redirect_uri", "As at `/oauth/authorize`."),
                ("code_verifier", "The verifier of the challenge (RFC 7636)."),
                ("refresh_token", "Of the last answer."),
            ])
            .answer(json_answer(
                "The tokens of a session.",
                SchemaGenerator::subschema_for::<OAuthTokens>,
            ))
            .answer(REFUSED_GRANT)
            .writes(),
        post("/oauth/revoke", oauth::revoke)
            .does("Ends the session of a token or of a refresh secret (RFC 7009)")
            .takes_form(&[
                ("client_id", "The publishable API key."),
                ("token", "An access token or a refresh token."),
            ])
            .answer(Answer {
                status: 200,
                description: "The session has ended, or there was none.",
                content: Content::Nothing,
                headers: &[],
            })
            .answer(REFUSED_GRANT)
            .writes(),
        get("/.well-known/oauth-authorization-server", oauth::metadata)
            .does("Describes the authorization server (RFC 8414)")
            .always_admitted()
            .answer(json_answer(
                "The metadata.",
                SchemaGenerator::subschema_for::<OAuthMetadata>,
            )),
        get("/assets/{name}", oauth::asset)
            .does("Reads a file of the pages")
            .parameter(Place::Path, "name", "With the hash of the file in it.", asset_name)
            .always_admitted()
            .answer(Answer {
                status: 200,
                description: "The file.",
                content: Content::OneOf(&[
                    "text/css",
                    "text/javascript",
                    "application/wasm",
                    "font/woff2",
                    "image/svg+xml",
                ]),
                headers: &["Content-Security-Policy"],
            }),
    ]
}

/// A sign-in ends with one of two bodies.
fn login_body(generator: &mut SchemaGenerator) -> Schema {
    let bodies = [
        generator.subschema_for::<LoginFinish>(),
        generator.subschema_for::<PasswordLogin>(),
    ];
    json_schema!({ "anyOf": bodies })
}

fn asset_name(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "pattern": "^[a-z-]{1,32}\\.[0-9a-f]{16}\\.[a-z0-9]{2,5}$" })
}

fn part_number(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer", "minimum": 0, "maximum": limits::SNAPSHOT_PARTS_MAX - 1 })
}

fn status_is(status: &str) -> Schema {
    json_schema!({ "type": "object", "required": ["status"], "properties": { "status": { "const": status } } })
}

fn json_answer(description: &'static str, schema: crate::openapi::SchemaOf) -> Answer {
    Answer {
        status: 200,
        description,
        content: Content::Json(schema),
        headers: &[],
    }
}
