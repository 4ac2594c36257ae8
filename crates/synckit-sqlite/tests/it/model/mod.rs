//! The merge in every world of a small model, without a database.
//!
//! A scenario has a schema, a few rows, and a list of steps: edits, deletions, syncs, lost answers, a restored server. The
//! model takes every sequence of steps up to a depth, lets all devices sync until nothing moves, and looks at the result.
//! Each scenario is there for one rule, and fails without it.

mod device;
mod ledger;
mod scenarios;
mod table;
mod world;

use rand::{SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use synckit_sqlite::merge::{Rule, Rules};
use world::{Op, World};

/// The worlds of one rule.
struct Scenario {
    rule: Rule,
    world: World,
    /// What happens before the model begins.
    before: Vec<Op>,
    ops: Vec<Op>,
    depth: usize,
}

/// Every sequence of steps: the number of worlds, or the first that is not as it should be.
fn explore(scenario: &Scenario, rules: Rules) -> Result<usize, String> {
    let mut world = scenario.world.clone();
    world.rules = rules;
    for op in &scenario.before {
        world.step(op).map_err(|problem| format!("before: {problem}"))?;
    }
    let mut worlds = 0;
    walk(scenario, &world, &mut Vec::new(), &mut worlds)?;
    Ok(worlds)
}

fn walk<'a>(scenario: &'a Scenario, world: &World, path: &mut Vec<&'a Op>, worlds: &mut usize) -> Result<(), String> {
    *worlds += 1;
    world
        .clone()
        .come_to_rest()
        .map_err(|problem| format!("{problem}\nafter {path:#?}"))?;
    if path.len() == scenario.depth {
        return Ok(());
    }
    for op in &scenario.ops {
        let mut next = world.clone();
        path.push(op);
        let moved = next.step(op).map_err(|problem| format!("{problem}\nin {path:#?}"))?;
        // A step that does nothing leads to a world that is looked at elsewhere.
        if moved {
            walk(scenario, &next, path, worlds)?;
        }
        path.pop();
    }
    Ok(())
}

/// Longer worlds than [`explore`] reaches, at random.
fn roam(scenario: &Scenario, seed: u64) -> Result<(), String> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut world = scenario.world.clone();
    for op in &scenario.before {
        world.step(op).map_err(|problem| format!("before: {problem}"))?;
    }
    let mut path = Vec::new();
    for _ in 0..scenario.depth * 4 {
        let op = scenario.ops.choose(&mut random).ok_or("no step to take")?;
        path.push(op);
        let mut next = world.clone();
        let moved = next.step(op).map_err(|problem| format!("{problem}\nin {path:?}"))?;
        if moved {
            world = next;
        } else {
            path.pop();
        }
    }
    world
        .come_to_rest()
        .map_err(|problem| format!("{problem}\nafter {path:?}"))
}

fn roam_all(scenario: &Scenario, worlds: u64) {
    for seed in 0..worlds {
        roam(scenario, seed).unwrap_or_else(|problem| panic!("{:?}, seed {seed}: {problem}", scenario.rule));
    }
}

#[test]
fn longer_worlds_come_to_rest_too() {
    scenarios::all().iter().for_each(|scenario| roam_all(scenario, 30));
}

#[test]
fn all_features_together_come_to_rest() {
    roam_all(&scenarios::everything(), 400);
}

#[test]
fn apps_of_different_age_come_to_rest() {
    roam_all(&scenarios::mixed_versions(), 400);
}

fn check(scenario: &Scenario) {
    let worlds = explore(scenario, Rules::ALL).unwrap_or_else(|problem| panic!("{:?}: {problem}", scenario.rule));
    assert!(worlds > 100, "{worlds} worlds show little");
    let without = explore(scenario, Rules::danger_without(scenario.rule));
    assert!(without.is_err(), "no world needs {:?}", scenario.rule);
}

#[test]
fn values_are_compared_as_stored() {
    check(&scenarios::images());
}

#[test]
fn columns_merge_apart() {
    check(&scenarios::three_ways());
}

#[test]
fn unsent_rows_yield_to_unique() {
    check(&scenarios::unique_of_unsent());
}

#[test]
fn join_rows_follow_their_unified_parts() {
    check(&scenarios::unique_of_joined());
}

#[test]
fn logged_rows_that_clash_wait_outside() {
    check(&scenarios::unique_of_log());
}

#[test]
fn no_constraint_is_violated_on_the_way() {
    check(&scenarios::writing_order());
}

#[test]
fn children_follow_their_parents() {
    check(&scenarios::foreign_keys());
}

#[test]
fn triggers_do_not_echo() {
    check(&scenarios::triggers());
}

#[test]
fn unknown_columns_survive() {
    check(&scenarios::columns());
}

#[test]
fn own_batch_is_its_acknowledgement() {
    check(&scenarios::outbox());
}

#[test]
fn restored_server_gets_everything_back() {
    check(&scenarios::rejoin());
}

#[test]
fn missing_table_deletes_nothing() {
    check(&scenarios::brakes());
}
