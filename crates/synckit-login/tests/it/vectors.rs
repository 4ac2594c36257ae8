//! `vectors/login.json`: one registration and two logins in suite 1, byte for byte.
//!
//! The file is made again in memory and compared. After a deliberate change of the format, `UPDATE_VECTORS=1` writes it.

use std::{fs, path::Path};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use synckit_login::{ClientLogin, ClientRegistration, LoginError, SUITE, ServerLogin, ServerPublicKey, login_context};
use synckit_protocol::AppId;

use crate::{rfc9807::Given, rng::VectorRng};

/// The app that signs in, and another one.
const APP: AppId = AppId::from_bytes([0xa1; 16]);
const OTHER_APP: AppId = AppId::from_bytes([0xa2; 16]);

#[test]
fn login_vectors_match() {
    check("login.json", &login_vectors());
}

fn login_vectors() -> Value {
    let password = "Cafe\u{301} \u{212b}ngstr\u{f6}m";
    let credential_id = [0x11; 16];
    let mut rng = VectorRng::new("synckit/1 vectors login");
    let server = ServerLogin::generate(&mut rng);
    let setup = server.to_bytes();
    rng.take_drawn();

    let (client, request) = ClientRegistration::start(password, &mut rng).unwrap();
    let start_random = rng.take_drawn();
    let response = server.register(&request, &credential_id).unwrap();
    let registered = client.finish(&response, &mut rng).unwrap();
    let finish_random = rng.take_drawn();
    let record = ServerLogin::finish_registration(&registered.upload).unwrap();
    let registration = json!({
        "client_start_random": hex(&start_random),
        "request": hex(&request),
        "response": hex(&response),
        "client_finish_random": hex(&finish_random),
        "upload": hex(&registered.upload),
        "record": hex(&record),
        "export_key": hex(registered.export_key.as_bytes()),
    });

    let (client, ke1) = ClientLogin::start(password, &mut rng).unwrap();
    let client_random = rng.take_drawn();
    let (state, ke2) = server
        .start(APP, Some(&record), &ke1, &credential_id, &mut rng)
        .unwrap();
    let server_random = rng.take_drawn();
    let finished = client.finish(APP, &ke2, Some(&server.public_key()), &mut rng).unwrap();
    ServerLogin::finish(APP, &state, &finished.ke3).unwrap();
    assert_eq!(finished.export_key, registered.export_key);
    let login = json!({
        "client_random": hex(&client_random),
        "ke1": hex(&ke1),
        "server_random": hex(&server_random),
        "server_state": hex(&state),
        "ke2": hex(&ke2),
        "ke3": hex(&finished.ke3),
        "export_key": hex(finished.export_key.as_bytes()),
    });
    let mut again = Given(server_random.clone());
    let (_, other) = server
        .start(OTHER_APP, Some(&record), &ke1, &credential_id, &mut again)
        .unwrap();
    let refused = refused_ke2(password, &client_random, &ke2, &server.public_key(), other);

    rng.take_drawn();
    let (state, ke2) = server.start(APP, None, &ke1, &credential_id, &mut rng).unwrap();
    let unknown = json!({
        "ke1": hex(&ke1),
        "server_random": hex(&rng.take_drawn()),
        "server_state": hex(&state),
        "ke2": hex(&ke2),
    });

    let stretched: Vec<u8> = (0..64).collect();
    let mut stretching = [0; 64];
    let params = argon2::Params::new(64 * 1024, 3, 1, Some(64)).unwrap();
    argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params)
        .hash_password_into(&stretched, &[0; 16], &mut stretching)
        .unwrap();

    json!({
        "description": "OPAQUE (RFC 9807) in suite 1: ristretto255-SHA512, 3DH with SHA-512, Argon2id v1.3 (64 MiB, t=3, \
            p=1, salt of 16 zero bytes, output of 64 bytes), default identities. The context is the label and the app id. Byte strings in hexadecimal; the fields \
            *_random are the random bytes that a step drew, in order. A drawn scalar takes 64 bytes, read as a \
            little-endian number and reduced modulo the group order. client_start_random: blind (64). \
            client_finish_random: envelope nonce (32). client_random: blind (64), key share seed (32), nonce (32). \
            server_random: masking key of the fake record, drawn but unused where there is a record (64), masking nonce \
            (32), key share seed (32), nonce (32). refused_ke2: answers to the ke1 of login that must be refused, each with \
            one fault.",
        "suite": SUITE,
        "app_id": hex(APP.as_bytes()),
        "context": hex(&login_context(APP)),
        "key_stretching": {"input": hex(&stretched), "output": hex(&stretching)},
        "password": password,
        "password_nfc_utf8": hex("Caf\u{e9} \u{c5}ngstr\u{f6}m".as_bytes()),
        "credential_id": hex(&credential_id),
        "server": {
            "oprf_seed": hex(&setup[..64]),
            "private_key": hex(&setup[64..96]),
            "fake_client_public_key": hex(&setup[96..]),
            "public_key": hex(server.public_key().as_bytes()),
            "seed_id": hex(&server.seed_id()),
        },
        "registration": registration,
        "login": login,
        "login_without_record": unknown,
        "refused_ke2": refused,
    })
}

