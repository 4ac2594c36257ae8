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
fn killed_server_loses_and_doubles_nothing() {
    holds("server-kill");
}

#[test]
fn killed_clients_finish_when_started_again() {
    holds("client-kill");
}

#[test]
fn full_disk_refuses_writes_and_serves_reads() {
    holds("disk-full");
}

#[test]
fn restored_backup_alarms_devices_and_loses_no_row() {
    holds("restore");
}

#[test]
fn a_torn_copy_is_refused_and_a_backup_is_whole() {
    holds("busy-copy");
}

#[test]
fn two_processes_of_a_device_stand_in_nobodys_way() {
    holds("two-processes");
}

#[test]
fn clock_jumps_admit_nothing_expired_lock_nobody_out() {
    holds("clock");
}
