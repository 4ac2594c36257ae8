-- The first schema.
--
-- Times are seconds since 1970. Ids are their raw bytes. Small integer keys stand for ids wherever rows repeat them.
-- Nothing in here can be read without the users' keys, except what docs/threat-model.md lists: addresses, names, sizes
-- and times.

-- Facts about the database itself: exactly one row.
CREATE TABLE server (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    -- The OPRF seed that the password records were made under; null until the first start.
    seed_id  BLOB CHECK (length(seed_id) = 16),
    -- Counted up by the readiness check, which must write to know that it can.
    checks   INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO server (only_row) VALUES (1);

-- People who administer apps together.
CREATE TABLE teams (
    team_key   INTEGER PRIMARY KEY,
    team_id    BLOB NOT NULL UNIQUE CHECK (length(team_id) = 16),
    name       TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE apps (
    app_key    INTEGER PRIMARY KEY,
    app_id     BLOB NOT NULL UNIQUE CHECK (length(app_id) = 16),
    -- Null if only the operator administers it.
    team_key   INTEGER REFERENCES teams (team_key),
    name       TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    -- 1 if the app is deleted and streams of it remain: it has no name and no key, and its sessions have ended.
    is_deleted INTEGER NOT NULL DEFAULT 0 CHECK (is_deleted IN (0, 1)),
    -- What each user may store in the app, and how often that may move in a month; null if that is not limited.
    user_megabytes        INTEGER CHECK (user_megabytes > 0),
    user_burst_hundredths INTEGER CHECK (user_burst_hundredths > 0)
) STRICT;
CREATE UNIQUE INDEX app_names ON apps (name) WHERE is_deleted = 0;
CREATE INDEX apps_of_team ON apps (team_key) WHERE team_key IS NOT NULL;
CREATE INDEX apps_to_sweep ON apps (app_key) WHERE is_deleted = 1;

CREATE TABLE api_keys (
    api_key_key INTEGER PRIMARY KEY,
    app_key     INTEGER NOT NULL REFERENCES apps (app_key),
    -- The whole key: publishable, so that every copy of the app contains it.
    api_key     TEXT NOT NULL UNIQUE,
    created_at  INTEGER NOT NULL,
    ends_at     INTEGER
) STRICT;
CREATE INDEX api_keys_of_app ON api_keys (app_key);

-- What an app may store, and how often all of that may move in a month. An app without a row has no limits.
CREATE TABLE plans (
    app_key          INTEGER NOT NULL REFERENCES apps (app_key),
    gigabytes        INTEGER NOT NULL CHECK (gigabytes > 0),
    burst_hundredths INTEGER NOT NULL CHECK (burst_hundredths > 0),
    changed_at       INTEGER NOT NULL,
    -- The parts of storage, and of the transfer of a month, that the owners of the app were last told of, in percent.
    told_storage     INTEGER NOT NULL DEFAULT 0,
    told_transfer    INTEGER NOT NULL DEFAULT 0,
    told_month       INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (app_key)
) STRICT, WITHOUT ROWID;

-- Use of an app: sealed bytes that moved in an hour, and what it stored when it was last looked at in that hour. Hours are
-- counted since 1970.
CREATE TABLE usage_hours (
    app_key      INTEGER NOT NULL REFERENCES apps (app_key),
    hour         INTEGER NOT NULL,
    moved_bytes  INTEGER NOT NULL DEFAULT 0,
    stored_bytes INTEGER,
    PRIMARY KEY (app_key, hour)
) STRICT, WITHOUT ROWID;
CREATE INDEX usage_hours_by_time ON usage_hours (hour);

-- The sum of the hours of a calendar month in UTC, so that nothing adds 700 rows up. Months are counted since the year 0.
CREATE TABLE usage_months (
    app_key     INTEGER NOT NULL REFERENCES apps (app_key),
    month       INTEGER NOT NULL,
    moved_bytes INTEGER NOT NULL,
    PRIMARY KEY (app_key, month)
) STRICT, WITHOUT ROWID;

-- The last addition of each node to these sums: one that is sent again is not added again.
CREATE TABLE usage_flushes (
    meter      BLOB PRIMARY KEY CHECK (length(meter) = 16),
    number     INTEGER NOT NULL,
    flushed_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX usage_flushes_by_time ON usage_flushes (flushed_at);

-- Where a browser sign-in may return to, beside the loopback address, which every app may use.
CREATE TABLE redirects (
    app_key    INTEGER NOT NULL REFERENCES apps (app_key),
    uri        TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (app_key, uri)
) STRICT, WITHOUT ROWID;

CREATE TABLE accounts (
    account_key       INTEGER PRIMARY KEY,
    user_id           BLOB NOT NULL UNIQUE CHECK (length(user_id) = 16),
    email             TEXT NOT NULL UNIQUE,
    -- The credential identifier of the record, which its OPRF key follows from: another one for every record.
    credential_id     BLOB NOT NULL CHECK (length(credential_id) = 16),
    record            BLOB NOT NULL,
    -- The OPRF seed that the record was made under. The record is valid while that seed is the server's: a seed file that
    -- is found again makes the records of its time valid again. Null only until the first seed is claimed.
    seed_id           BLOB CHECK (length(seed_id) = 16),
    vault             BLOB NOT NULL,
    vault_version     INTEGER NOT NULL DEFAULT 1,
    created_at        INTEGER NOT NULL,
    email_verified_at INTEGER,
    -- When it is deleted, if its owner asked for that. A sign-in before takes it back.
    delete_at         INTEGER,
    -- 1 if the row is all that is left of a deleted account: it has an id of its own, which nobody was ever told, holds no
    -- address, and owns the streams until they are swept, piece by piece.
    is_deleted        INTEGER NOT NULL DEFAULT 0 CHECK (is_deleted IN (0, 1))
) STRICT;
CREATE INDEX accounts_to_delete ON accounts (delete_at) WHERE delete_at IS NOT NULL;
CREATE INDEX accounts_to_sweep ON accounts (account_key) WHERE is_deleted = 1;

CREATE TABLE team_members (
    team_key    INTEGER NOT NULL REFERENCES teams (team_key),
    account_key INTEGER NOT NULL REFERENCES accounts (account_key),
    role        TEXT NOT NULL CHECK (role IN ('owner', 'developer')),
    joined_at   INTEGER NOT NULL,
    PRIMARY KEY (team_key, account_key)
) STRICT, WITHOUT ROWID;
CREATE INDEX team_members_of_account ON team_members (account_key);

-- Network addresses that an account was used from, as keyed hashes: strangers elsewhere cannot use its guesses up for it.
CREATE TABLE familiar_places (
    account_key INTEGER NOT NULL REFERENCES accounts (account_key),
    address     BLOB NOT NULL CHECK (length(address) = 16),
    used_at     INTEGER NOT NULL,
    PRIMARY KEY (account_key, address)
) STRICT, WITHOUT ROWID;
CREATE INDEX familiar_places_by_use ON familiar_places (used_at);

-- What is left of allowances that were drawn on, by a keyed hash of what they are of. No row is an allowance that is whole;
-- a row is kept for a while after it is whole, because the clocks of nodes differ.
CREATE TABLE allowances (
    allowance  BLOB PRIMARY KEY CHECK (length(allowance) = 16),
    -- Millionths of a token, and when they were counted.
    left_micro INTEGER NOT NULL,
    counted_at INTEGER NOT NULL,
    kept_until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX allowances_by_end ON allowances (kept_until);

-- The newest vault of each earlier generation, numbered by the vault version that replaced it.
CREATE TABLE earlier_vaults (
    account_key INTEGER NOT NULL REFERENCES accounts (account_key),
    replaced_by INTEGER NOT NULL,
    vault       BLOB NOT NULL,
    PRIMARY KEY (account_key, replaced_by)
) STRICT, WITHOUT ROWID;

CREATE TABLE invites (
    code       BLOB PRIMARY KEY CHECK (length(code) = 32),
    created_at INTEGER NOT NULL,
    -- The account that used it up.
    used_by    INTEGER REFERENCES accounts (account_key)
) STRICT, WITHOUT ROWID;
-- Which invitation an account used up: without it a deletion would look at all of them.
CREATE INDEX invites_of_account ON invites (used_by) WHERE used_by IS NOT NULL;

-- Registrations whose address is not confirmed yet. No sign-in without the mailed code finds them, and no other table refers
-- to them. Those of one address are independent of each other: each has its own password and its own code.
--
-- If the address has an account, nobody gets the code: the row exists only so that a registration costs the same for every
-- address.
CREATE TABLE pending_accounts (
    pending_key   INTEGER PRIMARY KEY,
    user_id       BLOB NOT NULL UNIQUE CHECK (length(user_id) = 16),
    email         TEXT NOT NULL,
    credential_id BLOB NOT NULL CHECK (length(credential_id) = 16),
    record        BLOB NOT NULL,
    seed_id       BLOB CHECK (length(seed_id) = 16),
    vault         BLOB NOT NULL,
    -- The invitation that the account will use up.
    invite        BLOB CHECK (length(invite) = 32),
    -- The hash of the mailed code.
    code          BLOB NOT NULL CHECK (length(code) = 32),
    created_at    INTEGER NOT NULL,
    expires_at    INTEGER NOT NULL
) STRICT;
CREATE INDEX pending_accounts_by_email ON pending_accounts (email, pending_key);
CREATE INDEX pending_accounts_by_expiry ON pending_accounts (expires_at);

-- Sign-ins that machines without a browser wait for (RFC 8628). Codes are hashes; what was asked, and who allowed it, is sealed
-- by the server, so that the database tells neither.
CREATE TABLE device_grants (
    grant_key   INTEGER PRIMARY KEY,
    device_code BLOB NOT NULL UNIQUE CHECK (length(device_code) = 32),
    user_code   BLOB NOT NULL UNIQUE CHECK (length(user_code) = 32),
    app_id      BLOB NOT NULL CHECK (length(app_id) = 16),
    asked       BLOB NOT NULL,
    state       TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'allowed', 'denied', 'used')),
    -- Who allowed it, until the machine has asked.
    allowed_by  BLOB,
    -- Seconds that the machine must leave between two polls, and when it polled last.
    poll_seconds INTEGER NOT NULL,
    polled_at   INTEGER,
    expires_at  INTEGER NOT NULL,
    -- Until then, a late poll is told that the code has expired.
    kept_until  INTEGER NOT NULL
) STRICT;
CREATE INDEX device_grants_by_end ON device_grants (kept_until);

-- The codes for resetting a password. Several of an account are valid at once: a newer one ends none.
CREATE TABLE mail_codes (
    code        BLOB PRIMARY KEY CHECK (length(code) = 32),
    account_key INTEGER NOT NULL REFERENCES accounts (account_key),
    expires_at  INTEGER NOT NULL,
    -- How often a reset was started with it.
    starts      INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX mail_codes_of_account ON mail_codes (account_key);

-- One row for each (app, account) that was ever used. Sequence, head and sizes stand here so that no request counts rows.
CREATE TABLE streams (
    stream_key       INTEGER PRIMARY KEY,
    user_id          BLOB NOT NULL REFERENCES accounts (user_id),
    app_id           BLOB NOT NULL REFERENCES apps (app_id),
    seq              INTEGER NOT NULL DEFAULT 0,
    head             BLOB NOT NULL CHECK (length(head) = 32),
    -- Of the newest envelope; null and 0 until encryption is set up.
    key_id           BLOB CHECK (length(key_id) = 16),
    envelope_version INTEGER NOT NULL DEFAULT 0,
    batch_bytes      INTEGER NOT NULL DEFAULT 0,
    blob_bytes       INTEGER NOT NULL DEFAULT 0,
    -- Blobs, deleted ones included until they are swept.
    blob_count       INTEGER NOT NULL DEFAULT 0,
    -- Of these bytes, those of deleted blobs that can still be brought back. They do not count against the plan of the app.
    deleted_bytes    INTEGER NOT NULL DEFAULT 0,
    -- Objects of replaced blobs that are not deleted yet.
    replaced_bytes   INTEGER NOT NULL DEFAULT 0,
    replaced_count   INTEGER NOT NULL DEFAULT 0,
    -- Parts and manifests, unfinished ones and those that wait for the sweep included.
    snapshot_bytes   INTEGER NOT NULL DEFAULT 0,
    -- The sequence of the newest snapshot, 0 if there is none.
    snapshot_seq     INTEGER NOT NULL DEFAULT 0,
    -- Where the log begins: everything up to here is in a snapshot only. The head is null at sequence 0.
    base_seq         INTEGER NOT NULL DEFAULT 0,
    base_head        BLOB CHECK (length(base_head) = 32),
    -- How far the batches below the base are deleted.
    swept_seq        INTEGER NOT NULL DEFAULT 0,
    UNIQUE (user_id, app_id)
) STRICT;
-- To find the streams of a deleted app.
CREATE INDEX streams_of_app ON streams (app_id);
CREATE INDEX streams_to_sweep ON streams (stream_key) WHERE swept_seq < base_seq;

CREATE TABLE devices (
    device_key   INTEGER PRIMARY KEY,
    stream_key   INTEGER NOT NULL REFERENCES streams (stream_key),
    device_id    BLOB NOT NULL CHECK (length(device_id) = 16),
    name         TEXT NOT NULL,
    platform     TEXT NOT NULL,
    created_at   INTEGER NOT NULL,
    last_seen_at INTEGER NOT NULL,
    revoked_at   INTEGER,
    -- A place in the log that the device's app has reached. It may be an earlier one than the newest, never a later.
    pulled_seq   INTEGER NOT NULL DEFAULT 0,
    -- What its installation is found again by; null if it is found by its name.
    installation_id BLOB CHECK (length(installation_id) = 16),
    UNIQUE (stream_key, device_id)
) STRICT;
CREATE UNIQUE INDEX device_names ON devices (stream_key, name) WHERE revoked_at IS NULL;
CREATE UNIQUE INDEX device_installations ON devices (stream_key, installation_id)
    WHERE revoked_at IS NULL AND installation_id IS NOT NULL;

-- Sessions that have not ended; ending one deletes its row. The device is set once and never changes: a revocation ends
-- every session that ever was the device's.
CREATE TABLE sessions (
    session_key     INTEGER PRIMARY KEY,
    session_id      BLOB NOT NULL UNIQUE CHECK (length(session_id) = 16),
    stream_key      INTEGER NOT NULL REFERENCES streams (stream_key),
    device_key      INTEGER REFERENCES devices (device_key),
    refresh_counter INTEGER NOT NULL,
    created_at      INTEGER NOT NULL,
    refreshed_at    INTEGER NOT NULL
) STRICT;
-- Sign-ins and unlocks that were finished a moment ago, so that nobody finishes one again. The session is the one that the
-- sign-in opened, null for an unlock.
CREATE TABLE finished_logins (
    login       BLOB PRIMARY KEY CHECK (length(login) = 32),
    session_id  BLOB CHECK (length(session_id) = 16),
    finished_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX finished_logins_by_time ON finished_logins (finished_at);
CREATE INDEX sessions_of_stream ON sessions (stream_key);
CREATE INDEX sessions_of_device ON sessions (device_key) WHERE device_key IS NOT NULL;

CREATE TABLE envelopes (
    stream_key INTEGER NOT NULL REFERENCES streams (stream_key),
    version    INTEGER NOT NULL,
    envelope   BLOB NOT NULL,
    key_id     BLOB NOT NULL CHECK (length(key_id) = 16),
    -- The owner key of that master key: it must sign the next envelope.
    owner      BLOB NOT NULL CHECK (length(owner) = 32),
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (stream_key, version)
) STRICT, WITHOUT ROWID;

-- The sealed bytes of larger batches, in the order of their arrival in any stream, so that appends are sequential writes.
CREATE TABLE sealed_batches (
    sealed_key INTEGER PRIMARY KEY,
    sealed     BLOB NOT NULL
) STRICT;

-- What the chain needs of every batch. Apart from most of the sealed bytes, so that the digests of a stream lie side by
-- side, a page knows the sizes before it reads any bytes, and a batch id with its first answer can outlive its bytes.
--
-- device_key and sealed_key are no declared references: they would cost a look-up for each append, and a scan of all
-- batches for each device or sealed batch that is ever deleted.
CREATE TABLE batches (
    stream_key   INTEGER NOT NULL REFERENCES streams (stream_key),
    last_seq     INTEGER NOT NULL,
    entry_count  INTEGER NOT NULL CHECK (entry_count > 0),
    batch_id     BLOB NOT NULL CHECK (length(batch_id) = 16),
    device_key   INTEGER NOT NULL,
    key_id       BLOB NOT NULL CHECK (length(key_id) = 16),
    sealed_hash  BLOB NOT NULL CHECK (length(sealed_hash) = 32),
    -- The head after this batch: what a cursor at last_seq must carry.
    head         BLOB NOT NULL CHECK (length(head) = 32),
    sealed_bytes INTEGER NOT NULL,
    -- Where the sealed bytes are: a row of sealed_batches, or, if there are few, here. Small batches are read by the
    -- hundred, and should lie side by side.
    sealed_key   INTEGER,
    sealed       BLOB,
    PRIMARY KEY (stream_key, last_seq),
    CHECK (sealed_key IS NULL OR sealed IS NULL)
) STRICT, WITHOUT ROWID;
-- The stream first: ids are random, so that the entries of one stream go to its own few pages.
CREATE UNIQUE INDEX batch_ids ON batches (stream_key, batch_id);

-- What a batch was answered whose bytes are gone, the newest of each device: a push that is repeated late is still not
-- stored twice.
CREATE TABLE batch_answers (
    stream_key  INTEGER NOT NULL REFERENCES streams (stream_key),
    device_key  INTEGER NOT NULL,
    last_seq    INTEGER NOT NULL,
    entry_count INTEGER NOT NULL,
    batch_id    BLOB NOT NULL CHECK (length(batch_id) = 16),
    head        BLOB NOT NULL CHECK (length(head) = 32),
    PRIMARY KEY (stream_key, device_key, last_seq)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX batch_answer_ids ON batch_answers (stream_key, batch_id);

CREATE TABLE snapshots (
    snapshot_key INTEGER PRIMARY KEY,
    stream_key   INTEGER NOT NULL REFERENCES streams (stream_key),
    snapshot_id  BLOB NOT NULL CHECK (length(snapshot_id) = 16),
    state        TEXT NOT NULL CHECK (state IN ('unfinished', 'kept', 'condemned')),
    -- Of an unfinished one, when its last part came; else when its manifest did.
    touched_at   INTEGER NOT NULL,
    size_bytes   INTEGER NOT NULL DEFAULT 0,
    -- Null until the manifest is there.
    key_id       BLOB CHECK (length(key_id) = 16),
    seq          INTEGER,
    head         BLOB CHECK (length(head) = 32),
    part_count   INTEGER,
    manifest     BLOB,
    -- The owner key that signed the manifest.
    owner        BLOB CHECK (length(owner) = 32),
    UNIQUE (stream_key, snapshot_id),
    UNIQUE (stream_key, snapshot_key)
) STRICT;
CREATE INDEX snapshots_of_stream ON snapshots (stream_key, seq) WHERE state = 'kept';
CREATE INDEX snapshots_by_state ON snapshots (state, touched_at);

CREATE TABLE snapshot_parts (
    part_key     INTEGER PRIMARY KEY,
    stream_key   INTEGER NOT NULL,
    snapshot_key INTEGER NOT NULL,
    part         INTEGER NOT NULL,
    sealed       BLOB NOT NULL,
    UNIQUE (stream_key, snapshot_key, part),
    FOREIGN KEY (stream_key, snapshot_key) REFERENCES snapshots (stream_key, snapshot_key)
) STRICT;

-- Uploads that are begun and not confirmed.
CREATE TABLE uploads (
    upload_key INTEGER PRIMARY KEY,
    stream_key INTEGER NOT NULL REFERENCES streams (stream_key),
    upload_id  BLOB NOT NULL CHECK (length(upload_id) = 16),
    object_key BLOB NOT NULL UNIQUE CHECK (length(object_key) = 32),
    blob_id    BLOB NOT NULL CHECK (length(blob_id) = 32),
    size_bytes INTEGER NOT NULL,
    -- The hash that the object must have, unless the client names it at the end.
    sealed_hash BLOB CHECK (length(sealed_hash) = 32),
    key_id     BLOB NOT NULL CHECK (length(key_id) = 16),
    expires_at INTEGER NOT NULL,
    -- The name that the bucket gave an upload in parts.
    multipart_id TEXT,
    UNIQUE (stream_key, upload_id)
) STRICT;
CREATE INDEX uploads_of_blob ON uploads (stream_key, blob_id);
CREATE INDEX uploads_by_expiry ON uploads (expires_at);

-- Confirmed blobs; a deleted one stays until it is too late to bring it back.
CREATE TABLE blobs (
    stream_key INTEGER NOT NULL REFERENCES streams (stream_key),
    blob_id    BLOB NOT NULL CHECK (length(blob_id) = 32),
    object_key BLOB NOT NULL CHECK (length(object_key) = 32),
    size_bytes INTEGER NOT NULL,
    -- The hash of the object, as it was stored: what tells a rotten one.
    sealed_hash BLOB NOT NULL CHECK (length(sealed_hash) = 32),
    key_id     BLOB NOT NULL CHECK (length(key_id) = 16),
    created_at INTEGER NOT NULL,
    deleted_at INTEGER,
    PRIMARY KEY (stream_key, blob_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX blobs_by_deletion ON blobs (deleted_at) WHERE deleted_at IS NOT NULL;

-- Objects that nothing points at any more, until they were deleted twice.
CREATE TABLE condemned_objects (
    object_key  BLOB PRIMARY KEY CHECK (length(object_key) = 32),
    -- From when on it may be deleted.
    sweep_after INTEGER NOT NULL,
    -- How often it was deleted: an upload that ends after the first time makes it appear again.
    deletions   INTEGER NOT NULL DEFAULT 0,
    -- The stream and the size of a replaced object that was not deleted yet, and counts against the quota until then.
    stream_key  INTEGER,
    size_bytes  INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX condemned_by_time ON condemned_objects (sweep_after);
CREATE INDEX condemned_by_stream ON condemned_objects (stream_key) WHERE stream_key IS NOT NULL;
