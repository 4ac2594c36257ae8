//! The conformance suite itself.

use std::{collections::BTreeSet, fs};

/// A fact that is written and not listed would never run.
#[test]
fn every_fact_is_listed() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/src/conformance");
    let list = fs::read_to_string(format!("{directory}/mod.rs")).unwrap();
    let listed: BTreeSet<&str> = list.lines().filter_map(|line| line.trim().strip_suffix(',')).collect();
    let mut facts = 0;
    for file in fs::read_dir(directory).unwrap() {
        let path = file.unwrap().path();
        if ["fixture", "whole_account"]
            .iter()
            .any(|name| path.ends_with(format!("{name}.rs")))
        {
            continue;
        }
        for line in fs::read_to_string(&path).unwrap().lines() {
            let Some(rest) = line.strip_prefix("pub async fn ") else {
                continue;
            };
            let name = rest.split('(').next().unwrap();
            assert!(
                listed.contains(name),
                "{} has {name}, which is not listed",
                path.display()
            );
            facts += 1;
        }
    }
    assert!(facts > 100, "only {facts} facts were found");
}
