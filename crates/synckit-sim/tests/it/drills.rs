//! Every drill, small. The large ones are `cargo run -p synckit-sim -- drills`.
//!
//! They need `faketime`, which `cargo xtask test` installs.

use std::{path::Path, sync::OnceLock};

use synckit_sim::drills::{Drill, Sizes, process::Programs};

fn programs() -> &'static Programs {
    static PROGRAMS: OnceLock<Programs> = OnceLock::new();
    PROGRAMS.get_or_init(|| Programs::beside(Path::new(env!("CARGO_BIN_EXE_synckit-sim"))).unwrap())
}

fn holds(name: &str) {
    // The error says how to run it again, with its seed.
    Drill::named(name).unwrap().run(programs(), &Sizes::small()).unwrap();
}

#[test]
fn a_server_that_is_killed_again_and_again_loses_and_doubles_nothing() {
    holds("server-kill");
}

#[test]
fn clients_that_are_killed_in_the_middle_finish_when_they_are_started_again() {
    holds("client-kill");
}

#[test]
fn a_full_disk_refuses_what_is_new_and_serves_what_is_there() {
    holds("disk-full");
}

#[test]
fn a_restored_backup_alarms_every_device_that_knew_more_and_costs_no_row() {
    holds("restore");
}

#[test]
fn two_processes_of_a_device_stand_in_nobodys_way() {
    holds("two-processes");
}

#[test]
fn clocks_that_jump_let_nothing_expired_in_and_lock_nobody_out() {
    holds("clock");
}
