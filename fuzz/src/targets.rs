//! The bodies of the fuzz targets: every decoder of bytes from a server, a keychain or a person.
//!
//! A target checks two properties: no input makes the decoder panic, and every input that decodes has no other
//! encoding. The targets are in a separate file, so that the fuzzer and the ordinary test that replays the corpus run
//! the same code.

use synckit_crypto::{
    AccountKey, Envelope, KeyRing, RecoveryCode, StreamScope, Vault,
    batch::{BatchBody, ChangeEntry},
    snapshot::{Manifest, PartBody},
};
use synckit_login::{ClientLogin, ClientRegistration, ExportKey, ServerLogin};
use synckit_protocol::{ApiKey, AppId, Cursor, Event, EventReader, Heard, UserId, limits::BATCH_ENTRIES_MAX};

use crate::rng::VectorRng;

const SCOPE: StreamScope = StreamScope {
    app_id: AppId::from_bytes([0xa1; 16]),
    user_id: UserId::from_bytes([0xb2; 16]),
};

/// A target: its name, which is also its folder in the corpus, and its body.
pub(crate) type Target = (&'static str, fn(&[u8]));

/// Every target.
pub(crate) const TARGETS: &[Target] = &[
    ("api_key", api_key),
    ("batch_body", batch_body),
    ("cursor", cursor),
    ("entries", entries),
    ("envelope", envelope),
    ("events", events),
    ("key_ring", key_ring),
    ("opaque", opaque),
    ("recovery_code", recovery_code),
    ("snapshot_manifest", snapshot_manifest),
    ("snapshot_part", snapshot_part),
    ("vault", vault),
];

/// The plaintext of a batch. The number of entries that it claims outside is the number that it has, so that the
/// fuzzer need not find it.
pub(crate) fn batch_body(data: &[u8]) {
    assert!(BatchBody::decode(data, 0).is_err());
    assert!(BatchBody::decode(data, BATCH_ENTRIES_MAX + 1).is_err());
    // A part takes any count, and below the limit of a batch both decode the same.
    let Ok(entries) = PartBody::decode(data) else { return };
    let Some(count) = u32::try_from(entries.len())
        .ok()
        .filter(|count| *count <= BATCH_ENTRIES_MAX)
    else {
        return;
    };
    assert_eq!(BatchBody::decode(data, count).as_ref(), Ok(&entries));
    let again = BatchBody::encode(&entries).expect("what decodes can be encoded");
    assert_eq!(again.plaintext(), data);
}

/// An event stream. It tells the same, however it is cut into pieces, and its position has one text.
pub(crate) fn events(data: &[u8]) {
    let whole = EventReader::default().read(data);
    let mut reader = EventReader::default();
    let mut together = Ok(Heard::default());
    for piece in data.chunks(7) {
        together = together.and_then(|before| {
            let heard = reader.read(piece)?;
            Ok(Heard {
                newest: heard.newest.or(before.newest),
                retry_ms: heard.retry_ms.or(before.retry_ms),
                is_going: heard.is_going || before.is_going,
                has_comment: heard.has_comment || before.has_comment,
            })
        });
    }
    assert_eq!(together, whole);
    if let Ok(Heard {
        newest: Some(cursor), ..
    }) = whole
    {
        let again = EventReader::default().read(Event::Newest(cursor).encode().as_bytes());
        assert_eq!(again.map(|heard| heard.newest), Ok(Some(cursor)));
    }
}

/// The entries of an app, as JSON. A body that its own decoder refuses would end the stream for every device, because a
/// server stores whatever it gets.
pub(crate) fn entries(data: &[u8]) {
    let Ok(entries) = serde_json::from_slice::<Vec<ChangeEntry>>(data) else {
        return;
    };
    if let Ok((taken, body)) = BatchBody::encode_prefix(&entries) {
        let decoded = BatchBody::decode(body.plaintext(), body.count()).expect("what is encoded decodes");
        assert_eq!(decoded.len(), taken);
        let again = BatchBody::encode(&decoded).expect("what decodes can be encoded");
        assert_eq!(again.plaintext(), body.plaintext());
    }
    if let Ok((taken, part)) = PartBody::encode_prefix(&entries) {
        let decoded = PartBody::decode(part.plaintext()).expect("what is encoded decodes");
        assert_eq!(decoded.len(), taken);
    }
}

/// The plaintext of a part of a snapshot.
pub(crate) fn snapshot_part(data: &[u8]) {
    let Ok(rows) = PartBody::decode(data) else { return };
    let (taken, again) = PartBody::encode_prefix(&rows).expect("what decodes can be encoded");
    assert_eq!((taken, again.plaintext()), (rows.len(), data));
}

/// The plaintext of a manifest.
pub(crate) fn snapshot_manifest(data: &[u8]) {
    if let Ok(manifest) = Manifest::decode(data) {
        assert_eq!(manifest.encode(), data);
    }
}

/// An account vault.
pub(crate) fn vault(data: &[u8]) {
    let Ok(vault) = Vault::decode(data) else { return };
    assert_eq!(vault.encode(), data);
    assert!(vault.generation() > 0);
    // Neither secret is one that anybody sealed under.
    assert!(
        vault
            .open_with_password(&SCOPE.user_id, &ExportKey::from_bytes([0; 64]))
            .is_err()
    );
    let code = RecoveryCode::from_entropy([0; 32]);
    assert!(vault.open_with_recovery(&SCOPE.user_id, &code).is_err());
}

/// An envelope.
pub(crate) fn envelope(data: &[u8]) {
    let Ok(envelope) = Envelope::decode(data) else { return };
    assert_eq!(envelope.encode(), data);
    assert!(envelope.open(&SCOPE, &AccountKey::from_bytes([0; 32])).is_err());
}

/// A key ring from the keychain.
pub(crate) fn key_ring(data: &[u8]) {
    let Ok(ring) = KeyRing::from_secret_bytes(&SCOPE, data) else {
        return;
    };
    assert_eq!(ring.to_secret_bytes().as_slice(), data);
    for retired in ring.retired() {
        assert!(
            ring.key_for(&retired.key_id())
                .is_some_and(|found| found.end == Some(retired.end()))
        );
    }
}

/// An API key that a client sent.
pub(crate) fn api_key(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(key) = text.parse::<ApiKey>() {
        assert_eq!(key.to_text().expose(), text);
    }
}

/// A cursor that an app stored as text.
pub(crate) fn cursor(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(cursor) = text.parse::<Cursor>() {
        assert_eq!(cursor.to_string(), text);
    }
}

/// A recovery code that a person typed.
pub(crate) fn recovery_code(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(code) = RecoveryCode::parse(text) {
        assert_eq!(RecoveryCode::parse(&code.words()), Ok(code));
    }
}

/// The app that signs in.
const APP: AppId = AppId::from_bytes([7; 16]);

/// The messages of registration and login. The first byte says which one the rest is.
pub(crate) fn opaque(data: &[u8]) {
    let Some((kind, message)) = data.split_first() else {
        return;
    };
    let mut rng = VectorRng::new("fuzz");
    let server = ServerLogin::generate(&mut rng);
    match kind {
        0 => drop(server.register(message, b"account")),
        1 => {
            if let Ok(record) = ServerLogin::finish_registration(message) {
                assert_eq!(record, message);
            }
        }
        2 => drop(server.start(APP, None, message, b"account", &mut rng)),
        3 => {
            let (_, ke1) = ClientLogin::start("password", &mut rng).expect("a usable password");
            drop(server.start(APP, Some(message), &ke1, b"account", &mut rng));
        }
        4 => {
            let (state, ke3) = message.split_at(message.len().min(128));
            drop(ServerLogin::finish(APP, state, ke3));
        }
        5 => {
            if let Ok(server) = ServerLogin::from_bytes(message) {
                assert_eq!(server.to_bytes().as_slice(), message);
            }
        }
        // The client stretches the password whenever a message parses, which is slow by design.
        6 => {
            let (client, _) = ClientLogin::start("password", &mut rng).expect("a usable password");
            assert!(client.finish(APP, message, None, &mut rng).is_err());
        }
        _ => {
            let (client, _) = ClientRegistration::start("password", &mut rng).expect("a usable password");
            drop(client.finish(message, &mut rng));
        }
    }
}
