//! Ties `docs/protocol.md` to the crate that implements it: after a change of the crate the document must be read
//! again.
//!
//! The document contains a hash of the crate's sources. The check cannot know whether the text is right; it knows that
//! somebody confirmed it after the last change.

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

use super::{Finding, tree::Tree};

pub(super) const DOCUMENT: &str = "docs/protocol.md";
const SOURCES: &str = "crates/synckit-protocol/src/";
const STAMP_START: &str = "<!-- synckit-protocol source: ";
const STAMP_END: &str = " -->";

/// SHA-256 over path and contents of files, in order of the paths.
pub(super) fn hash_of(tree: &Tree, is_source: impl Fn(&str) -> bool) -> String {
    let mut hash = Sha256::new();
    for (path, text) in tree.texts().filter(|(path, _)| is_source(path)) {
        // A checkout with other line ends is the same source.
        let text = text.replace("\r\n", "\n");
        for part in [path, text.as_str()] {
            // The length keeps text from moving between two files unnoticed.
            hash.update(part.len().to_be_bytes().as_slice());
            hash.update(part.as_bytes());
        }
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn source_hash(tree: &Tree) -> String {
    hash_of(tree, |path| path.starts_with(SOURCES))
}

/// Whether the document was recorded as read since the crate last changed.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let Some(document) = tree.text(DOCUMENT) else {
        return vec![Finding::new(DOCUMENT, "the document is missing")];
    };
    let expected = source_hash(tree);
    let advice = "read the document against the crate, correct it, then run `cargo xtask tidy --protocol-reviewed`";
    match recorded_hashes(document).as_slice() {
        [hash] if *hash == expected => Vec::new(),
        [] => vec![Finding::new(
            DOCUMENT,
            format!("does not name the source that it describes: {advice}"),
        )],
        [_] => vec![Finding::new(
            DOCUMENT,
            format!("synckit-protocol has changed since it was reviewed: {advice}"),
        )],
        _ => vec![Finding::new(
            DOCUMENT,
            "names the source that it describes more than once: keep one line",
        )],
    }
}

fn recorded_hashes(document: &str) -> Vec<&str> {
    document
        .lines()
        .filter_map(|line| line.strip_prefix(STAMP_START)?.strip_suffix(STAMP_END))
        .collect()
}

/// The document with the hash of the sources as they are now.
pub(super) fn recorded(tree: &Tree) -> anyhow::Result<String> {
    let document = tree.text(DOCUMENT).with_context(|| format!("{DOCUMENT} is missing"))?;
    let stamp = format!("{STAMP_START}{}{STAMP_END}", source_hash(tree));
    let mut lines: Vec<&str> = document.lines().filter(|line| !line.starts_with(STAMP_START)).collect();
    while lines.last().is_some_and(|line| line.trim().is_empty()) {
        lines.pop();
    }
    Ok(format!("{}\n\n{stamp}\n", lines.join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "crates/synckit-protocol/src/limits.rs";

    fn reviewed() -> Tree {
        let mut tree = Tree::from([(DOCUMENT, "# Protocol\n\nText.\n"), (FILE, "pub const A: u32 = 1;\n")]);
        let document = recorded(&tree).unwrap();
        tree.insert(DOCUMENT, document);
        tree
    }

    #[test]
    fn a_document_that_was_never_reviewed_is_found() {
        assert_eq!(check(&Tree::from([(DOCUMENT, "# Protocol\n"), (FILE, "")])).len(), 1);
        assert_eq!(check(&Tree::from([(FILE, "")])).len(), 1);
    }

    #[test]
    fn a_review_holds_until_a_source_changes() {
        let mut tree = reviewed();
        assert_eq!(check(&tree), []);
        tree.insert(FILE, "pub const A: u32 = 2;\n");
        assert_eq!(check(&tree).len(), 1);
    }

    #[test]
    fn a_new_or_renamed_source_ends_the_review() {
        let mut tree = reviewed();
        tree.insert("crates/synckit-protocol/src/more.rs", "");
        assert_eq!(check(&tree).len(), 1);
    }

    #[test]
    fn other_crates_do_not_end_the_review() {
        let mut tree = reviewed();
        tree.insert("crates/synckit-server/src/lib.rs", "//! Server.\n");
        let longer = format!("# More\n{}", tree.text(DOCUMENT).unwrap());
        tree.insert(DOCUMENT, longer);
        assert_eq!(check(&tree), []);
    }

    #[test]
    fn recording_replaces_the_line_and_keeps_the_text() {
        let mut tree = reviewed();
        tree.insert(FILE, "pub const A: u32 = 3;\n");
        let document = recorded(&tree).unwrap();
        assert!(document.starts_with("# Protocol\n\nText.\n\n<!--"), "{document}");
        assert_eq!(recorded_hashes(&document).len(), 1);
        tree.insert(DOCUMENT, document.clone());
        assert_eq!(recorded(&tree).unwrap(), document);
    }

    #[test]
    fn line_ends_of_a_checkout_do_not_matter() {
        let mut tree = reviewed();
        tree.insert(FILE, "pub const A: u32 = 1;\r\n");
        assert_eq!(check(&tree), []);
    }
}
