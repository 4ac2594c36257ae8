//! Whole registrations and logins.

use synckit_login::{
    ClientLogin, ClientRegistration, ExportKey, KE1_BYTES, KE2_BYTES, KE3_BYTES, LOGIN_STATE_BYTES, LoginError,
    LoginFinished, PASSWORD_BYTES_MAX, RECORD_BYTES, REGISTRATION_REQUEST_BYTES, REGISTRATION_RESPONSE_BYTES,
    REGISTRATION_UPLOAD_BYTES, RegistrationFinished, ServerLogin, ServerPublicKey, check_password,
};
use synckit_protocol::AppId;

use crate::rng::VectorRng;

const ACCOUNT: &[u8] = b"0123456789abcdef";
const APP: AppId = AppId::from_bytes([0xa1; 16]);

struct Account {
    server: ServerLogin,
    record: Vec<u8>,
    finished: RegistrationFinished,
    rng: VectorRng,
}

fn registered(password: &str) -> Account {
    let mut rng = VectorRng::new("exchange");
    let server = ServerLogin::generate(&mut rng);
    let (client, request) = ClientRegistration::start(password, &mut rng).unwrap();
    assert_eq!(request.len(), REGISTRATION_REQUEST_BYTES);
    let response = server.register(&request, ACCOUNT).unwrap();
    assert_eq!(response.len(), REGISTRATION_RESPONSE_BYTES);
    let finished = client.finish(&response, &mut rng).unwrap();
    assert_eq!(finished.upload.len(), REGISTRATION_UPLOAD_BYTES);
    let record = ServerLogin::finish_registration(&finished.upload).unwrap();
    assert_eq!(record.len(), RECORD_BYTES);
    Account {
        server,
        record,
        finished,
        rng,
    }
}

impl Account {
    /// Runs a login; returns what the client has after it, and what the server says to its last message.
    fn login(
        &mut self,
        password: &str,
        record: Option<&[u8]>,
        pinned: Option<&ServerPublicKey>,
    ) -> Result<(LoginFinished, Result<(), LoginError>), LoginError> {
        let (client, ke1) = ClientLogin::start(password, &mut self.rng)?;
        assert_eq!(ke1.len(), KE1_BYTES);
        let (state, ke2) = self.server.start(APP, record, &ke1, ACCOUNT, &mut self.rng)?;
        assert_eq!((state.len(), ke2.len()), (LOGIN_STATE_BYTES, KE2_BYTES));
        let finished = client.finish(APP, &ke2, pinned, &mut self.rng)?;
        assert_eq!(finished.ke3.len(), KE3_BYTES);
        let verdict = ServerLogin::finish(APP, &state, &finished.ke3);
        Ok((finished, verdict))
    }
}

#[test]
fn login_yields_the_export_key_of_the_registration() {
    let mut account = registered("correct horse");
    let record = account.record.clone();
    let pinned = account.server.public_key();
    assert_eq!(account.finished.server_public_key, pinned);
    let (finished, verdict) = account.login("correct horse", Some(&record), Some(&pinned)).unwrap();
    verdict.unwrap();
    assert_eq!(finished.export_key, account.finished.export_key);
    assert_eq!(finished.server_public_key, pinned);
}

#[test]
fn wrong_password_and_unknown_account_look_the_same() {
    let mut account = registered("correct horse");
    let record = account.record.clone();
    let wrong = account.login("correct house", Some(&record), None).unwrap_err();
    let unknown = account.login("correct horse", None, None).unwrap_err();
    assert_eq!(wrong, LoginError::WrongPassword);
    assert_eq!(unknown, LoginError::WrongPassword);
}

#[test]
fn record_under_another_credential_id_does_not_open() {
    let mut account = registered("correct horse");
    let (client, ke1) = ClientLogin::start("correct horse", &mut account.rng).unwrap();
    let (_, ke2) = account
        .server
        .start(APP, Some(&account.record), &ke1, b"somebody else", &mut account.rng)
        .unwrap();
    assert_eq!(
        client.finish(APP, &ke2, None, &mut account.rng).unwrap_err(),
        LoginError::WrongPassword
    );
}

#[test]
fn changed_server_key_is_reported_with_both_keys() {
    let mut account = registered("correct horse");
    let record = account.record.clone();
    let other = ServerPublicKey::from_bytes([7; 32]);
    let error = account.login("correct horse", Some(&record), Some(&other)).unwrap_err();
    let found = account.server.public_key();
    assert_eq!(error, LoginError::ServerKeyChanged { pinned: other, found });
}

#[test]
fn composed_and_decomposed_passwords_are_one() {
    let mut account = registered("pa\u{df}wort caf\u{e9}");
    let record = account.record.clone();
    let (finished, verdict) = account.login("pa\u{df}wort cafe\u{301}", Some(&record), None).unwrap();
    verdict.unwrap();
    assert_eq!(finished.export_key, account.finished.export_key);
}

