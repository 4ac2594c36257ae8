//! All limits of the protocol: the name, the number, and the consequence of exceeding it. Sizes are in bytes, times in
//! seconds.

/// Entries in one batch. The SDK splits a larger push; the server answers `batch_too_large`.
pub const BATCH_ENTRIES_MAX: u32 = 500;
/// Plaintext of one batch, padding included.
pub const BATCH_PLAINTEXT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The growth of a plaintext by sealing: a nonce of 24 bytes and a tag of 16.
pub const SEAL_OVERHEAD_BYTES: usize = 40;
/// A sealed batch as the server stores it. Above: `batch_too_large`.
pub const BATCH_SEALED_BYTES_MAX: usize = BATCH_PLAINTEXT_BYTES_MAX + SEAL_OVERHEAD_BYTES;
/// The encoding of one entry. Above, the SDK refuses it and recommends a blob.
pub const ENTRY_BYTES_MAX: usize = 3 * 1024 * 1024;
/// Nesting of arrays and objects in the data of an entry.
pub const DATA_DEPTH_MAX: usize = 128;

/// Entries in one page of a pull. A page holds at least one batch and ends at a batch boundary.
pub const PAGE_ENTRIES_MAX: u32 = 500;
/// Sealed bytes in one page of a pull, if the client does not choose.
pub const PAGE_BYTES_DEFAULT: u32 = 1024 * 1024;
/// The most sealed bytes that a client may request in one page.
pub const PAGE_BYTES_MAX: u32 = 8 * 1024 * 1024;
/// Digests in one page of `GET /api/sync/chain`, and in a `behind` problem.
pub const CHAIN_PAGE_DIGESTS_MAX: u32 = 500;

/// Interval between two comments of an event stream.
pub const EVENT_COMMENT_SECONDS: u64 = 15;
/// Shortest pause before a client opens the next event stream, in milliseconds.
pub const EVENT_RETRY_MS_MIN: u64 = 1000;
/// Longest pause before a client opens the next event stream, in milliseconds. The server draws one for each stream.
pub const EVENT_RETRY_MS_MAX: u64 = 10_000;
/// One line of an event stream. A client gives a stream with a longer one up.
pub const EVENT_LINE_BYTES_MAX: usize = 256;

/// A body of `POST /api/sync/push`, or a part or manifest of a snapshot: sealed bytes in base64 and the fields around
/// them. Above: `body_too_large`.
pub const PUSH_BODY_BYTES_MAX: usize = BATCH_SEALED_BYTES_MAX / 3 * 4 + 8 * 1024;
/// Every other request body. Above: `body_too_large`.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// Bytes per second of the slowest supported connection: for each so many bytes of a request body, both sides add a
/// second to their time limits.
pub const SLOWEST_LINE_BYTES_PER_SECOND: u64 = 4 * 1024;

/// An envelope: the master keys of one stream, wrapped. Above: `invalid_value`.
pub const ENVELOPE_BYTES_MAX: usize = 4096;
/// Envelopes that the server keeps of one stream, the current one included.
pub const ENVELOPES_KEPT: u32 = 10;
/// Retired master keys in an envelope. Above: `RotationLimit` in the SDK.
pub const RETIRED_KEYS_MAX: usize = 24;
/// An account vault: the account key, wrapped. Above: `invalid_value`.
pub const VAULT_BYTES_MAX: usize = 4096;

