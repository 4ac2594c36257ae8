//! Texts that must not be committed: unfinished code, paths of somebody's machine, white space at line ends, files that
//! are too long.

use super::{Finding, tree::Tree};

// The words are put together here, or this file would find itself.
const UNFINISHED: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("to", "do!("),
    concat!("unimpl", "emented!("),
    concat!("#[ig", "nore"),
];
const MACHINE_FOLDERS: &[&str] = &[
    concat!("/ho", "me/"),
    concat!("/ro", "ot/"),
    concat!("/wo", "rk/"),
    concat!("/Us", "ers/"),
];

/// Lines of one Rust file, its tests and documentation not counted, past which to look for the missing concept.
const RUST_LINES_WARN: usize = 700;
const RUST_LINES_MAX: usize = 900;
/// Lines of one file of tests.
const TEST_LINES_MAX: usize = 1500;

/// Notes to oneself, stubs, and tests that do not run.
pub(super) fn unfinished(tree: &Tree) -> Vec<Finding> {
    each_line(tree, |line| {
        let word = UNFINISHED.iter().find(|word| words_at(line, word).next().is_some())?;
        Some(format!("`{word}`: finish it, or open an issue"))
    })
}

/// Absolute paths that exist on one machine only.
pub(super) fn machine_paths(tree: &Tree) -> Vec<Finding> {
    each_line(tree, |line| {
        let folder = MACHINE_FOLDERS.iter().find(|folder| {
            line.match_indices(**folder).any(|(at, _)| {
                // In the middle of a URL or of a relative path it is a name like any other.
                let before = line[..at].chars().next_back();
                !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '}' | ')' | '>'))
            })
        })?;
        Some(format!("a path under `{folder}` exists on one machine only"))
    })
}

/// White space at the end of a line, a missing last line end, and files that a merge or an editor left behind.
pub(super) fn leftovers(tree: &Tree) -> Vec<Finding> {
    let mut findings = each_line(tree, |line| {
        (line != line.trim_end()).then(|| "white space at the end of the line".to_owned())
    });
    for (path, text) in tree.texts() {
        if !text.is_empty() && !text.ends_with('\n') {
            findings.push(Finding::new(path, "the last line has no end"));
        }
    }
    for path in tree.paths() {
        let name = path.rsplit('/').next().unwrap_or(path);
        if name.contains(".tmp.")
            || [".orig", ".rej", ".bak", "~"]
                .iter()
                .any(|ending| name.ends_with(ending))
        {
            findings.push(Finding::new(path, "looks like a leftover: delete it"));
        }
    }
    findings
}

/// Rust files that are too long to be read in one go.
pub(super) fn lengths(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.texts().filter(|(path, _)| path.ends_with(".rs")) {
        if is_test_file(path) {
            let lines = text.lines().count();
            if lines > TEST_LINES_MAX {
                findings.push(Finding::new(
                    path,
                    format!("{lines} lines of tests, at most {TEST_LINES_MAX}"),
                ));
            }
            continue;
        }
        let production = text.lines().take(production_lines(text));
        let lines = production.filter(|line| !is_documentation(line)).count();
        if lines > RUST_LINES_MAX {
            findings.push(Finding::new(path, format!("{lines} lines, at most {RUST_LINES_MAX}")));
        } else if lines > RUST_LINES_WARN {
            findings.push(Finding::warning(
                path,
                format!("{lines} lines: look for the missing concept"),
            ));
        }
    }
    findings
}

fn is_test_file(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs")
}

/// A file is not to be split for having examples.
fn is_documentation(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("///") || line.starts_with("//!")
}

