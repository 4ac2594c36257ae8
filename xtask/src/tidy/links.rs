//! Relative links in Markdown: each must lead to a file of the repository, and each anchor to a heading.

use std::collections::BTreeMap;

use super::{Finding, tree::Tree};

/// Links that lead nowhere. Those to other hosts are not followed: a check must not depend on the network.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.texts().filter(|(path, _)| path.ends_with(".md")) {
        for (line, target) in links(text) {
            if let Some(objection) = objection(tree, path, &target) {
                findings.push(Finding::new(
                    format_args!("{path}:{line}"),
                    format!("`{target}` {objection}"),
                ));
            }
        }
    }
    findings
}

fn objection(tree: &Tree, path: &str, target: &str) -> Option<&'static str> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    if target.starts_with('/') {
        return Some("is absolute: write it relative to this file");
    }
    let (file, anchor) = target
        .split_once('#')
        .map_or((target, None), |(file, anchor)| (file, Some(anchor)));
    let file = if file.is_empty() {
        path.to_owned()
    } else {
        let Some(file) = resolve(path, file) else {
            return Some("leads out of the repository");
        };
        file
    };
    if !tree.has(&file) {
        return Some("leads to nothing in the repository");
    }
    match (anchor, tree.text(&file)) {
        (Some(anchor), Some(text)) if file.ends_with(".md") && !anchors(text).iter().any(|known| known == anchor) => {
            Some("names a heading that is not there")
        }
        _ => None,
    }
}

/// A relative path as seen from a file, or `None` if it leaves the repository.
fn resolve(from: &str, relative: &str) -> Option<String> {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in relative.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

/// The lines that are not in a fenced block, with their numbers from 1.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_block = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let is_fence = line.trim_start().starts_with("```");
        in_block ^= is_fence;
        (!in_block && !is_fence).then_some((index + 1, line))
    })
}

/// The targets of all links, inline or by reference, with their lines.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        let line = without_code(line);
        for (at, _) in line.match_indices("](") {
            // A title may follow the target.
            let target = line[at + 2..].split([')', ' ']).next().unwrap_or_default();
            found.push((number, target.trim_matches(['<', '>']).to_owned()));
        }
        let definition = line.strip_prefix('[').and_then(|rest| rest.split_once("]: "));
        if let Some(target) = definition.and_then(|(_, rest)| rest.split_whitespace().next()) {
            found.push((number, target.trim_matches(['<', '>']).to_owned()));
        }
    }
    found
}

/// A line without its `code`, in which brackets mean nothing.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("`")
}

/// The anchors of the headings, made as the usual Markdown renderers make them.
fn anchors(text: &str) -> Vec<String> {
    let mut seen = BTreeMap::<String, usize>::new();
    let mut anchors = Vec::new();
    for (_, line) in prose(text) {
        let heading = line.trim_start_matches('#');
        if heading.len() == line.len() || !heading.starts_with(' ') {
            continue;
        }
        let slug: String = heading
            .trim()
            .to_lowercase()
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect();
        let count = seen.entry(slug.clone()).or_default();
        anchors.push(if *count == 0 { slug } else { format!("{slug}-{count}") });
        *count += 1;
    }
    anchors
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(readme: &str) -> Vec<Finding> {
        check(&Tree::from([
            ("README.md", readme),
            (
                "docs/protocol.md",
                "# Protocol, version 1\n## 5. Batches & the `log`\n## Same\n## Same\n[up](../README.md)\n",
            ),
            ("docs/adr/0001-a.md", "[protocol](../protocol.md)\n"),
        ]))
    }

    #[test]
    fn links_that_lead_somewhere_pass() {
        let readme = "# Title\n[a](docs/protocol.md) [b](docs/adr) [c](docs/adr/0001-a.md \"title\") [d](#title)\n\
            [e](docs/protocol.md#5-batches--the-log) [f](docs/protocol.md#same-1) <https://example.org/x>\n\
            [g](https://example.org/x) [h]\n\n[h]: docs/protocol.md\n";
        assert_eq!(findings(readme), []);
    }

    #[test]
    fn links_that_lead_nowhere_are_found() {
        for link in [
            "[a](docs/missing.md)",
            "[a](doc)",
            "[a](../outside.md)",
            "[a](/docs/protocol.md)",
            "[a](docs/protocol.md#missing)",
            "[a](#missing)",
            "[a]: missing.md",
            "![a](missing.png)",
        ] {
            assert_eq!(findings(&format!("{link}\n")).len(), 1, "{link}");
        }
    }

    #[test]
    fn a_finding_names_the_line() {
        assert_eq!(findings("one\n\n[a](missing.md)\n")[0].place, "README.md:3");
    }

    #[test]
    fn code_is_not_a_link() {
        assert_eq!(
            findings("`[a](missing.md)`\n```text\n[a](missing.md)\n# not a heading\n```\n"),
            []
        );
    }
}
