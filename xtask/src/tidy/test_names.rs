//! Names of tests that fit a column of a terminal. The rest of the fact is the first line of the test.

use super::{Finding, tree::Tree};

const NAME_LENGTH_MAX: usize = 50;

/// Tests with longer names.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let files = tree.texts().filter(|(path, _)| path.ends_with(".rs"));
    files
        .flat_map(|(path, text)| {
            let long = names(text).into_iter().filter(|(_, name)| name.len() > NAME_LENGTH_MAX);
            long.map(move |(line, name)| {
                Finding::new(
                    format!("{path}:{line}"),
                    format!("the test name {name} has over {NAME_LENGTH_MAX} characters: the rest belongs in its body"),
                )
            })
        })
        .collect()
}

/// Line and name of each test.
fn names(text: &str) -> Vec<(usize, &str)> {
    let mut names = Vec::new();
    let mut is_test = false;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if let Some((_, rest)) = line.split_once("fn ")
            && is_test
        {
            let end = rest.find(['(', '<']).unwrap_or(rest.len());
            names.push((index + 1, &rest[..end]));
            is_test = false;
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::Severity;

    #[test]
    fn a_name_of_51_characters_is_an_error() {
        let test = |length: usize| format!("#[tokio::test]\n#[expect(x)]\nasync fn {}() {{}}\n", "n".repeat(length));
        let found = |text: String| -> Vec<Severity> {
            let findings = check(&Tree::from([("crates/x/tests/it/a.rs", text.as_str())]));
            findings.iter().map(|finding| finding.severity).collect()
        };
        assert_eq!((found(test(50)), found(test(51))), (vec![], vec![Severity::Error]));
        // Other functions may have longer names.
        assert_eq!(found(format!("fn {}() {{}}\n", "n".repeat(60))), vec![]);
    }
}
