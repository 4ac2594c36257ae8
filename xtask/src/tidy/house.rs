//! The allowed dependencies between crates, the forbidden ones of the server, and the required fields of every
//! manifest.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Finding, tree::Tree};

/// The house: for each crate, those on the floor below. An edge may skip a floor downwards and never points up. A new
/// crate gets its place here, and in the map of ARCHITECTURE.md.
const HOUSE: &[(&str, &[&str])] = &[
    ("synckit-protocol", &[]),
    ("synckit-login", &["synckit-protocol"]),
    ("synckit-crypto", &["synckit-login"]),
    ("synckit-client", &["synckit-crypto"]),
    ("synckit-sqlite", &["synckit-client"]),
    ("synckit-store", &["synckit-protocol"]),
    ("synckit-server", &["synckit-login", "synckit-store"]),
    ("synckit", &["synckit-sqlite", "synckit-server"]),
    // Behind the examples of the documentation, and in tests.
    ("synckit-doctest", &["synckit-client", "synckit-server"]),
    // An S3 store for tests.
    ("synckit-testbucket", &[]),
    // The simulator is a test: it may use everything, and nothing may use it but tests.
    ("synckit-sim", &["synckit"]),
    // So are the measurements.
    ("synckit-bench", &["synckit-client", "synckit-server"]),
    ("xtask", &[]),
];

const SERVER: &str = "synckit-server";
const CRYPTO: &str = "synckit-crypto";
/// The fields of the root manifest that every other inherits.
const INHERITED: &[&str] = &["version", "edition", "rust-version", "license", "publish"];
const LICENCE: &str = "PolyForm-Noncommercial-1.0.0";

/// Every crate that a crate may depend on: all floors below it.
fn below(name: &str) -> BTreeSet<&'static str> {
    let floor_of = |name: &str| {
        HOUSE
            .iter()
            .find(|(known, _)| *known == name)
            .map_or(&[] as &[_], |(_, floor)| *floor)
    };
    let mut reached = BTreeSet::new();
    let mut open = floor_of(name).to_vec();
    while let Some(next) = open.pop() {
        if reached.insert(next) {
            open.extend(floor_of(next));
        }
    }
    reached
}

/// Dependencies between our own crates that the house does not allow. Those of tests are free: the client's tests may
/// start a server.
pub(super) fn edges(metadata: &Value) -> Vec<Finding> {
    let packages = workspace_packages(metadata);
    let ours: BTreeSet<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let mut findings = Vec::new();
    for package in &packages {
        let name = package["name"].as_str().unwrap_or_default();
        if !HOUSE.iter().any(|(known, _)| *known == name) {
            findings.push(Finding::new(
                name,
                "the crate has no place in the house: add it to xtask and ARCHITECTURE.md",
            ));
            continue;
        }
        let allowed = below(name);
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let target = dependency["name"].as_str().unwrap_or_default();
            if dependency["kind"].as_str() != Some("dev") && ours.contains(target) && !allowed.contains(target) {
                findings.push(Finding::new(
                    name,
                    format!("must not depend on {target}: edges never point up"),
                ));
            }
        }
    }
    findings
}

/// A way from the server to the crate that can decrypt, through any crate of anybody. The server is an adversary of the
/// design, so its program must not even contain the code.
pub(super) fn server_cannot_decrypt(metadata: &Value) -> Vec<Finding> {
    let names: BTreeMap<&str, &str> = metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|package| Some((package["id"].as_str()?, package["name"].as_str()?)))
        .collect();
    let nodes: BTreeMap<&str, &Value> = metadata["resolve"]["nodes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|node| Some((node["id"].as_str()?, node)))
        .collect();
    let Some((&start, _)) = names
        .iter()
        .find(|(id, name)| **name == SERVER && nodes.contains_key(*id))
    else {
        return vec![Finding::new(SERVER, "not found in the output of cargo metadata")];
    };
    let mut ways = BTreeMap::from([(start, SERVER.to_owned())]);
    let mut open = vec![start];
    while let Some(id) = open.pop() {
        let way = ways[id].clone();
        for dependency in nodes
            .get(id)
            .and_then(|node| node["deps"].as_array())
            .into_iter()
            .flatten()
        {
            let Some(target) = dependency["pkg"].as_str() else {
                continue;
            };
            let mut kinds = dependency["dep_kinds"].as_array().into_iter().flatten();
            let is_linked = kinds.any(|kind| kind["kind"].as_str() != Some("dev"));
            if !is_linked || ways.contains_key(target) {
                continue;
            }
            let name = names.get(target).copied().unwrap_or(target);
            let way = format!("{way} -> {name}");
            if name == CRYPTO {
                return vec![Finding::new(SERVER, format!("must not link {CRYPTO}: {way}"))];
            }
            ways.insert(target, way);
            open.push(target);
        }
    }
    Vec::new()
}

