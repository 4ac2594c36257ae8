//! Records on a real PostgreSQL: every statement of `src/records` parses and runs there, and answers as on SQLite.

use std::{cell::RefCell, collections::BTreeSet, fs};

use synckit_protocol::{
    AppId, BlobId, InstallationId, KeyId, ObjectKey, TeamId, UploadId,
    limits::{BLOB_UNDELETE_SECONDS, SECOND_SWEEP_SECONDS},
    wire::{console::FirstSteps, devices::Platform, export::ExportLine},
};
use synckit_store::{
    AcceptNewSeed, AccountCreation, AddressChange, Allowance, AppPlan, AppStored, AppWrite, Blob, Charge, Counted,
    CountedKey, CredentialId, CredentialOf, DevicePoll, DeviceRegistration, DeviceRename, Draw, EndSessions,
    EnvelopeRestore, FinishedLogin, Hour, LoginUse, MemberWrite, Month, Moved, NewAccount, NewAddress, NewApp,
    NewDevice, NewEnvelope, NewMailCode, NewPendingAccount, NewSession, NewTeam, NewUpload, PAGES_APP, PasswordReset,
    Place, PlanPart, RedirectWrite, RefreshUse, SeedClaim, StoreError, StreamId, TeamCreation, TeamDeletion, TeamRole,
    UploadBegin, UsageFlush, UserLimit, VaultWrite, VersionedWrite,
    conformance::device_grants::new_grant,
    records::{
        Column, EachRow, Executor, ImpossibleValue, Row, Value, accounts, allowances, apps, blobs, device_grants,
        devices, envelopes, export, pending_accounts, plans, sessions, streams, teams, usage,
    },
    rules::quotas::{PlanRoom, Quota, Quotas, Usage},
    schema,
};
use tokio_postgres::{
    error::SqlState,
    types::{IsNull, ToSql, Type, private::BytesMut, to_sql_checked},
};

use crate::{
    database::Database,
    fixture::{
        NOW, app_id, device_id, id16, key, new_account, new_device, new_envelope, new_key, password, secret,
        session_id, stream_of, user_id,
    },
};

/// How many rows a portal returns at once.
const ROWS_AHEAD: i32 = 16;

/// A transaction, and the statements that it ran.
struct Transaction<'a> {
    inner: tokio_postgres::Transaction<'a>,
    statements: &'a RefCell<BTreeSet<String>>,
}

impl Executor for Transaction<'_> {
    async fn each(&self, sql: &'static str, values: &[Value<'_>], each: &mut EachRow<'_>) -> Result<(), StoreError> {
        self.statements.borrow_mut().insert(on_one_line(sql));
        let values: Vec<Parameter<'_>> = values.iter().copied().map(Parameter).collect();
        let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as _).collect();
        let portal = self.inner.bind(sql, &values).await.map_err(failure)?;
        loop {
            let rows = self.inner.query_portal(&portal, ROWS_AHEAD).await.map_err(failure)?;
            let is_last = rows.len() < ROWS_AHEAD.unsigned_abs() as usize;
            for row in &rows {
                if each(read(row))?.is_break() {
                    return Ok(());
                }
            }
            if is_last {
                return Ok(());
            }
        }
    }

    async fn execute(&self, sql: &'static str, values: &[Value<'_>]) -> Result<u64, StoreError> {
        self.statements.borrow_mut().insert(on_one_line(sql));
        let values: Vec<Parameter<'_>> = values.iter().copied().map(Parameter).collect();
        let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as _).collect();
        self.inner.execute(sql, &values).await.map_err(failure)
    }
}

fn failure(error: tokio_postgres::Error) -> StoreError {
    if error.code() == Some(&SqlState::FOREIGN_KEY_VIOLATION) {
        StoreError::NoSuchStream
    } else {
        StoreError::Database(Box::new(error))
    }
}

fn read(row: &tokio_postgres::Row) -> Row {
    let columns = row.columns().iter().enumerate().map(|(index, column)| {
        let column = match *column.type_() {
            Type::INT8 => row.get::<_, Option<i64>>(index).map(Column::Number),
            Type::TEXT => row.get::<_, Option<String>>(index).map(Column::Text),
            Type::BYTEA => row.get::<_, Option<Vec<u8>>>(index).map(Column::Bytes),
            ref other => panic!("a column of type {other}"),
        };
        column.unwrap_or(Column::Null)
    });
    Row::new(columns.collect())
}

#[derive(Debug)]
struct Parameter<'a>(Value<'a>);

