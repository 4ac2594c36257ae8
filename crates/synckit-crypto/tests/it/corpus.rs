//! Replays the fuzz corpus through the fuzz targets, on stable.
//!
//! The seeds of the corpus are valid encodings made here; what a fuzzer found is committed beside them and stays.
//! `UPDATE_VECTORS=1` writes the seeds after a deliberate change of a format.

use std::{collections::BTreeMap, fs, path::PathBuf};

use serde_json::json;
use synckit_crypto::{
    AccountKey, Envelope, KeyRing, RecoveryCode, Vault,
    batch::BatchBody,
    snapshot::{Manifest, PartBody, PartDigest},
};
use synckit_login::{ClientLogin, ClientRegistration, ServerLogin};
use synckit_protocol::{AppId, Cursor, Event, SnapshotId, SnapshotPlace};

use crate::{
    canonical::{framed, refused, unhex},
    fixtures::{SCOPE, edition, ending, entries, entry, export_key, position},
    rng::VectorRng,
    targets::TARGETS,
};

fn corpus() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus")
}

#[test]
fn corpus_replays_without_a_panic() {
    if std::env::var_os("UPDATE_VECTORS").is_some() {
        write_seeds();
    }
    for (name, target) in TARGETS {
        let folder = corpus().join(name);
        let mut files: Vec<_> = fs::read_dir(&folder)
            .unwrap()
            .map(|file| file.unwrap().path())
            .collect();
        files.sort();
        assert!(!files.is_empty(), "no corpus for {name}");
        for file in files {
            let bytes = fs::read(&file).unwrap();
            target(&bytes);
            // Cut short and lengthened, every seed is a seed of errors.
            for len in (0..bytes.len()).step_by(bytes.len() / 16 + 1) {
                target(&bytes[..len]);
            }
            target(&[bytes.as_slice(), &[0]].concat());
        }
    }
}

#[test]
fn seeds_of_the_corpus_have_the_present_formats() {
    if std::env::var_os("UPDATE_VECTORS").is_some() {
        write_seeds();
    }
    for (target, seeds) in seeds() {
        for (name, bytes) in seeds {
            let stored = fs::read(corpus().join(target).join(&name)).unwrap();
            assert_eq!(stored, bytes, "{target}/{name} differs; UPDATE_VECTORS=1 writes it");
        }
    }
}

fn write_seeds() {
    for (target, seeds) in seeds() {
        fs::create_dir_all(corpus().join(target)).unwrap();
        for (name, bytes) in seeds {
            fs::write(corpus().join(target).join(name), bytes).unwrap();
        }
    }
}

type Seeds = BTreeMap<&'static str, Vec<(String, Vec<u8>)>>;

