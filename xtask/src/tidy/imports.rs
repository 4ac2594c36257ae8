//! Which file of a crate uses which, and the circles of files that follow.
//!
//! A circle of many files is one file that was cut up: none of them can be read, tested or moved alone. Two files that know
//! each other are a parent and its child, mostly.
//!
//! The reader knows names but no types: it sees imports and paths, and follows re-exports to the file that holds the
//! item. It does not see a method call on a value.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Finding,
    source::{Token, is_name, tokens},
    tree::Tree,
};

/// The crates whose files form no larger circle.
const CRATES: &[&str] = &["synckit-client", "synckit-store"];
/// A parent and its child may know each other.
const CIRCLE_MAX: usize = 2;

/// Circles of more files.
pub(super) fn circles(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for name in CRATES {
        let files = Files::read(tree, name);
        if files.modules.is_empty() {
            // A check that reads nothing would pass for ever.
            findings.push(Finding::new(name, "no file of the crate was found"));
        }
        for circle in files.circles() {
            findings.push(Finding::new(
                name,
                format!("{} files form a circle: {}", circle.len(), circle.join(", ")),
            ));
        }
    }
    findings
}

type Path = Vec<String>;

/// The files of one crate.
struct Files {
    modules: BTreeMap<Path, Module>,
}

/// One file.
#[derive(Debug, Default)]
struct Module {
    /// Relative to `src`.
    file: String,
    /// The meaning of a name here, from an import or a re-export.
    aliases: BTreeMap<String, Path>,
    /// Paths that the file uses, from the root of the crate.
    uses: BTreeSet<Path>,
}

impl Files {
    fn read(tree: &Tree, name: &str) -> Self {
        let root = format!("crates/{name}/src/");
        let texts: BTreeMap<Path, (&str, &str)> = tree
            .texts()
            .filter_map(|(path, text)| {
                let file = path.strip_prefix(&root)?;
                Some((module_of(file)?, (file, text)))
            })
            .collect();
        let modules = texts
            .iter()
            .map(|(path, (file, text))| {
                let children = texts
                    .keys()
                    .filter(|child| child.len() == path.len() + 1 && child.starts_with(path))
                    .filter_map(|child| child.last().map(String::as_str))
                    .collect();
                (path.clone(), Module::read(path, file, text, &children))
            })
            .collect();
        Self { modules }
    }

    /// The file that holds the item of a path. Follows a limited number of re-exports, because they may be circular.
    fn home_of(&self, path: &[String], hops: usize) -> Option<&Path> {
        let mut end = path.len();
        while !self.modules.contains_key(&path[..end]) {
            end = end.checked_sub(1)?;
        }
        let (home, module) = self.modules.get_key_value(&path[..end])?;
        let alias = path.get(end).and_then(|item| module.aliases.get(item));
        match (alias, hops.checked_sub(1)) {
            (Some(alias), Some(hops)) => {
                let whole: Path = alias.iter().chain(&path[end + 1..]).cloned().collect();
                self.home_of(&whole, hops)
            }
            _ => Some(home),
        }
    }

    fn neighbours<'a>(&'a self, path: &'a Path) -> BTreeSet<&'a Path> {
        let uses = self.modules.get(path).into_iter().flat_map(|module| &module.uses);
        uses.filter_map(|used| self.home_of(used, 8))
            .filter(|home| *home != path)
            .collect()
    }

    fn reachable<'a>(&'a self, from: &'a Path) -> BTreeSet<&'a Path> {
        let (mut reached, mut open) = (BTreeSet::new(), vec![from]);
        while let Some(path) = open.pop() {
            for next in self.neighbours(path) {
                if reached.insert(next) {
                    open.push(next);
                }
            }
        }
        reached
    }