impl ToSql for Parameter<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match (self.0, self.0.number()?) {
            (Value::Null, _) => Ok(IsNull::Yes),
            (Value::Text(text), _) if *ty == Type::TEXT => text.to_sql(ty, out),
            (Value::Bytes(bytes), _) if *ty == Type::BYTEA => bytes.to_sql(ty, out),
            (_, Some(number)) if *ty == Type::INT8 => number.to_sql(ty, out),
            _ => Err(Box::new(ImpossibleValue("parameter"))),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

fn on_one_line(sql: &str) -> String {
    sql.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Every statement that stands in `src/records`.
fn statements_in_source() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for file in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/records")).unwrap() {
        let source = fs::read_to_string(file.unwrap().path()).unwrap();
        let code: String = source
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .map(|line| format!("{line}\n"))
            .collect();
        let texts = code.split('"').skip(1).step_by(2).map(on_one_line);
        found.extend(texts.filter(|text| {
            ["SELECT ", "INSERT ", "UPDATE ", "DELETE "]
                .iter()
                .any(|verb| text.starts_with(verb))
        }));
    }
    found
}

#[tokio::test]
async fn every_record_runs_on_postgresql() {
    let database = Database::create().await;
    let mut client = database.client().await;
    for migration in schema::MIGRATIONS {
        client.batch_execute(&schema::postgresql(migration)).await.unwrap();
    }
    let ran = RefCell::new(BTreeSet::new());
    let db = Transaction {
        inner: client.transaction().await.unwrap(),
        statements: &ran,
    };
    of_apps_and_accounts(&db).await;
    of_sessions_and_devices(&db).await;
    of_allowances(&db).await;
    of_envelopes(&db).await;
    of_vaults_and_codes(&db).await;
    of_export(&db).await;
    of_blobs(&db).await;
    of_deletion(&db).await;
    of_pending_accounts(&db).await;
    of_device_grants(&db).await;
    drop(db);

    // A session of a stream whose account is gone is refused as on SQLite. The refusal ends the transaction.
    let db = Transaction {
        inner: client.transaction().await.unwrap(),
        statements: &ran,
    };
    let orphan = NewSession {
        id: session_id(1),
        stream: stream_of(1, 1),
        login: None,
        credential: None,
        now: NOW,
    };
    let refused = sessions::open(&db, orphan, &Quotas::default()).await;
    assert!(matches!(refused, Err(StoreError::NoSuchStream)), "{refused:?}");
    drop(db);

    let db = Transaction {
        inner: client.transaction().await.unwrap(),
        statements: &ran,
    };
    of_apps_and_accounts(&db).await;
    let of_page = NewSession {
        stream: StreamId {
            app_id: PAGES_APP,
            user_id: user_id(1),
        },
        ..orphan
    };
    sessions::open(&db, of_page, &Quotas::default()).await.unwrap();
    drop(db);

    let ran = ran.into_inner();
    let written = statements_in_source();
    assert!(written.len() > 50, "only {} statements were found", written.len());
    let missing: Vec<String> = written
        .into_iter()
        .filter(|text| !ran.iter().any(|ran| ran.starts_with(text.as_str())))
        .collect();
    assert_eq!(missing, [""; 0], "these statements never ran");
}