fn workspace_packages(metadata: &Value) -> Vec<&Value> {
    let members: BTreeSet<&str> = metadata["workspace_members"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let packages = metadata["packages"].as_array().into_iter().flatten();
    packages
        .filter(|package| package["id"].as_str().is_some_and(|id| members.contains(id)))
        .collect()
}

/// Manifests that do not take version, edition, licence and lints from the root; one that is a workspace of its own
/// cannot, and must at least name the licence and stay unpublished.
pub(super) fn manifests(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree
        .texts()
        .filter(|(path, _)| *path == "Cargo.toml" || path.ends_with("/Cargo.toml"))
    {
        let manifest = Manifest::parse(text);
        let wanted: Vec<(&str, String, String)> = if path == "Cargo.toml" {
            vec![("workspace.package", "license".into(), format!("\"{LICENCE}\""))]
        } else if manifest.has_section("workspace") {
            vec![
                ("package", "license".into(), format!("\"{LICENCE}\"")),
                ("package", "publish".into(), "false".into()),
            ]
        } else {
            let inherited = INHERITED
                .iter()
                .map(|key| ("package", format!("{key}.workspace"), "true".to_owned()));
            inherited
                .chain([("lints", "workspace".into(), "true".into())])
                .collect()
        };
        for (section, key, value) in wanted {
            if !manifest.says(section, &key, &value) {
                findings.push(Finding::new(path, format!("[{section}] must say `{key} = {value}`")));
            }
        }
    }
    findings
}

/// As much of a manifest as one line a key holds.
struct Manifest<'a>(Vec<(&'a str, &'a str, &'a str)>, BTreeSet<&'a str>);

