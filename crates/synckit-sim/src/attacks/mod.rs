//! Attacks of a lying server, a reader of its disk, a thief of a token and a guesser: each with the check that detects it,
//! and with its harm if the check is satisfied.
//!
//! Each attack runs three times. The *honest* run uses the same machinery without a change, and passes: the machinery is
//! not the cause of a refusal. The *attack* is refused with exactly the error that names it, and with its evidence. The
//! *control* proves that this check refuses it. No build of the SDK can switch a check off, so the control satisfies the
//! check instead: the same lie, with the user's keys, to a victim without a memory, or with a size that fits. Then the lie
//! is believed and does its harm. A clumsy attack would be refused here, too, and the test would fail.
//!
//! These attacks are deliberately not everything that a server can do. `docs/threat-model.md` lists the rest; some
//! controls here show it.

mod blobs;
mod guesses;
mod history;
mod keys;
mod log;
mod registration;
mod sign_in;
mod snapshots;
mod stage;
mod terminal;
mod thief;
mod tokens;
mod wire;

use std::{future::Future, pin::Pin, sync::Arc};

use anyhow::{Context as _, bail};
use synckit_client::{Error, ErrorChain};

pub use self::stage::Stage;
use crate::golden::Golden;

/// The result of an attack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The error of the attack, with its evidence.
    pub caught: String,
    /// The effect of the same lie after the check was satisfied.
    pub control: String,
}

impl Evidence {
    fn new(caught: impl Into<String>, control: impl Into<String>) -> Self {
        Self {
            caught: caught.into(),
            control: control.into(),
        }
    }
}

/// A run of an attack, to its end.
pub type Run = Pin<Box<dyn Future<Output = anyhow::Result<Evidence>>>>;

/// One attack.
#[derive(Clone, Copy)]
pub struct Attack {
    /// The attack, in the field's terms.
    pub name: &'static str,
    run: fn(Stage) -> Run,
}

impl std::fmt::Debug for Attack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Makes an [`Attack`] of an async function.
macro_rules! attacks {
    ($($name:literal => $run:path;)*) => {
        &[$(Attack { name: $name, run: |stage| Box::pin($run(stage)) },)*]
    };
}

