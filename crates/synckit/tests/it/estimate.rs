//! `synckit estimate`: what a plan costs, for people and programs.

use serde_json::{Value, json};

use crate::program::run_with;

#[test]
fn estimate_shows_every_part_of_the_price() {
    let ended = run_with(["estimate", "--gb", "25"]).expect_code(0);
    insta::assert_snapshot!(ended.stdout, @"
    what         how                  cost
    -----------  -----------------  ------
    stored       25 GB × $0.15       $3.75
    transfer     5 × 25 GB × $0.03   $3.75
    every month                      $7.50
    every year                      $90.00

    paid by the month or the year
    25.0 GB stored and 125.0 GB moved a month; 1 GB is 1,000,000,000 bytes
    people, devices and requests cost nothing
    ");
    let small = run_with(["estimate", "--gb", "1", "--burst", "2.5"]).expect_code(0);
    insta::assert_snapshot!(small.stdout, @"
    what         how                   cost
    -----------  ------------------  ------
    stored       1 GB × $0.15         $0.15
    transfer     2.5 × 1 GB × $0.03  $0.075
    every month                      $0.225
    every year                        $2.70

    paid by the year
    1.0 GB stored and 2.5 GB moved a month; 1 GB is 1,000,000,000 bytes
    people, devices and requests cost nothing
    ");
}

#[test]
fn programs_get_micro_dollars() {
    let ended = run_with(["estimate", "--gb", "10", "--burst", "5", "--json"]).expect_code(0);
    let estimate: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(
        estimate,
        json!({
            "gigabytes": 10,
            "burst_hundredths": 500,
            "storage_bytes": 10_000_000_000_u64,
            "transfer_bytes": 50_000_000_000_u64,
            "monthly_micro_dollars": 3_000_000,
            "yearly_micro_dollars": 36_000_000,
            "terms": ["month", "year"],
        })
    );
}

#[test]
fn plans_that_nobody_can_choose_are_refused() {
    for (arguments, said) in [
        (["--gb", "0"].as_slice(), "whole gigabytes, from 1 to 1000000: round up"),
        (&["--gb", "2.5"], "whole gigabytes, from 1 to 1000000: round up"),
        (
            &["--gb", "5", "--burst", "0"],
            "at most two decimals, from 0.01 to 1000",
        ),
        (
            &["--gb", "5", "--burst", "1.001"],
            "at most two decimals, from 0.01 to 1000",
        ),
        (&[], "--gb <GB>"),
    ] {
        let ended = run_with(["estimate"].iter().chain(arguments)).expect_code(2);
        assert!(ended.stderr.contains(said), "{}", ended.stderr);
    }
}
