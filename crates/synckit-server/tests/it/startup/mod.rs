//! Configuration, key files, and the life of the process.

mod config;
mod keys;
mod life;
#[cfg(target_os = "linux")]
mod postgresql;