/// Every attack, in the order of the table.
pub const ATTACKS: &[Attack] = attacks! {
    "swapped batches" => log::swapped;
    "replayed batch" => log::replayed_at_the_tail;
    "reordered batches" => log::reordered;
    "dropped batch" => log::dropped_in_the_middle;
    "bit flip in a batch" => log::changed;
    "batch attributed to another device" => log::relabelled;
    "batch under a server-made key" => log::server_made_key;
    "batch under a stolen retired key" => keys::retired_key;
    "batch of another user's stream" => log::foreign_stream;
    "false entry count of a batch" => log::wrong_count;
    "truncated page" => history::truncated_page;
    "page with a false cursor" => history::page_ends_elsewhere;
    "database rollback" => history::older_head;
    "forked history" => history::other_history;
    "split view of two devices" => history::crossed;
    "false acknowledgement of a push" => history::push_not_stored;
    "false acknowledgement in an invented history" => history::push_stored_long_ago;
    "push with replaced bytes" => history::push_exchanged;
    "forged digests in `behind`" => history::forged_digests;
    "snapshot with a missing part" => snapshots::left_out;
    "part of an older snapshot" => snapshots::stale_part;
    "older snapshot under the newest id" => snapshots::stale_under_the_newest_id;
    "older snapshot at a later position" => snapshots::stale_at_a_later_position;
    "reordered snapshot parts" => snapshots::reordered;
    "mixed upload attempts of a snapshot" => snapshots::mixed;
    "truncated snapshot part" => snapshots::truncated;
    "bit flip in a manifest" => snapshots::changed_manifest;
    "snapshot under a server-made key" => snapshots::server_made_key;
    "snapshot under a stolen retired key" => snapshots::retired_key;
    "backdated snapshot under a stolen retired key" => snapshots::retired_past;
    "snapshot off the chain" => snapshots::off_the_chain;
    "snapshot rollback" => snapshots::older_to_who_is_past_it;
    "snapshot of a forked history" => snapshots::other_history;
    "envelope of another user" => keys::foreign_envelope;
    "bit flip in an envelope" => keys::changed_envelope;
    "envelope rollback" => keys::older_envelope;
    "envelope rollback during a recovery" => keys::older_envelope_at_a_recovery;
    "envelope with a false key id" => keys::wrong_key_id;
    "garbage envelope by a token thief" => thief::garbage_envelope;
    "garbage snapshot by a token thief" => thief::garbage_snapshot;
    "garbage batches by a token thief" => thief::garbage_batches;
    "owner proof by a retired key" => thief::retired_owner;
    "vault of another account" => keys::foreign_vault;
    "vault rollback" => keys::older_vault;
    "false `no_envelope` for a joining device" => keys::no_key_while_joining;
    "other 404 in place of the envelope" => keys::other_not_found;
    "downgrade of the login suite" => sign_in::no_other_suite;
    "downgrade to a plaintext password" => sign_in::no_password_in_a_body;
    "server impersonation" => sign_in::other_server;
    "false app in a sign-in answer" => sign_in::other_app;
    "replaced API key" => sign_in::swapped_api_key;
    "account enumeration by sign-in" => guesses::who_has_an_account;
    "replayed sign-in" => guesses::replayed_sign_in;
    "ambiguous e-mail address" => registration::ambiguous_address;
    "squatted e-mail address" => registration::squatted_address;
    "password guessing by sign-in" => guesses::unfinished_guesses;
    "password guessing by a password change" => guesses::uncounted_evaluations;
    "token with `alg` none or replaced" => tokens::no_algorithm;
    "token signed with another key" => tokens::other_key;
    "token for another app" => tokens::other_app;
    "token of another type" => tokens::other_type;
    "expired token" => tokens::expired;
    "token of an ended session" => tokens::ended_session;
    "stolen token after device revocation" => thief::past_the_revocation;
    "stolen token naming another device" => thief::in_the_name_of_another;
    "app token at the account API" => tokens::app_token_for_the_account;
    "swapped blobs" => blobs::swapped;
    "truncated blob" => blobs::truncated;
    "extended blob" => blobs::extended;
    "changed last byte of a blob" => blobs::last_byte;
    "mixed uploads of a blob" => blobs::mixed_ranges;
    "different file under a blob's id" => blobs::other_file_with_the_key;
    "upload URL with chosen headers" => wire::chosen_headers;
    "upload URL into the user's machine" => wire::into_the_machine;
    "blob URL without TLS" => wire::plain_http;
    "redirected request" => wire::redirect;
    "redirected download" => wire::redirected_download;
    "device name that controls the terminal" => terminal::device_name;
    "oversized page" => wire::gigabyte;
    "oversized problem" => wire::gigabyte_problem;
    "endless blob" => wire::endless_blob;
    "false CBOR length in a page" => wire::lying_length;
    "false blob size" => wire::lying_blob_size;
    "deeply nested answer" => wire::deep_nesting;
};

impl Attack {
    /// Runs honest run, attack and control, in a separate world.
    ///
    /// # Errors
    /// The expectation that failed.
    pub fn run(&self, golden: &Arc<Golden>) -> anyhow::Result<Evidence> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()?;
        runtime.block_on(async {
            let stage = Stage::open(golden).await?;
            (self.run)(stage).await
        })
    }
}

/// Runs every attack, and returns the table of results in Markdown and whether all held.
#[must_use]
pub fn table(golden: &Arc<Golden>) -> (String, bool) {
    let mut text = String::from("| attack | detected as | control |\n| --- | --- | --- |\n");
    let mut all_held = true;
    for attack in ATTACKS {
        let row = match attack.run(golden) {
            Ok(Evidence { caught, control }) => format!("| {} | {caught} | {control} |\n", attack.name),
            Err(error) => {
                all_held = false;
                format!("| {} | **NOT HELD**: {error:#} | |\n", attack.name)
            }
        };
        text.push_str(&row);
    }
    (text, all_held)
}

/// The result of an attack that must fail with an error that `is_expected` accepts.
fn caught<T>(result: Result<T, Error>, is_expected: impl Fn(&Error) -> bool) -> anyhow::Result<String> {
    match result {
        Ok(_) => bail!("the attack was not noticed"),
        Err(error) if is_expected(&error) => Ok(format!("`{}`: {}", variant(&error), ErrorChain(&error))),
        Err(error) => bail!("noticed as something else: {error:?}"),
    }
}

/// The result of a run that must pass.
fn passes<T>(what: &'static str, result: Result<T, Error>) -> anyhow::Result<T> {
    result
        .map_err(|error| anyhow::anyhow!("{}", ErrorChain(&error)))
        .context(what)
}

/// The name of an error's variant; of tampering, its kind.
fn variant(error: &Error) -> String {
    let debug = match error {
        Error::Tampering(tampering) => format!("{tampering:?}"),
        error => format!("{error:?}"),
    };
    let end = debug
        .find(|letter: char| !letter.is_alphanumeric())
        .unwrap_or(debug.len());
    debug[..end].to_owned()
}