impl<'a> Manifest<'a> {
    fn parse(text: &'a str) -> Self {
        let mut entries = Vec::new();
        let mut sections = BTreeSet::new();
        let mut section = "";
        for line in text.lines().map(str::trim) {
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                section = name.trim();
                sections.insert(section);
            } else if let Some((key, value)) = line.split_once('=') {
                entries.push((section, key.trim(), value.trim()));
            }
        }
        Self(entries, sections)
    }

    fn has_section(&self, section: &str) -> bool {
        self.1.contains(section)
    }

    fn says(&self, section: &str, key: &str, value: &str) -> bool {
        self.0.contains(&(section, key, value))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Metadata of a workspace with these dependencies between its crates: from, to, kind.
    fn workspace(dependencies: &[(&str, &str, Option<&str>)]) -> Value {
        let names: BTreeSet<&str> = dependencies
            .iter()
            .flat_map(|(from, to, _)| [*from, *to])
            .chain([SERVER])
            .collect();
        let of = |name: &str| {
            dependencies
                .iter()
                .filter(move |(from, ..)| *from == name)
                .copied()
                .collect::<Vec<_>>()
        };
        json!({
            "workspace_members": names.iter().filter(|name| name.starts_with("synckit")).collect::<Vec<_>>(),
            "packages": names.iter().map(|name| json!({
                "id": name,
                "name": name,
                "dependencies":
                    of(name).iter().map(|(_, to, kind)| json!({"name": to, "kind": kind})).collect::<Vec<_>>(),
            })).collect::<Vec<_>>(),
            "resolve": {"nodes": names.iter().map(|name| json!({
                "id": name,
                "deps": of(name).iter().map(|(_, to, kind)| json!({"pkg": to, "dep_kinds": [{"kind": kind}]}))
                    .collect::<Vec<_>>(),
            })).collect::<Vec<_>>()},
        })
    }

    #[test]
    fn an_edge_may_skip_a_floor_downwards() {
        let metadata = workspace(&[
            ("synckit", "synckit-protocol", None),
            ("synckit", "synckit-client", None),
            ("synckit-client", "synckit-login", None),
            ("synckit-client", "tokio", None),
        ]);
        assert_eq!(edges(&metadata), []);
    }

    #[test]
    fn an_edge_that_points_up_or_across_is_found() {
        for (from, to) in [
            ("synckit-protocol", "synckit-login"),
            ("synckit-client", "synckit-server"),
            ("synckit-server", "synckit-client"),
            ("synckit", "synckit-sim"),
        ] {
            let findings = edges(&workspace(&[(from, to, None)]));
            assert_eq!(findings.len(), 1, "{from} -> {to}");
            assert_eq!(findings[0].place, from);
            assert_eq!(
                edges(&workspace(&[(from, to, Some("build"))])).len(),
                1,
                "{from} -> {to} in a build script"
            );
        }
    }

    #[test]
    fn tests_may_use_everything() {
        assert_eq!(edges(&workspace(&[("synckit-client", SERVER, Some("dev"))])), []);
    }

    #[test]
    fn a_crate_without_a_place_is_found() {
        let findings = edges(&workspace(&[("synckit-helpers", "synckit-protocol", None)]));
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].place, "synckit-helpers");
    }

    #[test]
    fn server_that_links_crypto_is_found() {
        let metadata = workspace(&[(SERVER, "bridge", None), ("bridge", CRYPTO, None)]);
        let findings = server_cannot_decrypt(&metadata);
        assert_eq!(findings.len(), 1);
        assert!(
            findings[0]
                .message
                .ends_with("synckit-server -> bridge -> synckit-crypto"),
            "{}",
            findings[0]
        );
    }

    #[test]
    fn tests_may_use_crypto() {
        assert_eq!(server_cannot_decrypt(&workspace(&[(SERVER, CRYPTO, Some("dev"))])), []);
    }

    #[test]
    fn metadata_without_the_server_proves_nothing() {
        assert_eq!(
            server_cannot_decrypt(&json!({"packages": [], "resolve": {"nodes": []}})).len(),
            1
        );
    }

    const MEMBER: &str = "[package]\nname = \"x\"\nversion.workspace = true\nedition.workspace = true\n\
        rust-version.workspace = true\nlicense.workspace = true\npublish.workspace = true\n\n[lints]\nworkspace = true\n";
    const ROOT: &str = "[workspace]\n\n[workspace.package]\nlicense = \"PolyForm-Noncommercial-1.0.0\"\n";

    #[test]
    fn manifests_that_inherit_everything_pass() {
        let own_workspace = "[package]\nlicense = \"PolyForm-Noncommercial-1.0.0\"\npublish = false\n[workspace]\n";
        let tree = Tree::from([
            ("Cargo.toml", ROOT),
            ("crates/x/Cargo.toml", MEMBER),
            ("fuzz/Cargo.toml", own_workspace),
        ]);
        assert_eq!(manifests(&tree), []);
    }

    #[test]
    fn a_manifest_that_leaves_a_line_out_is_found() {
        for left_out in MEMBER.lines().filter(|line| line.ends_with("= true")) {
            let rest: Vec<&str> = MEMBER.lines().filter(|line| *line != left_out).collect();
            let tree = Tree::from([("crates/x/Cargo.toml", rest.join("\n").as_str())]);
            assert_eq!(manifests(&tree).len(), 1, "{left_out}");
        }
        assert_eq!(manifests(&Tree::from([("Cargo.toml", "[workspace]\n")])).len(), 1);
        assert_eq!(
            manifests(&Tree::from([("fuzz/Cargo.toml", "[package]\n[workspace]\n")])).len(),
            2
        );
    }
}
