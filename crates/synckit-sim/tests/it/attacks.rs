//! Every attack of a lying server is refused for what it is, and its control shows by what.

use synckit_sim::attacks::ATTACKS;

use crate::world::golden;

#[test]
fn every_attack_is_refused_every_control_shows_why() {
    let failed: Vec<String> = ATTACKS
        .iter()
        .filter_map(|attack| {
            let error = attack.run(golden()).err()?;
            Some(format!("{}: {error:#}", attack.name))
        })
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