/// Second messages of the login above that a client must refuse, each with one fault. Some of them are encodings that are
/// no group element, for which a client reports a malformed message.
fn refused_ke2(
    password: &str,
    client_random: &[u8],
    ke2: &[u8],
    pinned: &ServerPublicKey,
    of_another_app: Vec<u8>,
) -> Vec<Value> {
    let finish = |ke2: &[u8]| {
        let (client, _) = ClientLogin::start(password, &mut Given(client_random.to_vec())).unwrap();
        client.finish(APP, ke2, Some(pinned), &mut VectorRng::new("unused"))
    };
    assert!(finish(ke2).is_ok());
    let changed = |at: usize| {
        let mut changed = ke2.to_vec();
        changed[at] ^= 1;
        changed
    };
    // Valid elements, so that only the MACs can tell.
    let with = |at: usize, bytes: &[u8]| [&ke2[..at], bytes, &ke2[at + bytes.len()..]].concat();
    [
        ("another evaluated element", with(0, &ke2[224..256])),
        ("a masking nonce that was changed", changed(32)),
        ("a masked server key that was changed", changed(64)),
        ("a masked envelope nonce that was changed", changed(96)),
        ("a masked auth tag that was changed", changed(128)),
        ("a server nonce that was changed", changed(192)),
        ("another key share", with(224, pinned.as_bytes())),
        ("the first byte of the server's MAC changed", changed(256)),
        ("the last byte of the server's MAC changed", changed(319)),
        ("a server's MAC of zeros", with(256, &[0; 64])),
        ("a login of another app", of_another_app),
        ("an evaluated element that is the identity", with(0, &[0; 32])),
        ("an evaluated element that encodes nothing", with(0, &[0xff; 32])),
        ("a key share that is the identity", with(224, &[0; 32])),
        ("a key share that encodes nothing", with(224, &[0xff; 32])),
        ("a byte too few", ke2[..319].to_vec()),
        ("a byte too many", [ke2, &[0]].concat()),
    ]
    .into_iter()
    .map(|(what, ke2)| {
        let error = finish(&ke2).unwrap_err();
        let malformed = matches!(error, LoginError::MalformedMessage { .. });
        assert!(malformed || error == LoginError::WrongPassword, "{what}: {error:?}");
        json!({"what": what, "ke2": hex(&ke2), "malformed": malformed})
    })
    .collect()
}

#[test]
fn seed_id_is_as_documented() {
    let mut rng = VectorRng::new("seed id");
    let server = ServerLogin::generate(&mut rng);
    let expected = Sha256::new()
        .chain_update(b"synckit/1 login secrets\0")
        .chain_update(&server.to_bytes()[..64])
        .chain_update(server.public_key().as_bytes())
        .finalize();
    assert_eq!(server.seed_id(), expected[..16]);
}

fn check(name: &str, computed: &Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors").join(name);
    if std::env::var_os("UPDATE_VECTORS").is_some() {
        fs::write(&path, format!("{computed:#}\n")).unwrap();
    }
    let stored: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(
        stored, *computed,
        "{name} differs; UPDATE_VECTORS=1 writes it if the format was changed on purpose"
    );
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
