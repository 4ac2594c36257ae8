//! Ties the compiled half of OPAQUE, which is checked in, to what it was compiled from.

use super::{Finding, stamp::hash_of, tree::Tree};

/// What `cargo xtask pages` writes beside the compiled file: the hash of its sources.
pub(super) const STAMP: &str = "crates/synckit-server/assets/opaque.toml";

/// The files that decide what the compiled code does. Of the protocol it uses the ids alone.
fn is_source(path: &str) -> bool {
    ["pages/", "crates/synckit-login/src/", "crates/synckit-login/Cargo.toml"]
        .iter()
        .any(|start| path.starts_with(start))
        || path == "crates/synckit-protocol/src/ids.rs"
}

fn source_hash(tree: &Tree) -> String {
    hash_of(tree, is_source)
}

/// The stamp of the sources as they are now.
pub(super) fn stamp(tree: &Tree) -> String {
    format!(
        "# What opaque.wasm was compiled from; `cargo xtask pages` writes it.\nsources = \"{}\"\n",
        source_hash(tree)
    )
}

/// Whether the compiled file is of the sources as they are now.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    if tree.text(STAMP).is_some_and(|recorded| *recorded == stamp(tree)) {
        return Vec::new();
    }
    vec![Finding::new(
        STAMP,
        "the sources have changed since they were compiled: run `cargo xtask pages`",
    )]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_source_of_the_page_is_found() {
        let mut tree = Tree::from([("pages/src/lib.rs", "//! Page.\n"), ("docs/guide.md", "# Guide\n")]);
        assert_eq!(check(&tree).len(), 1);
        let now = stamp(&tree);
        tree.insert(STAMP, now);
        assert_eq!(check(&tree), []);
        tree.insert("docs/guide.md", "# Another guide\n");
        assert_eq!(check(&tree), []);
        for source in [
            "pages/Cargo.lock",
            "crates/synckit-login/src/client.rs",
            "crates/synckit-protocol/src/ids.rs",
        ] {
            let mut changed = Tree::from([("pages/src/lib.rs", "//! Page.\n")]);
            changed.insert(STAMP, tree.text(STAMP).unwrap().to_owned());
            changed.insert(source, "changed");
            assert_eq!(check(&changed).len(), 1, "{source}");
        }
    }
}