    /// The sets of files in which each reaches each other one.
    fn circles(&self) -> Vec<Vec<&str>> {
        let reachable: BTreeMap<&Path, BTreeSet<&Path>> =
            self.modules.keys().map(|path| (path, self.reachable(path))).collect();
        let mut circles = BTreeSet::new();
        for (path, reached) in &reachable {
            let circle: Vec<&Path> = reached
                .iter()
                .copied()
                .filter(|other| reachable.get(other).is_some_and(|back| back.contains(path)))
                .collect();
            if circle.len() > CIRCLE_MAX {
                circles.insert(circle);
            }
        }
        let file = |path: &Path| self.modules.get(path).map_or("", |module| module.file.as_str());
        circles
            .into_iter()
            .map(|circle| circle.into_iter().map(file).collect())
            .collect()
    }
}

/// The module of a file: `sqlite/mod.rs` and `sqlite.rs` are `sqlite`, `lib.rs` is the root. A program has no module here.
fn module_of(file: &str) -> Option<Path> {
    let path = file.strip_suffix(".rs")?;
    let path = path.strip_suffix("/mod").unwrap_or(path);
    Some(match path {
        "lib" | "main" => Path::new(),
        path => path.split('/').map(str::to_owned).collect(),
    })
}

impl Module {
    fn read(path: &[String], file: &str, text: &str, children: &BTreeSet<&str>) -> Self {
        let tokens = tokens(text);
        let mut module = Self {
            file: file.to_owned(),
            ..Self::default()
        };
        let mut body = Vec::new();
        let mut again = Vec::new();
        let mut at = 0;
        while at < tokens.len() {
            if tokens[at] == "use" {
                let end = tokens[at..]
                    .iter()
                    .position(|token| *token == ";")
                    .map_or(tokens.len(), |end| at + end);
                let is_again = is_public(&tokens[..at]);
                for (used, name) in imported(&tokens[at + 1..end]) {
                    let Some(used) = absolute(path, &used, children) else {
                        continue;
                    };
                    if is_again {
                        again.push((name.clone(), used.clone()));
                    } else {
                        module.uses.insert(used.clone());
                    }
                    module.aliases.insert(name, used);
                }
                at = end;
            } else {
                body.push(tokens[at]);
                at += 1;
            }
        }
        for used in paths(&body).iter().filter_map(|used| absolute(path, used, children)) {
            module.uses.insert(used);
        }
        // A re-exported name is not used here; names in the code below are.
        for (name, used) in again {
            if body.contains(&name.as_str()) {
                module.uses.insert(used);
            }
        }
        module
    }
}

/// Whether the last thing before a `use` is its visibility.
fn is_public(before: &[Token<'_>]) -> bool {
    match before {
        [.., "pub"] => true,
        [rest @ .., ")"] => {
            let open = rest.iter().rposition(|token| *token == "(");
            open.and_then(|open| open.checked_sub(1))
                .is_some_and(|at| rest[at] == "pub")
        }
        _ => false,
    }
}

/// The imports of a `use`: each path, and its name here.
fn imported<'a>(tree: &[Token<'a>]) -> Vec<(Vec<Token<'a>>, String)> {
    let mut found = Vec::new();
    let mut prefixes: Vec<Vec<Token<'a>>> = vec![Vec::new()];
    let mut current: Vec<Token<'a>> = Vec::new();
    let mut renamed = None;
    let mut tokens = tree.iter().copied().peekable();
    let mut finish = |prefix: &[Token<'a>], current: &mut Vec<Token<'a>>, renamed: &mut Option<Token<'a>>| {
        if current.is_empty() {
            return;
        }
        let mut whole: Vec<Token<'a>> = prefix.iter().chain(current.iter()).copied().collect();
        current.clear();
        if whole.last() == Some(&"self") && whole.len() > 1 {
            whole.pop();
        }
        let name = renamed.take().or(whole.last().copied()).unwrap_or_default().to_owned();
        found.push((whole, name));
    };
    while let Some(token) = tokens.next() {
        let prefix = prefixes.last().cloned().unwrap_or_default();
        match token {
            "{" => {
                prefixes.push(prefix.into_iter().chain(current.drain(..)).collect());
            }
            "}" => {
                finish(&prefix, &mut current, &mut renamed);
                prefixes.pop();
            }
            "," => finish(&prefix, &mut current, &mut renamed),
            "as" => renamed = tokens.next(),
            token if token.starts_with(is_name) => current.push(token),
            _ => {}
        }
    }
    let prefix = prefixes.last().cloned().unwrap_or_default();
    finish(&prefix, &mut current, &mut renamed);
    found
}