async fn of_apps_and_accounts(db: &impl Executor) {
    let claim = async |seed, accept| apps::claim_seed(db, [seed; 16], accept).await.unwrap();
    apps::check(db).await.unwrap();
    assert_eq!(
        accounts::create(db, &new_account(1)).await.unwrap(),
        AccountCreation::Created
    );
    assert_eq!(claim(1, AcceptNewSeed::No).await, SeedClaim::Bound);
    assert_eq!(claim(2, AcceptNewSeed::No).await, SeedClaim::OtherSeed);
    assert_eq!(
        claim(2, AcceptNewSeed::Yes).await,
        SeedClaim::Rebound { stale_records: 1 }
    );
    for of in [CredentialOf::User(user_id(1)), CredentialOf::Email("1@example.org")] {
        assert!(accounts::credential(db, of).await.unwrap().unwrap().stale);
    }

    let app = NewApp {
        id: stream_of(1, 1).app_id,
        name: "an app".to_owned(),
        team: None,
        key: new_key(1),
    };
    assert_eq!(apps::create(db, &app).await.unwrap(), AppWrite::Written);
    assert_eq!(apps::create(db, &app).await.unwrap(), AppWrite::NameTaken);
    let renamed = apps::rename(db, app.id, "an app").await.unwrap();
    assert_eq!(renamed, AppWrite::Written);
    let deleted = NewApp {
        id: AppId::from_bytes([0xde; 16]),
        name: "a deleted app".to_owned(),
        team: None,
        key: new_key(77),
    };
    assert_eq!(apps::create(db, &deleted).await.unwrap(), AppWrite::Written);
    assert!(apps::delete(db, deleted.id).await.unwrap());
    assert!(!apps::delete(db, deleted.id).await.unwrap());
    let no_stream = StreamId {
        app_id: deleted.id,
        ..stream_of(1, 1)
    };
    assert!(matches!(
        streams::find_or_create(db, no_stream).await,
        Err(StoreError::NoSuchStream)
    ));
    assert!(apps::sweep(db).await.unwrap());
    assert!(!apps::sweep(db).await.unwrap());
    let put = apps::put_redirect(db, app.id, "com.example:/x", NOW).await.unwrap();
    assert_eq!(put, RedirectWrite::Registered);
    let profile = apps::profile(db, app.id).await.unwrap().unwrap();
    assert_eq!(profile.redirects, ["com.example:/x"]);
    assert!(apps::delete_redirect(db, app.id, "com.example:/x").await.unwrap());
    assert!(apps::rotate_key(db, app.id, &new_key(2), NOW + 10).await.unwrap());
    assert_eq!(apps::of_key(db, &key(1), NOW + 9).await.unwrap(), Some(app.id));
    assert_eq!(apps::of_key(db, &key(1), NOW + 10).await.unwrap(), None);
    of_teams(db, app.id).await;
    of_plans(db, app.id).await;
    let listed = apps::list(db, NOW).await.unwrap();
    let ends: Vec<_> = listed[0].keys.iter().map(|key| key.ends_at).collect();
    assert_eq!(ends, [None, Some(NOW + 10)]);

    accounts::create_invite(db, secret(9), NOW).await.unwrap();
    let invited = NewAccount {
        invite: Some(secret(9)),
        ..new_account(2)
    };
    assert_eq!(accounts::create(db, &invited).await.unwrap(), AccountCreation::Created);
    assert!(!accounts::invite_is_open(db, secret(9)).await.unwrap());
    let same_address = NewAccount {
        user_id: user_id(3),
        ..new_account(1)
    };
    assert_eq!(
        accounts::create(db, &same_address).await.unwrap(),
        AccountCreation::EmailTaken
    );
    assert_eq!(accounts::list(db).await.unwrap().len(), 2);
}

async fn of_allowances(db: &impl Executor) {
    let draw = |of| Draw {
        of: CountedKey([of; 16]),
        allowance: Allowance {
            tokens: 1,
            window_seconds: 60,
        },
    };
    let place = Place {
        user_id: user_id(1),
        address: CountedKey([9; 16]),
    };
    let attempt = Charge {
        once: Some(draw(1)),
        draws: vec![draw(2)],
        from_strangers: Some((draw(3), place)),
        may_grow: true,
    };
    let counted = async |attempt, now| allowances::count(db, attempt, now).await.unwrap();
    assert_eq!(counted(&attempt, NOW).await, Counted::First);
    assert_eq!(counted(&attempt, NOW).await, Counted::Repeated);
    let again = Charge {
        once: None,
        ..attempt.clone()
    };
    assert_eq!(counted(&again, NOW).await, Counted::Refused { wait_seconds: 60 });
    allowances::give_back(db, &again, NOW).await.unwrap();
    assert_eq!(counted(&again, NOW).await, Counted::First);
    allowances::note_place(db, place, NOW).await.unwrap();
}

async fn of_pending_accounts(db: &impl Executor) {
    accounts::create_invite(db, secret(31), NOW).await.unwrap();
    let pending = |n| NewPendingAccount {
        account: NewAccount {
            invite: Some(secret(31)),
            ..new_account(n)
        },
        code: secret(n),
        expires_at: NOW + 10,
        pending_max: 1,
    };
    let put = async |n| pending_accounts::put(db, &pending(n)).await.unwrap();
    assert_eq!(put(30).await, AccountCreation::Created);
    assert_eq!(put(31).await, AccountCreation::Created);
    assert_eq!(put(31).await, AccountCreation::Repeated);
    let found = async |n: u64| {
        let email = format!("{n}@example.org");
        let of = CredentialOf::Pending {
            email: &email,
            code: secret(n),
            now: NOW,
        };
        accounts::credential(db, of).await.unwrap().is_some()
    };
    assert!(!found(30).await && found(31).await);
    let confirm = async |n| pending_accounts::confirm(db, user_id(n), secret(n), NOW).await.unwrap();
    assert!(!confirm(30).await && confirm(31).await && !confirm(31).await);
    assert!(!accounts::invite_is_open(db, secret(31)).await.unwrap());
    assert_eq!(put(32).await, AccountCreation::InviteInvalid);
    accounts::delete(db, user_id(31)).await.unwrap().unwrap();
}

