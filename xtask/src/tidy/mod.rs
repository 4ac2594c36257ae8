//! `cargo xtask tidy`: checks beyond the compiler and clippy.
//!
//! Every check is a pure function from texts to findings, so that its tests can show it failing.

mod documents;
mod examples;
mod house;
mod imports;
mod links;
mod pages;
mod rooms;
mod source;
mod stamp;
mod test_names;
mod texts;
mod tree;

use std::{fmt, fs};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::{cargo, repository_root};
use tree::Tree;

/// How to treat the line that ties `docs/protocol.md` to its crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProtocolReview {
    /// Report a document that was not read since the crate changed.
    Check,
    /// Record that it was read now.
    Record,
}

/// Something that is not as it should be.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    /// A file, perhaps with a line, or the name of a package.
    place: String,
    /// The problem and its remedy.
    message: String,
    severity: Severity,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Severity {
    /// Fails the run.
    Error,
    /// Is printed.
    Warning,
}

impl Finding {
    fn new(place: impl fmt::Display, message: impl Into<String>) -> Self {
        Self {
            place: place.to_string(),
            message: message.into(),
            severity: Severity::Error,
        }
    }

    fn warning(place: impl fmt::Display, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::new(place, message)
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{severity}: {}: {}", self.place, self.message)
    }
}

/// Runs every check and prints its findings. `Ok(false)` means that one of them is an error.
pub(crate) fn run(review: ProtocolReview) -> anyhow::Result<bool> {
    let root = repository_root()?;
    let mut tree = Tree::read(&root)?;
    if review == ProtocolReview::Record {
        let document = stamp::recorded(&tree).context("the review of the protocol cannot be recorded")?;
        fs::write(root.join(stamp::DOCUMENT), &document)
            .with_context(|| format!("{} cannot be written", stamp::DOCUMENT))?;
        tree.insert(stamp::DOCUMENT, document);
    }
    let metadata = metadata()?;
    let checks: [(&str, Vec<Finding>); 17] = [
        ("crate edges", house::edges(&metadata)),
        ("server without crypto", house::server_cannot_decrypt(&metadata)),
        ("manifests", house::manifests(&tree)),
        ("protocol document", stamp::check(&tree)),
        ("compiled page", pages::check(&tree)),
        ("problem codes", documents::problem_codes(&tree)),
        ("limits", documents::limits(&tree)),
        ("decisions", documents::decisions(&tree)),
        ("circles of files", imports::circles(&tree)),
        ("words of rooms", rooms::words(&tree)),
        ("test names", test_names::check(&tree)),
        ("examples", examples::check(&tree)),
        ("links", links::check(&tree)),
        ("unfinished code", texts::unfinished(&tree)),
        ("machine paths", texts::machine_paths(&tree)),
        ("white space and leftovers", texts::leftovers(&tree)),
        ("file lengths", texts::lengths(&tree)),
    ];
    let mut errors = 0;
    for (name, findings) in &checks {
        for finding in findings {
            println!("{finding} [{name}]");
            errors += usize::from(finding.severity == Severity::Error);
        }
    }
    println!("tidy: {} checks, {errors} errors", checks.len());
    Ok(errors == 0)
}

/// Records what the compiled half of OPAQUE was made from.
pub(crate) fn record_pages() -> anyhow::Result<()> {
    let root = repository_root()?;
    let tree = Tree::read(&root)?;
    fs::write(root.join(pages::STAMP), pages::stamp(&tree))
        .with_context(|| format!("{} cannot be written", pages::STAMP))
}

/// Cargo's metadata of the workspace and all of its dependencies, on every platform.
fn metadata() -> anyhow::Result<Value> {
    let output = cargo()?
        .args(["metadata", "--format-version=1", "--locked"])
        .output()
        .context("cargo metadata did not start")?;
    ensure!(
        output.status.success(),
        "cargo metadata failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    serde_json::from_slice(&output.stdout).context("the output of cargo metadata cannot be read")
}
