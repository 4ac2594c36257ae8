//! The simulator: the real server and the real SDK in one process, on one seeded clock and one seeded network.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`attacks`] | a lying server: the check that detects each lie, and its effect otherwise |
//! | [`golden`] | the world that every run starts from: accounts and signed-in devices, made once |
//! | [`endpoint`] | the real server, called as a service |
//! | [`network`] | a transport that delays, drops, duplicates and cuts |
//! | [`crash`] | processes that die at any await |
//! | [`device`] | an app with a disk, on the real SDK, that follows one of three policies |
//! | [`ledger`] | every edit and its acknowledgement: the promises of a run |
//! | [`setback`] | a server that crashes, is restored from an older copy, or cuts its log |
//! | [`mod@run`] | one seed: a storm, then calm, then the verdict |
//! | [`scan`] | a search for secrets in files, logs and memory |
//! | [`sweep`] | many seeds on all cores, and the seeds that are kept |
//! | [`trace`] | the events of a run, and their hash |
//! | [`drills`] | the real server and real clients in separate processes, killed, starved and misled |
//! | [`direct`] | a transport without a network, for liars |
//!
//! The simulator is deliberately not a model. It replaces only the transport between server and SDK, the clock, and the
//! source of the pauses between retries; the store writes real files. It is not published.
//!
//! Invariant: a seed decides everything that a run's [`trace`] shows. Keys, nonces and ids are random all the same, as
//! they must be; nothing that happens depends on them.

pub mod attacks;
pub mod crash;
pub mod device;
pub mod direct;
pub mod drills;
pub mod endpoint;
pub mod golden;
pub mod ledger;
pub mod network;
pub mod run;
#[cfg(target_os = "linux")]
pub mod scan;
pub mod setback;
pub mod sweep;
pub mod trace;