async fn of_device_grants(db: &impl Executor) {
    for n in 1..=2 {
        assert!(device_grants::put(db, &new_grant(n)).await.unwrap());
    }
    assert!(device_grants::waiting(db, secret(1001), NOW).await.unwrap().is_some());
    let poll = async |n| device_grants::poll(db, secret(n), app_id(1), NOW).await.unwrap();
    assert_eq!(poll(1).await, DevicePoll::Waiting);
    assert_eq!(poll(1).await, DevicePoll::TooFast);
    let by = Some(b"somebody".as_slice());
    assert!(device_grants::answer(db, secret(1001), by, NOW).await.unwrap());
    let allowed_by = b"somebody".to_vec();
    assert_eq!(poll(1).await, DevicePoll::Allowed { allowed_by });
    assert_eq!(poll(1).await, DevicePoll::Unknown);
}

async fn of_sessions_and_devices(db: &impl Executor) {
    let stream = stream_of(1, 1);
    for n in 1..=3 {
        let session = NewSession {
            id: session_id(n),
            stream,
            login: None,
            credential: None,
            now: NOW,
        };
        sessions::open(db, session, &Quotas::default()).await.unwrap();
    }
    for expected in [LoginUse::First, LoginUse::Repeated { ended: vec![] }] {
        let finished = FinishedLogin {
            login: secret(1),
            user_id: user_id(1),
            session_id: Some(session_id(9)),
            now: NOW,
        };
        assert_eq!(sessions::finish_login(db, &finished).await.unwrap(), expected);
    }
    let repeated = NewSession {
        id: session_id(9),
        stream,
        login: Some(secret(1)),
        credential: None,
        now: NOW,
    };
    let refused = sessions::open(db, repeated, &Quotas::default()).await;
    assert!(matches!(refused, Err(StoreError::LoginRepeated)), "{refused:?}");
    let replaced = NewSession {
        login: None,
        credential: Some(CredentialId([0xee; 16])),
        ..repeated
    };
    let refused = sessions::open(db, replaced, &Quotas::default()).await;
    assert!(matches!(refused, Err(StoreError::PasswordReplaced)), "{refused:?}");
    assert_eq!(usage::usage(db, user_id(1)).await.unwrap(), Usage::default());
    let registered = devices::register(db, &new_device(stream, 1), &Quotas::default())
        .await
        .unwrap();
    let DeviceRegistration::Registered(laptop) = registered else {
        panic!("too many devices");
    };
    let again = NewDevice {
        platform: Platform::Macos,
        now: NOW + 5,
        new_id: device_id(7),
        ..new_device(stream, 1)
    };
    let DeviceRegistration::Registered(found) = devices::register(db, &again, &Quotas::default()).await.unwrap() else {
        panic!("too many devices");
    };
    assert_eq!(
        (found.id, found.platform, found.last_seen_at),
        (laptop.id, Platform::Macos, NOW + 5)
    );
    let second = NewDevice {
        installation_id: Some(InstallationId::from_bytes(id16(2))),
        ..new_device(stream, 2)
    };
    for _ in 0..2 {
        let registered = devices::register(db, &second, &Quotas::default()).await.unwrap();
        assert!(matches!(registered, DeviceRegistration::Registered(device) if device.id == device_id(2)));
    }
    let rebound = NewDevice {
        session_id: session_id(1),
        ..second
    };
    let refused = devices::register(db, &rebound, &Quotas::default()).await.unwrap();
    assert_eq!(refused, DeviceRegistration::OtherDevice);
    let taken = devices::rename(db, stream, laptop.id, "device 2").await.unwrap();
    assert_eq!(taken, DeviceRename::NameTaken);
    let renamed = devices::rename(db, stream, laptop.id, "a laptop").await.unwrap();
    assert!(matches!(renamed, DeviceRename::Renamed(device) if device.name == "a laptop"));
    assert_eq!(devices::list(db, stream).await.unwrap().len(), 2);

    let session = sessions::find(db, session_id(1), NOW).await.unwrap().unwrap();
    assert_eq!(session.device_name.as_deref(), Some("a laptop"));
    let listed = sessions::of_user(db, user_id(1), NOW).await.unwrap();
    let ids: Vec<_> = listed.iter().map(|session| session.id).collect();
    assert_eq!(ids, [session_id(3), session_id(2), session_id(1)]);
    let next = sessions::advance_refresh(db, session_id(3), 1, NOW + 1).await.unwrap();
    assert_eq!(next, RefreshUse::Next { counter: 2, stream });
    let copied = sessions::advance_refresh(db, session_id(3), 0, NOW + 1).await.unwrap();
    assert_eq!(copied, RefreshUse::Ended);
    let revoked = devices::revoke(db, stream, laptop.id, NOW).await.unwrap();
    assert_eq!(revoked, Some(vec![session_id(1)]));
    let other = EndSessions::OneOfUser(user_id(2), session_id(2));
    assert_eq!(sessions::end(db, other).await.unwrap(), []);
}