/// A sealed part of a snapshot: its plaintext has the bounds of a batch's. Above: `invalid_value`.
pub const SNAPSHOT_PART_SEALED_BYTES_MAX: usize = BATCH_SEALED_BYTES_MAX;
/// Rows in one part of a snapshot.
pub const SNAPSHOT_PART_ROWS_MAX: u32 = 50_000;
/// Parts of one snapshot, which is 64 GiB of rows. Above: `invalid_value`.
pub const SNAPSHOT_PARTS_MAX: u32 = 16_384;
/// A sealed manifest: 13 bytes, and 36 for each part. Above: `invalid_value`.
pub const SNAPSHOT_MANIFEST_SEALED_BYTES_MAX: usize = 13 + 36 * SNAPSHOT_PARTS_MAX as usize + SEAL_OVERHEAD_BYTES;
/// Unfinished snapshots of one stream. A further one replaces the oldest.
pub const SNAPSHOT_UPLOADS_MAX: u32 = 4;
/// Age of the last part at which an unfinished snapshot is swept.
pub const SNAPSHOT_UPLOAD_SECONDS: u64 = 24 * 3600;
/// Minimum age of a snapshot before the log that it covers is deleted: until then a client can skip a bad one.
pub const SNAPSHOT_SETTLE_SECONDS: u64 = 14 * 24 * 3600;
/// How long a device that was not seen still keeps the server from deleting the log that the device has not pulled.
pub const DEVICE_ACTIVE_SECONDS: u64 = 90 * 24 * 3600;

/// A file. Above: `blob_too_large`.
pub const BLOB_BYTES_MAX: u64 = 500 * 1000 * 1000;
/// A sealed blob: exactly [`SEAL_OVERHEAD_BYTES`] more than the file.
pub const BLOB_SEALED_BYTES_MAX: u64 = BLOB_BYTES_MAX + SEAL_OVERHEAD_BYTES as u64;
/// The largest sealed blob that is uploaded as a whole. A larger one is uploaded in parts.
pub const UPLOAD_WHOLE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// A part of an upload; the last one has what is left.
pub const UPLOAD_PART_BYTES: u64 = 8 * 1024 * 1024;
/// Parts of one upload.
pub const UPLOAD_PARTS_MAX: u32 = BLOB_SEALED_BYTES_MAX.div_ceil(UPLOAD_PART_BYTES) as u32;
/// How long an upload in parts may take, from its beginning to its confirmation.
pub const UPLOAD_IN_PARTS_SECONDS: u64 = 7 * 24 * 3600;
/// Blobs in one page of a listing.
pub const BLOB_PAGE_MAX: u32 = 500;
/// How long a presigned URL is valid.
pub const PRESIGNED_URL_SECONDS: u64 = 3600;
/// Uploads of one blob and size that a confirmation without an id looks at, the newest first.
pub const CONFIRM_UPLOADS_MAX: usize = 10;
/// How long after the last URL that it may have given out expired an unconfirmed upload is swept.
pub const UPLOAD_SWEEP_SECONDS: u64 = 3600;
/// How long after the sweep of an object it is swept again: an upload that began before its URL expired may have ended
/// since.
pub const SECOND_SWEEP_SECONDS: u64 = 24 * 3600;
/// How long an upload can restore a deleted blob.
pub const BLOB_UNDELETE_SECONDS: u64 = 30 * 24 * 3600;

/// How often a node adds what moved to the use of each app, and reads the limits of the apps.
pub const METER_SECONDS: u64 = 3;
/// How often a node reads what an app stores that is below 80 % of its limit. Above, it reads every [`METER_SECONDS`].
pub const STORED_READ_SECONDS: u64 = 30;
/// Bytes that each user of an app over its transfer budget may move in a minute, in each way: push, pull, upload, download. A
/// call takes 1 KiB at least. One that is larger than what is left passes while anything is, and what it takes has to grow back.
pub const FLOOR_BYTES_A_MINUTE: u64 = 64 * 1024;
/// Minutes that one call takes at most over the transfer budget: a day.
pub const FLOOR_MINUTES_MAX: u64 = 24 * 60;
/// In how many seconds what one user may move of an app grows back, if the app limits its users: 30 days.
pub const USER_SHARE_SECONDS: u64 = 30 * 24 * 3600;

/// An e-mail address (RFC 5321, section 4.5.3.1). Above: `invalid_value`.
pub const EMAIL_BYTES_MAX: usize = 254;
/// The name of a device, in bytes of UTF-8. Above, or empty: `invalid_value`.
pub const DEVICE_NAME_BYTES_MAX: usize = 100;
/// Devices of one account in one app, revoked ones not counted. Above: `device_limit`.
pub const DEVICES_MAX: u32 = 100;
/// The name of an app or a team, in bytes of UTF-8.
pub const APP_NAME_BYTES_MAX: usize = 100;
/// Apps of one team.
pub const TEAM_APPS_MAX: u64 = 50;
/// Members of one team.
pub const TEAM_MEMBERS_MAX: usize = 100;

