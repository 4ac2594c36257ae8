//! Documents that must name things of the code, and the record of decisions.

use super::{Finding, stamp, texts::words_at, tree::Tree};

const PROBLEMS: &str = "crates/synckit-protocol/src/problem.rs";
const LIMITS: &str = "crates/synckit-protocol/src/limits.rs";
const DECISIONS: &str = "docs/adr/";
/// The sections of every decision, in this order.
const DECISION_SECTIONS: &[&str] = &["## Context", "## Decision", "## Rejected", "## When to revisit"];

/// Problem codes that the protocol document does not name. Clients decide by them, so each is part of the protocol.
pub(super) fn problem_codes(tree: &Tree) -> Vec<Finding> {
    undocumented(tree, PROBLEMS, "problem code", declared_codes)
}

/// Limits that the protocol document does not name.
pub(super) fn limits(tree: &Tree) -> Vec<Finding> {
    undocumented(tree, LIMITS, "limit", declared_limits)
}

fn undocumented(tree: &Tree, source: &str, what: &str, declared: fn(&str) -> Vec<&str>) -> Vec<Finding> {
    let names = declared(tree.text(source).unwrap_or_default());
    if names.is_empty() {
        // A check that reads nothing would pass for ever.
        return vec![Finding::new(
            source,
            format!("no {what} was found: does xtask still read the file?"),
        )];
    }
    let document = tree.text(stamp::DOCUMENT).unwrap_or_default();
    let missing = names
        .into_iter()
        .filter(|name| words_at(document, name).next().is_none());
    missing
        .map(|name| Finding::new(stamp::DOCUMENT, format!("does not name the {what} `{name}`")))
        .collect()
}

/// The texts in lines like `Behind = "behind", 409, "The stream has moved on";`.
fn declared_codes(source: &str) -> Vec<&str> {
    let declared = source.lines().filter_map(|line| {
        let (name, rest) = line.trim().split_once(" = \"")?;
        let (code, rest) = rest.split_once("\", ")?;
        let status = rest.split(',').next()?;
        let is_declaration = name.chars().all(char::is_alphanumeric) && status.parse::<u16>().is_ok();
        is_declaration.then_some(code)
    });
    declared.collect()
}

/// The names in lines like `pub const BATCH_ENTRIES_MAX: u32 = 500;`.
fn declared_limits(source: &str) -> Vec<&str> {
    source
        .lines()
        .filter_map(|line| line.strip_prefix("pub const ")?.split(':').next())
        .collect()
}

/// Decisions whose numbers have a gap or stand twice, or that leave out a section.
pub(super) fn decisions(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut expected = 1;
    for (path, text) in tree.texts().filter(|(path, _)| path.starts_with(DECISIONS)) {
        let name = &path[DECISIONS.len()..];
        let Some(number) = decision_number(name) else {
            findings.push(Finding::new(path, "the name of a decision is NNNN-in-a-few-words.md"));
            continue;
        };
        if number != expected {
            findings.push(Finding::new(path, format!("the next number is {expected:04}")));
        }
        expected = number + 1;
        if !text.starts_with(&format!("# {number:04}. ")) {
            findings.push(Finding::new(
                path,
                format!("the first line is `# {number:04}. ` and the title"),
            ));
        }
        let mut sections = text.lines().filter(|line| DECISION_SECTIONS.contains(line));
        if !DECISION_SECTIONS.iter().all(|wanted| sections.next() == Some(*wanted)) || sections.next().is_some() {
            findings.push(Finding::new(
                path,
                format!("the sections are {}", DECISION_SECTIONS.join(", ")),
            ));
        }
    }
    findings
}

/// The number of `NNNN-in-a-few-words.md`.
fn decision_number(name: &str) -> Option<u32> {
    let (number, words) = name.strip_suffix(".md")?.split_once('-')?;
    let is_slug = !words.is_empty()
        && words
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    (number.len() == 4 && is_slug).then(|| number.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODES: &str = "problem_codes! {\n    /// Doc.\n    NotFound = \"not_found\", 404, \"Nothing here\";\n\
        \n    Behind = \"behind\", 409, \"Moved on\";\n}\n#[serde(rename = \"type\")]\n";

    #[test]
    fn a_problem_code_without_documentation_is_found() {
        let complete = Tree::from([(PROBLEMS, CODES), (stamp::DOCUMENT, "`404 not_found`, `409 behind`\n")]);
        assert_eq!(problem_codes(&complete), []);
        let partial = Tree::from([
            (PROBLEMS, CODES),
            (stamp::DOCUMENT, "`404 device_not_found`, `behind`\n"),
        ]);
        let findings = problem_codes(&partial);
        assert_eq!(findings.len(), 1);
        assert!(findings[0].message.contains("`not_found`"));
    }

    #[test]
    fn a_limit_without_documentation_is_found() {
        let source = "/// Doc.\npub const PAGE_MAX: u32 = 5;\npub const PAGE_MAX_BYTES: u32 = 5;\n";
        let complete = Tree::from([(LIMITS, source), (stamp::DOCUMENT, "`PAGE_MAX`, `PAGE_MAX_BYTES`\n")]);
        assert_eq!(limits(&complete), []);
        let partial = Tree::from([(LIMITS, source), (stamp::DOCUMENT, "`PAGE_MAX_BYTES`\n")]);
        assert_eq!(limits(&partial).len(), 1);
    }

    #[test]
    fn a_source_in_which_nothing_is_declared_is_found() {
        let tree = Tree::from([(stamp::DOCUMENT, "")]);
        assert_eq!(problem_codes(&tree).len(), 1);
        assert_eq!(limits(&tree).len(), 1);
    }

    fn decision(number: &str) -> String {
        format!("# {number}. Title\n\n{}\n", DECISION_SECTIONS.join("\n\nText.\n\n"))
    }

    #[test]
    fn consecutive_decisions_pass() {
        let (first, second) = (decision("0001"), decision("0002"));
        let tree = Tree::from([
            ("docs/adr/0001-a.md", first.as_str()),
            ("docs/adr/0002-b-c.md", second.as_str()),
        ]);
        assert_eq!(decisions(&tree), []);
    }

    #[test]
    fn a_gap_and_a_double_number_are_found() {
        let (first, third) = (decision("0001"), decision("0003"));
        let gap = Tree::from([
            ("docs/adr/0001-a.md", first.as_str()),
            ("docs/adr/0003-c.md", third.as_str()),
        ]);
        assert_eq!(decisions(&gap).len(), 1);
        let twice = Tree::from([
            ("docs/adr/0001-a.md", first.as_str()),
            ("docs/adr/0001-b.md", first.as_str()),
        ]);
        assert_eq!(decisions(&twice).len(), 1);
    }

    #[test]
    fn decision_with_bad_name_title_section_is_found() {
        let good = decision("0001");
        assert_eq!(decisions(&Tree::from([("docs/adr/1-a.md", good.as_str())])).len(), 1);
        assert_eq!(
            decisions(&Tree::from([("docs/adr/0001-A b.md", good.as_str())])).len(),
            1
        );
        assert_eq!(
            decisions(&Tree::from([(
                "docs/adr/0001-a.md",
                good.replace("# 0001. ", "# ").as_str()
            )]))
            .len(),
            1
        );
        for section in DECISION_SECTIONS {
            let text = good.replace(section, "## Thoughts");
            assert_eq!(
                decisions(&Tree::from([("docs/adr/0001-a.md", text.as_str())])).len(),
                1,
                "{section}"
            );
        }
    }
}