async fn of_envelopes(db: &impl Executor) {
    let stream = stream_of(1, 1);
    assert_eq!(envelopes::state(db, stream).await.unwrap(), None);
    for version in 0..11 {
        let envelope = NewEnvelope {
            key_id: KeyId::from_bytes([u8::try_from(version).unwrap(); 16]),
            ..new_envelope(stream, version)
        };
        assert_eq!(envelopes::write(db, &envelope).await.unwrap(), version + 1);
    }
    assert_eq!(envelopes::kept(db, stream).await.unwrap().len(), 10);
    let restored = envelopes::restore(db, stream, 5, NOW).await.unwrap();
    assert_eq!(restored, EnvelopeRestore::Restored(12));
    let current = envelopes::current(db, stream).await.unwrap().unwrap();
    assert_eq!((current.version, current.key_id), (12, KeyId::from_bytes([4; 16])));
    let usage = accounts::overview(db, user_id(1)).await.unwrap().unwrap();
    assert_eq!((usage.apps.len(), usage.apps[0].devices), (1, 1));
}

async fn of_vaults_and_codes(db: &impl Executor) {
    let write = VaultWrite {
        user_id: user_id(1),
        vault: vec![2],
        expected_version: 1,
        keep_replaced: false,
        password: Some(password(3, &[3])),
        keep_session: Some(session_id(2)),
    };
    assert_eq!(
        accounts::write_vault(db, &write).await.unwrap(),
        VersionedWrite::Written(2)
    );
    assert_eq!(
        accounts::write_vault(db, &write).await.unwrap(),
        VersionedWrite::Conflict(2)
    );
    assert!(sessions::find(db, session_id(2), NOW).await.unwrap().is_some());
    for n in 0..12 {
        let code = NewMailCode {
            user_id: user_id(1),
            email: "1@example.org".to_owned(),
            code: secret(100 + n),
            expires_at: NOW + 10,
            now: NOW,
        };
        assert!(accounts::put_mail_code(db, &code).await.unwrap());
        let started = accounts::start_reset(db, code.code, NOW).await.unwrap().unwrap();
        assert_eq!(started.user_id, user_id(1));
        let reset = PasswordReset {
            code: code.code,
            password: password(4, &[4]),
            vault: vec![5],
            expected_version: started.vault_version,
            now: NOW,
        };
        let stale = PasswordReset {
            expected_version: 1,
            ..reset.clone()
        };
        let conflict = VersionedWrite::Conflict(started.vault_version);
        assert_eq!(accounts::reset_password(db, &stale).await.unwrap(), Some(conflict));
        let written = VersionedWrite::Written(started.vault_version + 1);
        assert_eq!(accounts::reset_password(db, &reset).await.unwrap(), Some(written));
        assert_eq!(accounts::start_reset(db, reset.code, NOW).await.unwrap(), None);
    }
    let vault = accounts::vault(db, user_id(1)).await.unwrap().unwrap();
    assert_eq!((vault.version, vault.earlier.len()), (14, 10));
}

/// Rows of the tables that engines write by hand, for the first device.
const WRITTEN_BY_HAND: &str = "
    INSERT INTO sealed_batches (sealed_key, sealed) VALUES (7, 'sealed apart');
    INSERT INTO snapshots (snapshot_key, stream_key, snapshot_id, state, touched_at, key_id, seq, head, part_count,
        manifest, owner)
        SELECT 1, stream_key, id, 'kept', 9, id, 3, hash, 2, 'manifest', hash FROM first;
    INSERT INTO snapshots (snapshot_key, stream_key, snapshot_id, state, touched_at)
        SELECT 2, stream_key, other_id, 'unfinished', 9 FROM first;
    INSERT INTO snapshot_parts (stream_key, snapshot_key, part, sealed)
        SELECT stream_key, snapshot, part, sealed::bytea
        FROM first, (VALUES (2, 0, 'c'), (1, 1, 'b'), (1, 0, 'a')) AS parts (snapshot, part, sealed);
    INSERT INTO batches (stream_key, last_seq, entry_count, batch_id, device_key, key_id, sealed_hash, head,
        sealed_bytes, sealed_key)
        SELECT stream_key, 5, 2, id, device_key, id, hash, hash, 12, 7 FROM first;
    INSERT INTO batch_answers (stream_key, device_key, last_seq, entry_count, batch_id, head)
        SELECT stream_key, device_key, 3, 2, other_id, hash FROM first;
    INSERT INTO uploads (stream_key, upload_id, object_key, blob_id, size_bytes, sealed_hash, key_id, expires_at)
        SELECT stream_key, id, decode(repeat('04', 32), 'hex'), hash, 10, hash, id, 9 FROM first;
    UPDATE streams SET blob_bytes = 10, blob_count = 1, batch_bytes = 112, snapshot_seq = 3;
    INSERT INTO blobs (stream_key, blob_id, object_key, size_bytes, sealed_hash, key_id, created_at)
        SELECT stream_key, hash, hash, 10, hash, id, 9 FROM first;
