//! Examples in the documentation: every public item of the SDK has one, every file of the crates below it has one, and
//! each runs. Nobody calls the items of the other crates, so they need none.
//!
//! The check reads text and not syntax, so that items inside macros count too. It relies on rustfmt, and on the lint
//! `unreachable_pub`: whatever says `pub` is public.

use super::{Finding, texts::production_lines, tree::Tree};

/// The crate that apps call.
const SDK: &str = "crates/synckit-client/src/";
/// The crates that a client in another shape builds on: one example shows how the items of a file work together.
const BELOW_THE_SDK: &[&str] = &[
    "crates/synckit-protocol/src/",
    "crates/synckit-login/src/",
    "crates/synckit-crypto/src/",
];
const KINDS: &[&str] = &["fn", "struct", "enum", "trait"];

/// Public functions, methods, structs, enums and traits without an example that runs.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut found = 0;
    for (path, text) in tree.texts().filter(|(path, _)| path.ends_with(".rs")) {
        if path.starts_with(SDK) {
            let items = public_items(text);
            found += items.len();
            findings.extend(items.iter().filter(|item| !item.has_example).map(|item| {
                Finding::new(
                    format_args!("{path}:{}", item.line),
                    format!(
                        "`{}` has no example that runs: give its documentation a section `# Examples` with a code block",
                        item.name
                    ),
                )
            }));
        } else if BELOW_THE_SDK.iter().any(|folder| path.starts_with(folder)) {
            let mut functions = public_items(text);
            functions.retain(|item| item.kind == "fn");
            if !functions.is_empty() && !text.contains("# Examples\n") {
                findings.push(Finding::new(
                    path,
                    "the file has public functions and no example of any",
                ));
            }
        }
    }
    if found == 0 {
        // A check that reads nothing would pass for ever.
        findings.push(Finding::new(
            SDK,
            "no public item was found: does xtask still read the crates?",
        ));
    }
    findings
}

#[derive(Debug, PartialEq, Eq)]
struct Item<'a> {
    kind: &'a str,
    name: &'a str,
    /// Counted from 1.
    line: usize,
    has_example: bool,
}

fn public_items(text: &str) -> Vec<Item<'_>> {
    let mut items = Vec::new();
    let mut documentation = Vec::new();
    let mut open_brackets = 0;
    for (index, line) in text.lines().take(production_lines(text)).map(str::trim).enumerate() {
        if let Some(comment) = line.strip_prefix("///") {
            documentation.push(comment.trim());
        } else if open_brackets > 0 || line.starts_with("#[") || line.starts_with("$(#[") {
            // Attributes stand between an item and its documentation, and may have several lines.
            open_brackets += line.matches('[').count();
            open_brackets = open_brackets.saturating_sub(line.matches(']').count());
        } else {
            if let Some((kind, name)) = public_item(line) {
                items.push(Item {
                    kind,
                    name,
                    line: index + 1,
                    has_example: has_example(&documentation),
                });
            }
            documentation.clear();
        }
    }
    items
}

/// Kind and name of the item that a line begins.
fn public_item(line: &str) -> Option<(&str, &str)> {
    let mut words = line.strip_prefix("pub ")?.split_whitespace();
    let kind = words.find(|word| !matches!(*word, "async" | "const" | "unsafe"))?;
    let kind = KINDS.iter().find(|known| **known == kind)?;
    let name = words.next()?;
    let end = name.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$'));
    Some((kind, &name[..end.unwrap_or(name.len())]))
}

/// Whether a section `# Examples` holds a code block that rustdoc compiles and runs.
fn has_example(documentation: &[&str]) -> bool {
    let section = documentation.iter().skip_while(|line| **line != "# Examples");
    section
        .filter_map(|line| line.strip_prefix("```"))
        .step_by(2)
        .any(|info| matches!(info, "" | "rust"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOWN: &str = "/// A thing.\n///\n/// # Examples\n/// ```\n/// let x = 1;\n/// ```\n";

    fn findings(path: &str, text: &str) -> Vec<String> {
        let findings = check(&Tree::from([(path, text)]));
        findings.into_iter().map(|finding| finding.to_string()).collect()
    }

    #[test]
    fn a_public_item_without_an_example_is_found() {
        for item in [
            "pub struct Thing;",
            "pub enum Thing {",
            "pub trait Thing: Send {",
            "pub fn thing(&self) {",
            "    pub const fn thing() {",
            "    pub async fn thing<T>(",
        ] {
            let text = format!("/// A thing.\n#[must_use]\n{item}\n");
            let found = findings("crates/synckit-client/src/lib.rs", &text);
            assert!(
                found.len() == 1 && found[0].contains("lib.rs:3: `") && found[0].to_lowercase().contains("`thing`"),
                "{item}: {found:?}"
            );
            let text = format!("{SHOWN}#[error(\n    \"a [list]\"\n)]\n{item}\n");
            assert_eq!(findings("crates/synckit-client/src/lib.rs", &text), [""; 0], "{item}");
        }
    }

    #[test]
    fn what_is_not_public_or_not_an_item_needs_none() {
        let text = format!(
            "{SHOWN}pub fn one() {{\n}}\npub(crate) struct A;\nfn b() {{}}\npub use x::y;\npub const C: u8 = 1;\n"
        );
        assert_eq!(findings("crates/synckit-client/src/lib.rs", &text), [""; 0]);
        assert_eq!(
            findings("crates/synckit/src/main.rs", "pub fn a() {}\n").len(),
            1,
            "nothing was read"
        );
    }

    #[test]
    fn a_block_that_does_not_run_is_no_example() {
        for info in ["text", "no_run", "ignore", "compile_fail"] {
            let text = format!(
                "{}pub fn a() {{\n",
                SHOWN.replace("/// ```\n/// let", &format!("/// ```{info}\n/// let"))
            );
            assert_eq!(findings("crates/synckit-client/src/lib.rs", &text).len(), 1, "{info}");
        }
        let elsewhere = "/// ```\n/// let x = 1;\n/// ```\npub fn a() {\n";
        assert_eq!(findings("crates/synckit-client/src/lib.rs", elsewhere).len(), 1);
    }

    #[test]
    fn one_example_a_file_is_enough_below_the_sdk() {
        let sdk = ("crates/synckit-client/src/lib.rs", SHOWN.to_owned() + "pub fn a() {\n");
        let below = |text: &str| {
            let tree = Tree::from([(sdk.0, sdk.1.as_str()), ("crates/synckit-crypto/src/lib.rs", text)]);
            check(&tree).len()
        };
        assert_eq!(below(&format!("{SHOWN}pub fn a() {{\n}}\npub fn b() {{\n")), 0);
        assert_eq!(below("pub struct A;\n"), 0);
        assert_eq!(below("pub struct A;\npub fn b() {\n"), 1);
    }
}