/// Paths of two names and more in the code.
fn paths<'a>(body: &[Token<'a>]) -> Vec<Vec<Token<'a>>> {
    let mut found = Vec::new();
    let mut current: Vec<Token<'a>> = Vec::new();
    let mut colons = 0;
    for token in body.iter().copied().chain([";"]) {
        if token == ":" {
            colons += 1;
            continue;
        }
        let follows = colons == 2 && !current.is_empty();
        colons = 0;
        if token.starts_with(is_name) && follows {
            current.push(token);
        } else {
            if current.len() > 1 {
                found.push(std::mem::take(&mut current));
            }
            current.clear();
            if token.starts_with(is_name) {
                current.push(token);
            }
        }
    }
    found
}

/// A path from the root of the crate, if it leads into the crate.
fn absolute(module: &[String], path: &[Token<'_>], children: &BTreeSet<&str>) -> Option<Path> {
    let mut base = match *path.first()? {
        "crate" => Path::new(),
        "self" => module.to_vec(),
        "super" => module[..module.len().checked_sub(1)?].to_vec(),
        child if children.contains(child) => [module, &[child.to_owned()]].concat(),
        _ => return None,
    };
    for name in &path[1..] {
        match *name {
            "super" => drop(base.pop()?),
            name => base.push(name.to_owned()),
        }
    }
    Some(base)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circles_of(files: &[(&str, &str)]) -> Vec<Vec<String>> {
        let mut tree = Tree::default();
        for (file, text) in files {
            tree.insert(&format!("crates/synckit-client/src/{file}"), *text);
        }
        let files = Files::read(&tree, "synckit-client");
        let circles = files.circles();
        circles
            .into_iter()
            .map(|circle| circle.into_iter().map(str::to_owned).collect())
            .collect()
    }

    #[test]
    fn a_circle_of_three_files_is_found() {
        let found = circles_of(&[
            ("a.rs", "use crate::b::B;"),
            ("b.rs", "fn f() { crate::c::g() }"),
            ("c.rs", "use super::{x::X, a::{self, A}};"),
        ]);
        assert_eq!(found, [["a.rs", "b.rs", "c.rs"]]);
    }

    #[test]
    fn two_files_and_a_line_of_three_are_none() {
        let found = circles_of(&[
            ("a.rs", "use crate::b::B;"),
            ("b.rs", "use crate::{a::A, c::C};"),
            ("c.rs", "use crate::d::D; // use crate::a::A;"),
        ]);
        assert!(found.is_empty(), "{found:?}");
    }

    #[test]
    fn a_re_export_leads_to_the_file_behind_it() {
        // The parent only passes on: its children form no circle through it.
        let passing = [
            ("lib.rs", "mod store; pub use store::{A, B};"),
            ("store/mod.rs", "mod a; mod b; pub use a::A; pub(crate) use b::B;"),
            ("store/a.rs", "use super::B;"),
            ("store/b.rs", "use crate::store::Other;"),
        ];
        assert!(circles_of(&passing).is_empty());
        // A parent that uses both children, which use it, does.
        let using = [
            (
                "store/mod.rs",
                "mod a; mod b; pub use a::A; fn f() { A::new(); b::g(); }",
            ),
            ("store/a.rs", "use super::f;"),
            ("store/b.rs", "use super::f;"),
        ];
        assert_eq!(circles_of(&using), [["store/mod.rs", "store/a.rs", "store/b.rs"]]);
    }

    #[test]
    fn unit_tests_close_no_circle() {
        let found = circles_of(&[
            ("a.rs", "use crate::b::B;"),
            ("b.rs", "use crate::c::C;"),
            ("c.rs", "\n#[cfg(test)]\nmod tests { use crate::a::A; }\n"),
        ]);
        assert!(found.is_empty(), "{found:?}");
    }

    #[test]
    fn a_crate_without_files_is_an_error() {
        assert_eq!(circles(&Tree::default()).len(), CRATES.len());
    }
}
