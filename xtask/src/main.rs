//! The project's own commands: `cargo xtask test`, `tidy`, `instructions`, `mutants`,
//! `pages` and `with-keychain`.
//!
//! This crate deliberately contains nothing that the product needs, and no other crate depends on it.

#![expect(clippy::print_stdout, reason = "a command line tool, whose output is its result")]

mod instructions;
mod mutants;
mod packages;
mod pages;
#[cfg(target_os = "linux")]
mod postgres;
mod python;
#[cfg(target_os = "linux")]
mod secret_service;
mod test;
mod tidy;

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, bail};

const USAGE: &str = "\
usage: cargo xtask <command>

  test [-- ARGS]          run every test; ARGS go to `cargo test` (with -p they replace --workspace)
  tidy                    check what the compiler does not: crate edges, documents, texts
  tidy --protocol-reviewed
                          the same, after recording that docs/protocol.md was read against its crate
  instructions [--update] count the instructions of the hot paths; over 15 % more than recorded fails
  mutants [-- ARGS]       change the code place by place; fails where no test notices (hours: choose files with -f)
  pages                   compile what the pages compute (OPAQUE, vaults) to WebAssembly, after a change of its sources
  with-keychain -- CMD    run a command in a private, throw-away Secret Service session";

fn main() -> ExitCode {
    match run(env::args_os().skip(1).collect()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs one command. `Ok(false)` means that it ran and found something wrong, and has said so itself.
fn run(arguments: Vec<OsString>) -> anyhow::Result<bool> {
    let mut arguments = arguments.into_iter();
    let Some(command) = arguments.next() else {
        bail!("no command given\n\n{USAGE}");
    };
    let rest: Vec<OsString> = arguments.collect();
    match (command.to_str(), rest.as_slice()) {
        (Some("test"), rest) => test::run(after_separator(rest)?),
        (Some("tidy"), []) => tidy::run(tidy::ProtocolReview::Check),
        (Some("tidy"), [flag]) if flag == "--protocol-reviewed" => tidy::run(tidy::ProtocolReview::Record),
        (Some("instructions"), []) => instructions::run(instructions::Baseline::Compare),
        (Some("instructions"), [flag]) if flag == "--update" => instructions::run(instructions::Baseline::Update),
        (Some("mutants"), rest) => mutants::run(after_separator(rest)?),
        (Some("pages"), []) => pages::run(),
        (Some("with-keychain"), rest) => test::run_with_keychain(after_separator(rest)?),
        (Some("help" | "--help" | "-h"), _) => {
            println!("{USAGE}");
            Ok(true)
        }
        _ => bail!("unknown command: {}\n\n{USAGE}", command.to_string_lossy()),
    }
}

/// The arguments after `--`, which separates our own arguments from those of another program.
fn after_separator(arguments: &[OsString]) -> anyhow::Result<&[OsString]> {
    match arguments {
        [] => Ok(&[]),
        [separator, rest @ ..] if separator == "--" => Ok(rest),
        [other, ..] => bail!("unexpected argument {}: put `--` before it", other.to_string_lossy()),
    }
}

/// The root of the repository, which the manifest of this crate is one folder below.
fn repository_root() -> anyhow::Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = manifest
        .parent()
        .context("the manifest of xtask has no parent folder")?;
    Ok(root.to_path_buf())
}

/// The cargo that started this program, to be run at the root of the repository.
fn cargo() -> anyhow::Result<Command> {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(repository_root()?);
    // `cargo run` describes xtask in these; a build script of another crate must not take them for its own.
    for (name, _) in env::vars_os() {
        let name_text = name.to_string_lossy();
        if name_text.starts_with("CARGO_PKG_") || name_text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_of_another_program_follow_a_separator() {
        let arguments: Vec<OsString> = ["--", "-p", "synckit-client"].map(OsString::from).into();
        assert_eq!(after_separator(&arguments).unwrap(), &arguments[1..]);
        assert!(after_separator(&arguments[1..]).is_err());
        assert!(after_separator(&[]).unwrap().is_empty());
    }

    #[test]
    fn an_unknown_command_is_refused_with_the_usage() {
        let error = run(vec!["tidi".into()]).unwrap_err().to_string();
        assert!(error.contains("tidi") && error.contains("usage:"), "{error}");
    }
}
