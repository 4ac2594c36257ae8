//! Words that a room must not say: a pure module names no I/O, and pages and bills name no database.

use super::{Finding, source::tokens, tree::Tree};

/// Rooms and the words that they must not say. A room is a folder, or a file with the same name.
const ROOMS: &[(&[&str], &[&str], &str)] = &[
    (
        &[
            "crates/synckit-protocol/src",
            "crates/synckit-login/src",
            "crates/synckit-crypto/src",
            "crates/synckit-client/src/state",
            "crates/synckit-store/src/rules",
            "crates/synckit-sqlite/src/merge",
            "crates/synckit-server/src/billing/plan",
        ],
        &[
            "fs",
            "net",
            "process",
            "env",
            "thread",
            "stdin",
            "stdout",
            "stderr",
            "await",
            "spawn",
            "reqwest",
            "hyper",
            "rusqlite",
            "now",
            "OsRng",
            "thread_rng",
        ],
        "the module is pure: bytes, time and randomness come in as arguments",
    ),
    (
        &["crates/synckit-server/src/web", "crates/synckit-server/src/billing"],
        &[
            "sqlite",
            "SqliteStore",
            "rusqlite",
            "postgres",
            "PostgresStore",
            "tokio_postgres",
        ],
        "only startup knows the engine of the store",
    ),
    (
        &["crates/synckit-server/src/api"],
        &["web"],
        "the API does not know the pages",
    ),
];

/// Words in rooms that must not say them.
pub(super) fn words(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.texts().filter(|(path, _)| path.ends_with(".rs")) {
        for (rooms, words, reason) in ROOMS {
            if !rooms.iter().any(|room| is_in(path, room)) {
                continue;
            }
            let tokens = tokens(text);
            // Only imports and paths count: a variable may have any name.
            let said = tokens.windows(3).filter_map(|window| match window {
                [":", ":", word] | [word, ":", ":"] => Some(*word),
                [".", word @ "await", _] => Some(*word),
                ["use" | "{" | ",", word, ";" | "," | "}"] if imports(word) => Some(*word),
                _ => None,
            });
            let mut said: Vec<&str> = said.filter(|word| words.contains(word)).collect();
            said.sort_unstable();
            said.dedup();
            findings.extend(
                said.into_iter()
                    .map(|word| Finding::new(path, format!("names `{word}`: {reason}"))),
            );
        }
    }
    findings
}

/// Whether a word in braces can only be an import.
fn imports(word: &str) -> bool {
    matches!(word, "fs" | "net" | "OsRng" | "SqliteStore" | "PostgresStore")
}

fn is_in(path: &str, room: &str) -> bool {
    let rest = path.strip_prefix(room);
    rest.is_some_and(|rest| rest.starts_with('/') || rest == ".rs")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(path: &str, text: &str) -> usize {
        words(&Tree::from([(path, text)])).len()
    }

    #[test]
    fn io_in_a_pure_module_is_found() {
        let path = "crates/synckit-store/src/rules/append.rs";
        for text in [
            "use std::fs;",
            "use std::{fs, path::Path};",
            "fn f() { let now = std::time::Instant::now(); }",
            "async fn f() { g().await; }",
            "fn f() { tokio::spawn(g()); }",
        ] {
            assert_eq!(said(path, text), 1, "{text}");
        }
        assert_eq!(said(path, "fn f(at: std::time::SystemTime) {}"), 0);
        assert_eq!(said(path, "fn f(process: u8) -> u8 { process } // std::fs\n"), 0);
        assert_eq!(said("crates/synckit-store/src/sqlite/append.rs", "use std::fs;"), 0);
        assert_eq!(said("crates/synckit-client/src/state.rs", "use std::fs;"), 1);
    }

    #[test]
    fn an_engine_in_pages_and_bills_is_found() {
        let text = "use synckit_store::{SqliteStore, Store};";
        assert_eq!(said("crates/synckit-server/src/web/pages.rs", text), 1);
        assert_eq!(said("crates/synckit-server/src/billing/mod.rs", text), 1);
        assert_eq!(said("crates/synckit-server/src/startup/mod.rs", text), 0);
        assert_eq!(said("crates/synckit-server/src/api/mod.rs", "use crate::web::page;"), 1);
    }
}