#[test]
fn unusable_password_is_refused_before_a_message() {
    let mut rng = VectorRng::new("unusable");
    let longest = "x".repeat(PASSWORD_BYTES_MAX);
    assert!(ClientLogin::start(&longest, &mut rng).is_ok());
    check_password(&longest).unwrap();
    for password in [String::new(), format!("{longest}x"), "x".repeat(1_000_000)] {
        assert_eq!(
            ClientLogin::start(&password, &mut rng).unwrap_err(),
            LoginError::UnusablePassword
        );
        assert_eq!(
            ClientRegistration::start(&password, &mut rng).unwrap_err(),
            LoginError::UnusablePassword
        );
        assert_eq!(check_password(&password), Err(LoginError::UnusablePassword));
    }
    // The limit is that of the normalised password: 1,533 bytes become 1,022.
    assert!(ClientLogin::start(&"e\u{301}".repeat(511), &mut rng).is_ok());
}

#[test]
fn forged_last_message_is_refused() {
    let mut account = registered("correct horse");
    let (client, ke1) = ClientLogin::start("correct horse", &mut account.rng).unwrap();
    let (state, ke2) = account
        .server
        .start(APP, Some(&account.record), &ke1, ACCOUNT, &mut account.rng)
        .unwrap();
    let mut ke3 = client.finish(APP, &ke2, None, &mut account.rng).unwrap().ke3;
    for bit in [0, 255, 511] {
        ke3[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(ServerLogin::finish(APP, &state, &ke3), Err(LoginError::WrongPassword));
        ke3[bit / 8] ^= 1 << (bit % 8);
    }
    ServerLogin::finish(APP, &state, &ke3).unwrap();
    // Another login's state does not take it.
    let (_, other_ke1) = ClientLogin::start("correct horse", &mut account.rng).unwrap();
    let (other, _) = account
        .server
        .start(APP, Some(&account.record), &other_ke1, ACCOUNT, &mut account.rng)
        .unwrap();
    assert_eq!(ServerLogin::finish(APP, &other, &ke3), Err(LoginError::WrongPassword));
}

#[test]
fn tampered_second_message_is_never_accepted() {
    let mut account = registered("correct horse");
    // One byte in each field: evaluated element, masking nonce, masked response, server nonce, key share, MAC.
    for position in [3, 40, 70, 150, 200, 230, 300] {
        let (client, ke1) = ClientLogin::start("correct horse", &mut account.rng).unwrap();
        let (_, mut ke2) = account
            .server
            .start(APP, Some(&account.record), &ke1, ACCOUNT, &mut account.rng)
            .unwrap();
        ke2[position] ^= 1;
        let error = client.finish(APP, &ke2, None, &mut account.rng).unwrap_err();
        assert!(
            matches!(error, LoginError::WrongPassword | LoginError::MalformedMessage { .. }),
            "byte {position}: {error:?}"
        );
    }
}

#[test]
fn messages_of_another_length_are_malformed() {
    let mut account = registered("correct horse");
    let malformed = |error| matches!(error, LoginError::MalformedMessage { .. });
    let (_, request) = ClientRegistration::start("p", &mut account.rng).unwrap();
    let (_, ke1) = ClientLogin::start("p", &mut account.rng).unwrap();
    let (state, ke2) = account
        .server
        .start(APP, Some(&account.record), &ke1, ACCOUNT, &mut account.rng)
        .unwrap();
    let longer = |bytes: &[u8]| [bytes, &[0]].concat();
    let shorter = |bytes: &[u8]| bytes[..bytes.len() - 1].to_vec();
    for change in [&longer as &dyn Fn(&[u8]) -> Vec<u8>, &shorter, &|_| Vec::new()] {
        assert!(malformed(
            account.server.register(&change(&request), ACCOUNT).unwrap_err()
        ));
        assert!(malformed(
            ServerLogin::finish_registration(&change(&account.record)).unwrap_err()
        ));
        let record = change(&account.record);
        assert!(malformed(
            account
                .server
                .start(APP, Some(&record), &ke1, ACCOUNT, &mut account.rng)
                .unwrap_err()
        ));
        assert!(malformed(
            account
                .server
                .start(APP, None, &change(&ke1), ACCOUNT, &mut account.rng)
                .unwrap_err()
        ));
        assert!(malformed(
            ServerLogin::finish(APP, &change(&state), &[0; 64]).unwrap_err()
        ));
        assert!(malformed(
            ServerLogin::finish(APP, &state, &change(&[0; 64])).unwrap_err()
        ));
        let (client, _) = ClientLogin::start("p", &mut account.rng).unwrap();
        assert!(malformed(
            client.finish(APP, &change(&ke2), None, &mut account.rng).unwrap_err()
        ));
        let (client, _) = ClientRegistration::start("p", &mut account.rng).unwrap();
        assert!(malformed(
            client.finish(&change(&[0; 64]), &mut account.rng).unwrap_err()
        ));
        assert!(malformed(
            ServerLogin::from_bytes(&change(&account.server.to_bytes())).unwrap_err()
        ));
    }
}

#[test]
fn group_elements_that_are_none_are_malformed() {
    let mut account = registered("correct horse");
    // The identity, and bytes that encode no element.
    for element in [[0; 32], [0xff; 32]] {
        let error = account.server.register(&element, ACCOUNT).unwrap_err();
        assert!(matches!(error, LoginError::MalformedMessage { .. }), "{error:?}");
        let (_, mut ke1) = ClientLogin::start("p", &mut account.rng).unwrap();
        ke1[..32].copy_from_slice(&element);
        let error = account
            .server
            .start(APP, None, &ke1, ACCOUNT, &mut account.rng)
            .unwrap_err();
        assert!(matches!(error, LoginError::MalformedMessage { .. }), "{error:?}");
        let (client, _) = ClientRegistration::start("p", &mut account.rng).unwrap();
        let response = [element, [0; 32]].concat();
        let error = client.finish(&response, &mut account.rng).unwrap_err();
        assert!(matches!(error, LoginError::MalformedMessage { .. }), "{error:?}");
    }
}

#[test]
fn reflected_element_is_malformed() {
    let mut rng = VectorRng::new("reflected");
    let server = ServerLogin::generate(&mut rng);
    let (client, request) = ClientRegistration::start("p", &mut rng).unwrap();
    let response = [request.as_slice(), server.public_key().as_bytes()].concat();
    let error = client.finish(&response, &mut rng).unwrap_err();
    assert!(matches!(error, LoginError::MalformedMessage { .. }), "{error:?}");
}

#[test]
fn stored_server_secrets_keep_their_id() {
    let mut account = registered("correct horse");
    let restored = ServerLogin::from_bytes(&account.server.to_bytes()).unwrap();
    assert_eq!(restored.public_key(), account.server.public_key());
    assert_eq!(restored.seed_id(), account.server.seed_id());
    let other = ServerLogin::generate(&mut account.rng);
    assert_ne!(other.seed_id(), account.server.seed_id());
    account.server = restored;
    let record = account.record.clone();
    account.login("correct horse", Some(&record), None).unwrap().1.unwrap();
}

#[test]
fn export_keys_and_server_keys_are_told_apart() {
    let (one, other) = (ExportKey::from_bytes([1; 64]), ExportKey::from_bytes([2; 64]));
    assert_ne!(one, other);
    assert_eq!(one, ExportKey::from_bytes([1; 64]));
    let key = ServerPublicKey::from_bytes([0xab; 32]);
    assert_eq!(key.to_string(), "ab".repeat(32));
    assert_eq!(format!("{key:?}"), format!("ServerPublicKey({key})"));
}

#[test]
fn secrets_are_redacted_in_debug() {
    let mut account = registered("correct horse");
    let (client, _) = ClientLogin::start("hunter2 hunter2", &mut account.rng).unwrap();
    assert_eq!(format!("{client:?}"), "ClientLogin(redacted)");
    assert_eq!(format!("{:?}", account.finished.export_key), "ExportKey(redacted)");
    assert!(!format!("{:?}", account.server).contains("seed"));
}

#[test]
fn stand_in_follows_from_seed_and_address() {
    let mut account = registered("correct horse");
    let stand_in = account.server.stand_in(b"ada@example.com");
    let restored = ServerLogin::from_bytes(&account.server.to_bytes()).unwrap();
    assert_eq!(restored.stand_in(b"ada@example.com"), stand_in);
    assert_ne!(restored.stand_in(b"bob@example.com"), stand_in);
    let other = ServerLogin::generate(&mut account.rng);
    assert_ne!(other.stand_in(b"ada@example.com"), stand_in);
}

#[test]
fn login_of_another_app_fails_like_a_wrong_password() {
    let mut account = registered("correct horse");
    let other = AppId::from_bytes([0xa2; 16]);
    for (server_app, client_app) in [(APP, other), (other, APP)] {
        let (client, ke1) = ClientLogin::start("correct horse", &mut account.rng).unwrap();
        let record = Some(account.record.as_slice());
        let (_, ke2) = account
            .server
            .start(server_app, record, &ke1, ACCOUNT, &mut account.rng)
            .unwrap();
        let error = client.finish(client_app, &ke2, None, &mut account.rng).unwrap_err();
        assert_eq!(error, LoginError::WrongPassword);
    }
    let (_, verdict) = account
        .login("correct horse", Some(&account.record.clone()), None)
        .unwrap();
    verdict.unwrap();
}