/// The lines before the module of unit tests, which is the last part of a file.
pub(super) fn production_lines(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let tests = lines
        .windows(2)
        .position(|pair| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod "));
    tests.unwrap_or(lines.len())
}

/// A finding for each line that the function objects to.
fn each_line(tree: &Tree, objection: impl Fn(&str) -> Option<String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.texts() {
        for (index, line) in text.lines().enumerate() {
            if let Some(message) = objection(line) {
                findings.push(Finding::new(format_args!("{path}:{}", index + 1), message));
            }
        }
    }
    findings
}

/// The places of a text as a whole word, not as a part of a longer name.
pub(super) fn words_at<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let before = text[..*at].chars().next_back().filter(|_| word.starts_with(is_name));
        let after = text[at + word.len()..]
            .chars()
            .next()
            .filter(|_| word.ends_with(is_name));
        !before.into_iter().chain(after).any(is_name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mark_of_unfinished_code_is_found() {
        for word in UNFINISHED {
            let findings = unfinished(&Tree::from([(
                "crates/x/src/lib.rs",
                format!("//! Fine.\n{word}\n").as_str(),
            )]));
            assert_eq!(findings.len(), 1, "{word}");
            assert_eq!(findings[0].place, "crates/x/src/lib.rs:2");
        }
    }

    #[test]
    fn a_part_of_a_longer_name_is_not_a_mark() {
        let text = format!("{}S_PER_PAGE my_{}fn)\n", UNFINISHED[0], UNFINISHED[2]);
        assert_eq!(unfinished(&Tree::from([("a.rs", text.as_str())])), []);
    }

    #[test]
    fn a_path_of_a_machine_is_found() {
        for folder in MACHINE_FOLDERS {
            for before in ["", "see `", "PATH=", "(\"", "file://"] {
                let tree = Tree::from([("README.md", format!("{before}{folder}me/x\n").as_str())]);
                assert_eq!(machine_paths(&tree).len(), 1, "{before}{folder}");
            }
        }
    }

    #[test]
    fn folder_inside_a_url_is_no_machine_path() {
        let text = format!(
            "https://example.org{0}x ..{0}y $DIR{1}\n",
            MACHINE_FOLDERS[0], MACHINE_FOLDERS[2]
        );
        assert_eq!(machine_paths(&Tree::from([("README.md", text.as_str())])), []);
    }

    #[test]
    fn white_space_at_the_end_is_found() {
        assert_eq!(leftovers(&Tree::from([("a.md", "one \ntwo\t\nthree\n")])).len(), 2);
        assert_eq!(leftovers(&Tree::from([("a.md", "no line end")])).len(), 1);
        assert_eq!(leftovers(&Tree::from([("a.md", "one\n\ntwo\n"), ("b.rs", "")])), []);
    }

    #[test]
    fn leftover_files_are_found() {
        for path in ["docs/notes.tmp.md", "a.rs.orig", "b.rs.rej", "c.rs~", "d.bak"] {
            assert_eq!(leftovers(&Tree::from([(path, "")])).len(), 1, "{path}");
        }
    }

    #[test]
    fn long_file_warns_very_long_file_fails() {
        let severities = |path: &str, lines: usize| {
            let tree = Tree::from([(path, "//\n".repeat(lines).as_str())]);
            lengths(&tree)
                .into_iter()
                .map(|finding| finding.severity)
                .collect::<Vec<_>>()
        };
        use super::super::Severity::{Error, Warning};
        assert_eq!(severities("crates/x/src/a.rs", RUST_LINES_WARN), []);
        assert_eq!(severities("crates/x/src/a.rs", RUST_LINES_WARN + 1), [Warning]);
        assert_eq!(severities("crates/x/src/a.rs", RUST_LINES_MAX + 1), [Error]);
        assert_eq!(severities("crates/x/tests/it/a.rs", RUST_LINES_MAX + 1), []);
        assert_eq!(severities("crates/x/tests/it/a.rs", TEST_LINES_MAX + 1), [Error]);
    }

    #[test]
    fn unit_tests_do_not_count() {
        let text = format!(
            "{}#[cfg(test)]\nmod tests {{\n{}}}\n",
            "//\n".repeat(10),
            "//\n".repeat(RUST_LINES_MAX)
        );
        assert_eq!(production_lines(&text), 10);
    }
}
