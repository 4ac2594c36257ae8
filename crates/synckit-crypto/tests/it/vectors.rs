//! `vectors/*.json`: every format with fixed randomness, byte for byte.
//!
//! A vector is made twice: by the library, and step by step from the primitives alone, as `docs/protocol.md` describes
//! it. Both must agree before the file is compared, so the steps in the file are the ones that an implementation in
//! another language takes. After a deliberate change of a format, `UPDATE_VECTORS=1` writes the files.

pub(crate) mod by_hand;
mod chain;
mod forged;
mod keys;
mod log;
mod stored;

use std::{fs, path::Path};

use serde_json::Value;

/// Compares a vector file with what was just computed.
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

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A position as the vectors write it.
fn place(position: synckit_protocol::Position) -> Value {
    serde_json::json!({"seq": position.seq, "head": hex(position.head.as_bytes())})
}
