//! Every attack of a lying server is refused for what it is, and its control shows by what.

use synckit_sim::attacks;

use crate::world::golden;

#[test]
fn every_attack_is_refused_every_control_shows_why() {
    let (table, all_held) = attacks::table(golden());
    assert!(all_held, "{table}");
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../SECURITY.md")).unwrap();
    assert!(
        document.contains(&format!("\n\n{table}\n")),
        "SECURITY.md does not contain this table:\n{table}"
    );
}
