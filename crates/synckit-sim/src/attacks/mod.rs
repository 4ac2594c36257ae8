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
mod sign_in;
mod snapshots;
mod stage;
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
    "two batches swapped" => log::swapped;
    "an old batch replayed at the tail" => log::replayed_at_the_tail;
    "batches reordered" => log::reordered;
    "a batch dropped in the middle" => log::dropped_in_the_middle;
    "a batch changed by one bit" => log::changed;
    "a batch under another device's name" => log::relabelled;
    "a batch under a key that the server made" => log::server_made_key;
    "a batch under a retired key, by who stole it" => keys::retired_key;
    "a batch in another user's stream" => log::foreign_stream;
    "more entries in a batch than are sealed in it" => log::wrong_count;
    "a page without its last batch, to who knew it" => history::truncated_page;
    "a page that ends elsewhere than it says" => history::page_ends_elsewhere;
    "an older copy of the database" => history::older_head;
    "another history from the start" => history::other_history;
    "two devices shown two histories, then crossed" => history::crossed;
    "a push answered as stored and not stored" => history::push_not_stored;
    "a push answered as stored long ago, in an invented history" => history::push_stored_long_ago;
    "a push whose bytes were exchanged on the way" => history::push_exchanged;
    "a forged history in between, on a push" => history::forged_digests;
    "a snapshot with a part left out" => snapshots::left_out;
    "a row as it was in an older snapshot" => snapshots::stale_part;
    "an older snapshot under the newest one's id" => snapshots::stale_under_the_newest_id;
    "an older snapshot as if it were of a later position" => snapshots::stale_at_a_later_position;
    "the parts of a snapshot in another order" => snapshots::reordered;
    "a part of another attempt at the same snapshot" => snapshots::mixed;
    "a part of a snapshot cut short" => snapshots::truncated;
    "the manifest of a snapshot changed by one bit" => snapshots::changed_manifest;
    "a snapshot under a key that the server made" => snapshots::server_made_key;
    "a snapshot under a retired key, by who stole it" => snapshots::retired_key;
    "a snapshot of a retired key's time, made afterwards by who stole it" => snapshots::retired_past;
    "a snapshot of a position that is not on the chain" => snapshots::off_the_chain;
    "a snapshot older than what was read, to who read on" => snapshots::older_to_who_is_past_it;
    "a snapshot of another history, to who knew the first" => snapshots::other_history;
    "the envelope of another user" => keys::foreign_envelope;
    "an envelope with a changed bit" => keys::changed_envelope;
    "an older envelope, to who holds a newer one" => keys::older_envelope;
    "an older envelope, to who recovers with a newer one in hand" => keys::older_envelope_at_a_recovery;
    "the wrong key id beside the envelope" => keys::wrong_key_id;
    "a garbage envelope, by who has a token" => thief::garbage_envelope;
    "a garbage snapshot, by who has a token" => thief::garbage_snapshot;
    "hundreds of garbage batches, by who has a token" => thief::garbage_batches;
    "an envelope and a snapshot signed by a retired key" => thief::retired_owner;
    "the vault of another account" => keys::foreign_vault;
    "an older vault, to bring a replaced recovery code back" => keys::older_vault;
    "\"there is no key\" while a device joins" => keys::no_key_while_joining;
    "a 404 that is not \"there is no key\"" => keys::other_not_found;
    "the first sign-in suite refused, to get a weaker one" => sign_in::no_other_suite;
    "a demand for the password itself" => sign_in::no_password_in_a_body;
    "another server under the same name" => sign_in::other_server;
    "another app in the answer to a sign-in" => sign_in::other_app;
    "the API key swapped for another app's" => sign_in::swapped_api_key;
    "a sign-in, to learn whether an address has an account" => guesses::who_has_an_account;
    "an eleventh guess, when none was right" => guesses::unfinished_guesses;
    "guesses tested by a change of password, uncounted" => guesses::uncounted_evaluations;
    "a token without a signature, or of another algorithm" => tokens::no_algorithm;
    "a token signed with another key" => tokens::other_key;
    "a token for another app" => tokens::other_app;
    "a token of another type" => tokens::other_type;
    "a token that has expired" => tokens::expired;
    "the token of a session that the user ended" => tokens::ended_session;
    "a stolen token, past the revocation of its device" => thief::past_the_revocation;
    "a stolen token, in the name of another device" => thief::in_the_name_of_another;
    "a stolen token of an app, at the account" => tokens::app_token_for_the_account;
    "one blob for another" => blobs::swapped;
    "a blob cut short" => blobs::truncated;
    "a blob with bytes behind it" => blobs::extended;
    "the last byte of a blob flipped" => blobs::last_byte;
    "ranges of two uploads of one file mixed" => blobs::mixed_ranges;
    "another file sealed under a blob's id, with the key" => blobs::other_file_with_the_key;
    "an upload URL on another host that asks for the token" => wire::other_host;
    "a blob URL without TLS" => wire::plain_http;
    "a redirect to another host" => wire::redirect;
    "a redirect of a download" => wire::redirected_download;
    "a gigabyte in place of a page" => wire::gigabyte;
    "a gigabyte in place of a problem" => wire::gigabyte_problem;
    "a blob that never ends" => wire::endless_blob;
    "a length of 2^60 inside a page" => wire::lying_length;
    "a blob that claims 500 MB" => wire::lying_blob_size;
    "an answer nested 200,000 deep" => wire::deep_nesting;
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
    let mut text = String::from("| attack | caught as | without what the check asks for |\n| --- | --- | --- |\n");
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
