//! `vectors/login.json`: one registration and two logins in suite 1, byte for byte.
//!
//! The file is made again in memory and compared. After a deliberate change of the format, `UPDATE_VECTORS=1` writes it.

use std::{fs, path::Path};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use synckit_login::{ClientLogin, ClientRegistration, LOGIN_CONTEXT, SUITE, ServerLogin};

use crate::rng::VectorRng;

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
    let (state, ke2) = server.start(Some(&record), &ke1, &credential_id, &mut rng).unwrap();
    let server_random = rng.take_drawn();
    let finished = client.finish(&ke2, Some(&server.public_key()), &mut rng).unwrap();
    ServerLogin::finish(&state, &finished.ke3).unwrap();
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

    rng.take_drawn();
    let (state, ke2) = server.start(None, &ke1, &credential_id, &mut rng).unwrap();
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
            p=1, salt of 16 zero bytes, output of 64 bytes), default identities. Byte strings in hexadecimal; the fields \
            *_random are the random bytes that a step drew, in order. A drawn scalar takes 64 bytes, read as a \
            little-endian number and reduced modulo the group order. client_start_random: blind (64). \
            client_finish_random: envelope nonce (32). client_random: blind (64), key share seed (32), nonce (32). \
            server_random: masking key of the fake record, drawn but unused where there is a record (64), masking nonce \
            (32), key share seed (32), nonce (32).",
        "suite": SUITE,
        "context": String::from_utf8(LOGIN_CONTEXT.to_vec()).unwrap(),
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
    })
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