fn seeds() -> Seeds {
    let mut seeds = Seeds::new();
    let mut add = |target, name: &str, bytes: &[u8]| {
        seeds.entry(target).or_default().push((name.to_owned(), bytes.to_vec()));
    };
    let mut rng = VectorRng::new("corpus");

    let body = BatchBody::encode(&entries()).unwrap();
    add("batch_body", "every-shape", body.plaintext());
    let many: Vec<_> = (0..40)
        .map(|row| entry(&row.to_string(), Some(json!({"n": row, "s": "text"}))))
        .collect();
    add("batch_body", "many-rows", BatchBody::encode(&many).unwrap().plaintext());
    for (index, (body, _)) in refused().iter().enumerate() {
        add("batch_body", &format!("refused-{index:02}"), &framed(&unhex(body)));
    }
    let numbers = r#"[{"table":"t","op":"insert","row_id":"1","timestamp":0,"data":{"b":[2.50,1e5,-0,1e20],"a":{}}}]"#;
    add("entries", "numbers", numbers.as_bytes());
    add("entries", "every-shape", &serde_json::to_vec(&entries()).unwrap());
    let (_, part) = PartBody::encode_prefix(&entries()).unwrap();
    add("snapshot_part", "every-shape", part.plaintext());
    let digests = vec![PartDigest::of(&part, b"one"), PartDigest::of(&part, b"other")];
    add(
        "snapshot_manifest",
        "two-parts",
        &Manifest::new(digests).unwrap().encode(),
    );
    add(
        "snapshot_manifest",
        "empty",
        &Manifest::new(Vec::new()).unwrap().encode(),
    );

    let account_key = AccountKey::generate(&mut rng);
    let code = RecoveryCode::generate(&mut rng);
    let vault = Vault::create(&SCOPE.user_id, &export_key(), &account_key, &mut rng);
    add("vault", "password", &vault.encode());
    let vault = vault
        .with_recovery(&SCOPE.user_id, &code, &account_key, &mut rng)
        .unwrap();
    add("vault", "password-and-recovery", &vault.encode());
    add("recovery_code", "words", code.words().as_bytes());
    add(
        "recovery_code",
        "numbered",
        code.words().to_uppercase().replace(' ', "\n1. ").as_bytes(),
    );

    let mut ring = KeyRing::generate(&SCOPE, &mut rng);
    for seq in [0, 1, 5] {
        if seq > 0 {
            ring = ring.rotate(&SCOPE, ending(position(seq)), &mut rng).unwrap();
        }
        let name = format!("retired-{}", ring.retired().len());
        add("key_ring", &name, &ring.to_secret_bytes());
        let envelope = Envelope::seal(&SCOPE, &account_key, edition(1), seq + 1, &ring, &mut rng).unwrap();
        add("envelope", &name, &envelope.encode());
    }

    add("cursor", "start", Cursor::START.to_string().as_bytes());
    add("cursor", "position", Cursor::at(position(77)).to_string().as_bytes());
    add("cursor", "last", Cursor::at(position(u64::MAX)).to_string().as_bytes());
    let place = SnapshotPlace {
        snapshot_id: SnapshotId::from_bytes([0xe5; 16]),
        position: position(77),
        part: 1,
        row: 500,
    };
    add("cursor", "snapshot", Cursor::in_snapshot(place).to_string().as_bytes());

    let newest = Event::Newest(Cursor::at(position(77)));
    let stream = [
        Event::Retry(4211),
        newest,
        Event::Comment,
        Event::Newest(Cursor::START),
        Event::Going,
    ];
    let stream: String = stream.into_iter().map(Event::encode).collect();
    add("events", "every-event", stream.as_bytes());
    add("events", "returns", stream.replace('\n', "\r\n").as_bytes());
    add("events", "no-position", b"event: position\ndata: 0\ndata: 0\n\n");
    add("events", "long-line", &[b':'; 257]);

    // The targets make the same server, whose secrets follow from their seed.
    let mut rng = VectorRng::new("fuzz");
    let server = ServerLogin::generate(&mut rng);
    let mut message = |kind: u8, name: &str, bytes: &[u8]| add("opaque", name, &[&[kind], bytes].concat());
    let (client, request) = ClientRegistration::start("password", &mut rng).unwrap();
    let response = server.register(&request, b"account").unwrap();
    let upload = client.finish(&response, &mut rng).unwrap().upload;
    let app_id = AppId::from_bytes([7; 16]);
    let (client, ke1) = ClientLogin::start("password", &mut rng).unwrap();
    let (state, ke2) = server.start(app_id, Some(&upload), &ke1, b"account", &mut rng).unwrap();
    let ke3 = client.finish(app_id, &ke2, None, &mut rng).unwrap().ke3;
    message(0, "request", &request);
    message(1, "upload", &upload);
    message(2, "ke1", &ke1);
    message(3, "record", &upload);
    message(4, "state-and-ke3", &[state, ke3].concat());
    message(5, "secrets", &server.to_bytes());
    message(6, "ke2", &ke2);
    message(7, "response", &response);
    seeds
}