";

/// The view that these rows are made from.
const FIRST: &str = "
    CREATE TEMPORARY VIEW first AS SELECT stream_key, device_key, decode(repeat('01', 16), 'hex') AS id,
        decode(repeat('03', 16), 'hex') AS other_id, decode(repeat('02', 32), 'hex') AS hash
    FROM devices ORDER BY device_key LIMIT 1;
";

fn kind(line: &ExportLine) -> &'static str {
    match line {
        ExportLine::Account(_) => "account",
        ExportLine::EarlierVault { .. } => "earlier_vault",
        ExportLine::MailCode { .. } => "mail_code",
        ExportLine::FamiliarPlace { .. } => "familiar_place",
        ExportLine::TeamMember { .. } => "team_member",
        ExportLine::Invite { .. } => "invite",
        ExportLine::Stream(_) => "stream",
        ExportLine::Session(_) => "session",
        ExportLine::Device(_) => "device",
        ExportLine::Envelope(_) => "envelope",
        ExportLine::Batch(_) => "batch",
        ExportLine::BatchAnswer(_) => "batch_answer",
        ExportLine::Snapshot(_) => "snapshot",
        ExportLine::SnapshotPart(_) => "snapshot_part",
        ExportLine::Upload(_) => "upload",
        ExportLine::Blob(_) => "blob",
        other => panic!("a store makes no {other:?}"),
    }
}

async fn of_plans(db: &impl Executor, app_id: AppId) {
    let plan = AppPlan {
        gigabytes: 10,
        burst_hundredths: 500,
    };
    let hour = Hour::of(NOW);
    assert!(plans::write(db, app_id, Some(plan), NOW).await.unwrap());
    let flush = UsageFlush {
        meter: [1; 16],
        number: 1,
        moved: vec![Moved { app_id, hour, bytes: 5 }],
        now: NOW,
    };
    assert!(plans::add(db, &flush).await.unwrap());
    assert!(!plans::add(db, &flush).await.unwrap());
    plans::note_stored(db, app_id, hour, 7).await.unwrap();
    let listed = plans::list(db, hour.month()).await.unwrap();
    let found = listed.iter().find(|app| app.app_id == app_id).unwrap();
    assert_eq!((found.plan, found.moved_bytes), (Some(plan), 5));
    assert_eq!(plans::stored(db, app_id).await.unwrap(), AppStored::default());
    assert_eq!(plans::hours(db, app_id, hour).await.unwrap()[0].stored_bytes, Some(7));
    for part in [PlanPart::Storage, PlanPart::Transfer(hour.month())] {
        assert!(plans::note_told(db, app_id, part, 0, 80).await.unwrap());
        assert!(!plans::note_told(db, app_id, part, 0, 80).await.unwrap());
    }
    assert!(plans::write(db, app_id, None, NOW).await.unwrap());
    let limit = UserLimit {
        megabytes: 500,
        burst_hundredths: 500,
    };
    assert!(plans::write_user_limit(db, app_id, Some(limit)).await.unwrap());
    assert_eq!(plans::user_limit(db, app_id).await.unwrap(), Some(limit));
    assert!(plans::write_user_limit(db, app_id, None).await.unwrap());
    let later = Month(hour.month().0 + 14);
    assert!(
        !plans::forget(db, Hour::of(later.begins()), later.begins())
            .await
            .unwrap()
    );
}