/// How long the server's sealed state of a login or registration is valid.
pub const LOGIN_SECONDS: u64 = 60;

/// The time from opening the sign-in page of a browser to the proof of the password. Later: `login_expired`. A new account waits
/// for a mail meanwhile.
pub const AUTHORIZATION_SECONDS: u64 = 3600;
/// The time from the proof of the password to the answer on the consent page. The owner of a new account writes its recovery code
/// down meanwhile. Later, the app starts again.
pub const CONSENT_SECONDS: u64 = 600;
/// How long the code of a browser sign-in can be exchanged. Later: `invalid_grant`.
pub const AUTHORIZATION_CODE_SECONDS: u64 = 60;
/// How long a machine without a browser can wait for its sign-in. Later: `expired_token`.
pub const DEVICE_GRANT_SECONDS: u64 = 600;
/// Seconds that such a machine leaves between two polls.
pub const DEVICE_POLL_SECONDS: u64 = 5;
/// Seconds that are added to them at each poll that came too early: `slow_down`.
pub const DEVICE_SLOW_DOWN_SECONDS: u64 = 5;
/// Sign-ins of machines that one network address can ask for within [`DEVICE_GRANT_SECONDS`]. Server: `rate_limited`.
pub const DEVICE_STARTS_PER_ADDRESS_MAX: u32 = 30;
/// Sign-ins of machines that a server keeps. The oldest beyond it end.
pub const DEVICE_GRANTS_MAX: u32 = 100_000;
/// Wrong codes of machines that one account can type within [`DEVICE_GRANT_SECONDS`], in all of its sessions. Later: a page.
pub const DEVICE_GUESSES_PER_ACCOUNT_MAX: u32 = 10;
/// Wrong codes of machines that can be typed from one network address within [`DEVICE_GRANT_SECONDS`]. Later: a page.
pub const DEVICE_GUESSES_PER_ADDRESS_MAX: u32 = 30;
/// The time between the deletion of an account on its page and the moment from which nobody can bring it back: 14 days.
pub const ACCOUNT_DELETION_SECONDS: u64 = 14 * 24 * 3600;
/// How long a browser is signed in to the server's own pages. Later, the sign-in page.
pub const PAGE_SESSION_SECONDS: u64 = 12 * 3600;
/// Browsers that are signed in to the pages of one account. A further sign-in ends the oldest of their sessions.
pub const PAGE_SESSIONS_MAX: u32 = 20;
/// The `state` of a browser sign-in, which the server gives back as it is. Above: `invalid_request`.
pub const OAUTH_STATE_BYTES_MAX: usize = 1024;
/// An address that a browser sign-in may return to.
pub const REDIRECT_BYTES_MAX: usize = 512;
/// Registered addresses of one app.
pub const REDIRECTS_MAX: usize = 20;
/// Resets that may be started with one mailed code.
pub const RESET_STARTS_MAX: u32 = 5;
/// How long a mailed code to reset a password is valid.
pub const RESET_CODE_SECONDS: u64 = 3600;
/// Valid codes to reset the password of one account. While there are so many, a further request sends no mail.
pub const RESET_CODES_MAX: u32 = 8;
/// Pending accounts of one address. A further one replaces the oldest.
pub const PENDING_PER_ADDRESS_MAX: u32 = 32;
/// How long a token is valid.
pub const TOKEN_SECONDS: u64 = 7 * 24 * 3600;
/// How long a session lives after its last refresh.
pub const REFRESH_SECONDS: u64 = 90 * 24 * 3600;
/// Maximum age of the OPAQUE login behind a token with the account audience.
pub const ACCOUNT_TOKEN_SECONDS: u64 = 300;
/// Time until a revoked session stops working on every node.
pub const REVOCATION_SECONDS: u64 = 5;

/// Batch ids of each device that the server keeps after it deleted the batches.
pub const BATCH_IDS_KEPT_PER_DEVICE: u32 = 64;
