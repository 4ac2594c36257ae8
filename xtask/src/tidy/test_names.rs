//! Names of tests that fit a column of a terminal. The rest of the fact is the first line of the test.

use std::collections::BTreeMap;

use super::{Finding, tree::Tree};

const NAME_LENGTH_MAX: usize = 50;

/// Tests with longer names.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut long: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, text) in tree.texts().filter(|(path, _)| path.ends_with(".rs")) {
        let names = names(text).into_iter().filter(|(_, name)| name.len() > NAME_LENGTH_MAX);
        let places = names.map(|(line, name)| format!("{path}:{line} {name}"));
        let room: Vec<&str> = path.split('/').take(2).collect();
        long.entry(room.join("/")).or_default().extend(places);
    }
    long.retain(|_, places| !places.is_empty());
    long.into_iter()
        .map(|(room, places)| {
            Finding::warning(
                room,
                format!(
                    "{} test names are over {NAME_LENGTH_MAX} characters, the first: {}",
                    places.len(),
                    places.first().map_or("", String::as_str)
                ),
            )
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

    #[test]
    fn a_name_of_51_characters_is_found() {
        let test = |length: usize| format!("#[tokio::test]\n#[expect(x)]\nasync fn {}() {{}}\n", "n".repeat(length));
        let found = |text: String| check(&Tree::from([("crates/x/tests/it/a.rs", text.as_str())])).len();
        assert_eq!((found(test(50)), found(test(51))), (0, 1));
        // Other functions are called as they like.
        assert_eq!(found(format!("fn {}() {{}}\n", "n".repeat(60))), 0);
    }
}