async fn of_teams(db: &impl Executor, app_id: AppId) {
    let [team, empty] = [7, 8].map(|n| NewTeam {
        id: TeamId::from_bytes([n; 16]),
        name: format!("team {n}"),
        owner: user_id(1),
        created_at: NOW,
    });
    for new in [&team, &empty] {
        assert_eq!(teams::create(db, new).await.unwrap(), TeamCreation::Created);
    }
    assert_eq!(teams::give_app(db, app_id, team.id).await.unwrap(), AppWrite::Written);
    let removed = teams::write_member(db, empty.id, user_id(1), None, NOW).await.unwrap();
    assert_eq!(removed, MemberWrite::LastOwner);
    accounts::create(db, &new_account(77)).await.unwrap();
    for role in [Some(TeamRole::Developer), None] {
        let written = teams::write_member(db, team.id, user_id(77), role, NOW).await.unwrap();
        assert_eq!(written, MemberWrite::Written);
    }
    accounts::delete(db, user_id(77)).await.unwrap().unwrap();
    assert_eq!(teams::delete(db, empty.id).await.unwrap(), TeamDeletion::Deleted);
    assert_eq!(teams::list(db).await.unwrap()[0].apps, [app_id]);
    assert_eq!(
        teams::of_user(db, user_id(1), NOW).await.unwrap()[0].apps[0].keys.len(),
        2
    );
    assert_eq!(teams::first_steps(db, app_id).await.unwrap(), FirstSteps::default());
}

