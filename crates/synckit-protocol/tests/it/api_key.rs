//! API keys as text, and `vectors/api_key.json`, which is made again and compared.

use std::{fs, path::Path};

use proptest::prelude::*;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use synckit_protocol::{ApiKey, ApiKeyError, AppId, KeyKind};

const APP_ID: [u8; 16] = [0xa1; 16];
const SECRET: [u8; 16] = *b"synckit vectors!";

/// `UPDATE_VECTORS=1` writes the file after a deliberate change of the format.
#[test]
fn api_key_vectors_match() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors/api_key.json");
    let made = serde_json::to_string_pretty(&vectors()).unwrap() + "\n";
    if std::env::var_os("UPDATE_VECTORS").is_some() {
        fs::write(&path, &made).unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), made);
}

/// From SHA-256 alone, so that the library does not only agree with itself.
fn by_hand(prefix: &str, app_id: &[u8], secret: &[u8]) -> String {
    let hash = Sha256::new()
        .chain_update(b"synckit/1 api key\0")
        .chain_update(prefix)
        .chain_update(app_id)
        .chain_update(secret)
        .finalize();
    format!("{prefix}{}{}{}", hex(app_id), hex(secret), hex(&hash[..4]))
}

fn vectors() -> Value {
    let keys: Vec<Value> = KeyKind::ALL
        .iter()
        .map(|kind| {
            let text = by_hand(kind.prefix(), &APP_ID, &SECRET);
            let key = ApiKey::new(*kind, AppId::from_bytes(APP_ID), SECRET);
            assert_eq!(key.to_text().expose(), text);
            assert_eq!(text.parse(), Ok(key));
            json!({ "prefix": kind.prefix(), "app_id": hex(&APP_ID), "secret": hex(&SECRET), "key": text })
        })
        .collect();
    let refused: Vec<Value> = malformed()
        .into_iter()
        .map(|(rule, key)| {
            assert_eq!(key.parse::<ApiKey>(), Err(ApiKeyError::Malformed), "{rule}");
            json!({ "rule": rule, "key": key })
        })
        .collect();
    json!({
        "description": "API keys (section 3.12): prefix || hex(app id || secret || checksum); checksum = first 4 bytes of SHA-256(\"synckit/1 api key\" || 0x00 || prefix || app id || secret). Refused keys are malformed, each for the rule that it breaks.",
        "keys": keys,
        "refused_keys": refused,
    })
}

/// Texts that are nearly a key, and the rule that each breaks.
fn malformed() -> Vec<(&'static str, String)> {
    let key = by_hand("skp_", &APP_ID, &SECRET);
    let last = if key.ends_with('0') { "1" } else { "0" };
    vec![
        ("empty", String::new()),
        ("nothing after the prefix", "skp_".to_owned()),
        ("a prefix of no kind", by_hand("skx_", &APP_ID, &SECRET)),
        ("no prefix", key[4..].to_owned()),
        ("the prefix of another kind", format!("sks_{}", &key[4..])),
        (
            "the last character is wrong",
            format!("{}{last}", &key[..key.len() - 1]),
        ),
        ("a character of the app id is wrong", key.replacen("a1", "a2", 1)),
        ("a character is missing", key[..key.len() - 1].to_owned()),
        ("a character too many", format!("{key}0")),
        ("upper case", format!("skp_{}", key[4..].to_uppercase())),
        ("white space around it", format!(" {key}\n")),
        ("not hexadecimal", format!("skp_{}", "g".repeat(72))),
        ("characters of several bytes", format!("skp_{}", "é".repeat(36))),
    ]
}

#[test]
fn only_publishable_keys_are_publishable() {
    for kind in KeyKind::ALL {
        let text = ApiKey::new(*kind, AppId::from_bytes(APP_ID), SECRET).to_text();
        let read = ApiKey::publishable(text.expose());
        if *kind == KeyKind::Publishable {
            let key = read.unwrap();
            assert_eq!((key.kind(), key.app_id()), (*kind, AppId::from_bytes(APP_ID)));
            let shown = format!("{key:?}");
            assert!(
                !shown.contains(&hex(&SECRET)) && !shown.contains(&format!("{SECRET:?}")),
                "{shown}"
            );
        } else {
            assert_eq!(read, Err(ApiKeyError::Kind(*kind)));
        }
    }
}

/// The message tells a developer which kind of key is in the app.
#[test]
fn key_of_another_kind_is_named_in_the_error() {
    for (kind, name) in [
        (KeyKind::ServerSecret, "a server secret"),
        (KeyKind::PersonalToken, "a personal token"),
        (KeyKind::WebhookSecret, "a webhook secret"),
    ] {
        let text = ApiKey::new(kind, AppId::from_bytes(APP_ID), SECRET).to_text();
        let error = ApiKey::publishable(text.expose()).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
    assert_eq!(KeyKind::Publishable.to_string(), "publishable key");
}

/// A scanner that knows the pattern of SECURITY.md finds every key, and tells from the checksum that it is one.
#[test]
fn the_pattern_for_scanners_finds_every_kind() {
    let security = include_str!("../../../../SECURITY.md");
    assert!(
        security.contains(r"\bsk[pstw]_[0-9a-f]{72}\b"),
        "SECURITY.md names the pattern"
    );
    for kind in KeyKind::ALL {
        let text = ApiKey::new(*kind, AppId::from_bytes(APP_ID), SECRET).to_text();
        let (prefix, rest) = text.expose().split_at(4);
        assert!(
            matches!(prefix.as_bytes(), [b's', b'k', b'p' | b's' | b't' | b'w', b'_']),
            "{prefix}"
        );
        assert!(rest.len() == 72 && rest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')));
    }
}

proptest! {
    #[test]
    fn every_key_has_one_text(kind in 0..KeyKind::ALL.len(), app_id: [u8; 16], secret: [u8; 16]) {
        let key = ApiKey::new(KeyKind::ALL[kind], AppId::from_bytes(app_id), secret);
        let text = key.to_text();
        prop_assert_eq!(text.expose().parse::<ApiKey>(), Ok(key));
    }

    #[test]
    fn one_wrong_character_is_always_noticed(at in 0_usize..76, to in "[0-9a-z_]") {
        let mut text = by_hand("skp_", &APP_ID, &SECRET);
        prop_assume!(text[at..=at] != to);
        text.replace_range(at..=at, &to);
        prop_assert_eq!(text.parse::<ApiKey>(), Err(ApiKeyError::Malformed));
    }

    #[test]
    fn no_text_panics(text in "\\PC*") {
        let _ = text.parse::<ApiKey>();
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