async fn of_export(db: &Transaction<'_>) {
    db.inner.batch_execute(FIRST).await.unwrap();
    db.inner.batch_execute(WRITTEN_BY_HAND).await.unwrap();
    let code = NewMailCode {
        user_id: user_id(1),
        email: "1@example.org".to_owned(),
        code: secret(200),
        expires_at: NOW + 10,
        now: NOW,
    };
    assert!(accounts::put_mail_code(db, &code).await.unwrap());
    accounts::create_invite(db, secret(201), NOW).await.unwrap();
    let place = Place {
        user_id: user_id(1),
        address: CountedKey([9; 16]),
    };
    allowances::note_place(db, place, NOW).await.unwrap();
    let session = NewSession {
        id: session_id(9),
        stream: stream_of(1, 1),
        login: None,
        credential: None,
        now: NOW,
    };
    sessions::open(db, session, &Quotas::default()).await.unwrap();
    db.inner
        .batch_execute("UPDATE invites SET used_by = (SELECT min(account_key) FROM accounts) WHERE used_by IS NULL")
        .await
        .unwrap();

    // A snapshot replaced all but the batch after it.
    assert_eq!(usage::replaced_bytes(db, user_id(1)).await.unwrap(), 100);
    let whole = export::page(db, user_id(1), None, usize::MAX).await.unwrap().unwrap();
    let mut kinds: Vec<_> = whole.lines.iter().map(kind).collect();
    kinds.dedup();
    let expected = [
        "account",
        "earlier_vault",
        "mail_code",
        "familiar_place",
        "team_member",
        "invite",
        "stream",
        "session",
        "device",
        "envelope",
        "batch",
        "batch_answer",
        "snapshot",
        "snapshot_part",
        "snapshot",
        "snapshot_part",
        "upload",
        "blob",
    ];
    assert_eq!(kinds, expected);
    let parts = whole.lines.iter().filter_map(|line| match line {
        ExportLine::SnapshotPart(part) => Some(part.sealed.0.as_slice()),
        _ => None,
    });
    assert_eq!(parts.collect::<Vec<_>>(), [b"a", b"b", b"c"]);

    // Pages of one line each.
    let (mut lines, mut after) = (Vec::new(), None);
    loop {
        let page = export::page(db, user_id(1), after, 1).await.unwrap().unwrap();
        lines.extend(page.lines);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(lines, whole.lines);
    let ended = sessions::end(db, EndSessions::OfUser(user_id(1))).await.unwrap();
    assert_eq!(ended, [session_id(9)]);
}

/// The blob and the upload that [`of_export`] left, until nothing of them is left.
async fn of_blobs(db: &impl Executor) {
    let (stream, blob) = (stream_of(1, 1), BlobId::from_bytes([2; 32]));
    let listed = blobs::list(db, stream, None, 10).await.unwrap();
    assert_eq!(listed.iter().map(|blob| blob.blob_id).collect::<Vec<_>>(), [blob]);
    assert_eq!(blobs::list(db, stream, Some(blob), 10).await.unwrap(), []);
    let replaced = Blob {
        object_key: ObjectKey::from_bytes([9; 32]),
        ..listed[0]
    };
    blobs::condemn_replaced(db, 0, &replaced, 0).await.unwrap();
    assert_eq!(blobs::deleted(db, &[replaced.object_key], NOW).await.unwrap(), 1);
    let again = NOW + SECOND_SWEEP_SECONDS;
    assert_eq!(blobs::deleted(db, &[replaced.object_key], again).await.unwrap(), 0);
    let stream_key = streams::find_or_create(db, stream).await.unwrap();
    assert!(blobs::delete(db, stream, blob, NOW).await.unwrap());
    assert!(blobs::is_deleted(db, stream_key, blob).await.unwrap());
    blobs::bring_back(db, stream_key, blob).await.unwrap();
    assert!(!blobs::is_deleted(db, stream_key, blob).await.unwrap());
    assert!(blobs::delete(db, stream, blob, NOW).await.unwrap());
    assert!(!blobs::delete(db, stream, blob, NOW).await.unwrap());
    let [upload, other] = [1, 3].map(|byte| UploadId::from_bytes([byte; 16]));
    assert!(blobs::name_multipart(db, stream, upload, "name").await.unwrap());
    assert!(!blobs::name_multipart(db, stream, upload, "name").await.unwrap());
    let found = blobs::upload(db, stream, upload).await.unwrap().unwrap();
    assert_eq!(found.multipart_id.as_deref(), Some("name"));
    // It is no upload in parts.
    assert!(!blobs::end_upload(db, stream, upload, NOW).await.unwrap());
    assert!(!blobs::abandon_upload(db, stream, other, NOW).await.unwrap());
    let later = NOW + BLOB_UNDELETE_SECONDS;
    let (of_blob, of_upload) = (ObjectKey::from_bytes([2; 32]), ObjectKey::from_bytes([4; 32]));
    assert_eq!(blobs::sweepable(db, later - 1, 10).await.unwrap(), [of_upload]);
    assert_eq!(blobs::sweepable(db, later, 10).await.unwrap(), [of_upload, of_blob]);
    let both = [of_upload, of_blob];
    assert_eq!(blobs::deleted(db, &both, later - 1).await.unwrap(), 1);
    assert_eq!(blobs::sweepable(db, later, 10).await.unwrap(), [of_blob]);
    assert_eq!(blobs::deleted(db, &both, later).await.unwrap(), 1);
    assert_eq!(blobs::sweepable(db, later, 10).await.unwrap(), []);
    let again = later + SECOND_SWEEP_SECONDS;
    assert_eq!(blobs::sweepable(db, again, 10).await.unwrap(), both);
    blobs::postpone(db, &both, again + 1).await.unwrap();
    assert_eq!(blobs::sweepable(db, again, 10).await.unwrap(), []);
    let again = again + 1;
    assert_eq!(blobs::deleted(db, &both, again).await.unwrap(), 0);
    assert_eq!(blobs::sweepable(db, again, 10).await.unwrap(), []);
    let new = NewUpload {
        stream,
        upload_id: UploadId::from_bytes([7; 16]),
        object_key: ObjectKey::from_bytes([7; 32]),
        blob_id: blob,
        size: 1_000,
        sealed_hash: None,
        only_asks: true,
        key_id: KeyId::from_bytes([1; 16]),
        replace: true,
        brings_back: true,
        room: PlanRoom {
            app_is_full: false,
            user_bytes_max: Some(100),
        },
        expires_at: NOW,
    };
    let begin = async |new: NewUpload| blobs::begin_upload(db, (stream_key, None), &new, &Quotas::default()).await;
    let over = UploadBegin::OverQuota(Quota::UserStorage);
    assert_eq!(begin(new).await.unwrap(), over);
    let room = PlanRoom::default();
    assert_eq!(begin(NewUpload { room, ..new }).await.unwrap(), UploadBegin::Needed);
    let begun = NewUpload {
        room,
        only_asks: false,
        ..new
    };
    assert_eq!(begin(begun).await.unwrap(), UploadBegin::Begun);
}

async fn of_deletion(db: &impl Executor) {
    let stream = stream_of(1, 1);
    let session = NewSession {
        id: session_id(8),
        stream,
        login: None,
        credential: None,
        now: NOW,
    };
    sessions::open(db, session, &Quotas::default()).await.unwrap();
    let change = NewAddress {
        user_id: user_id(1),
        session_id: Some(session_id(8)),
        from: "1@example.org".to_owned(),
        to: "new@example.org".to_owned(),
        now: NOW,
    };
    let changed = accounts::change_address(db, &change).await;
    assert_eq!(changed.unwrap(), AddressChange::Changed);
    assert_eq!(
        accounts::schedule_deletion(db, user_id(1), Some(NOW)).await.unwrap(),
        Some(vec![session_id(8)])
    );
    sessions::open(db, session, &Quotas::default()).await.unwrap();
    assert!(!accounts::delete_due(db, NOW).await.unwrap());
    assert_eq!(
        accounts::delete(db, user_id(1)).await.unwrap(),
        Some(vec![session_id(8)])
    );
    assert_eq!(accounts::delete(db, user_id(1)).await.unwrap(), None);
    assert_eq!(streams::find(db, stream).await.unwrap(), None);
    assert_eq!(accounts::list(db).await.unwrap().len(), 1);
}
