//! The scenes of the demo, in their order.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, atomic::Ordering},
};

use anyhow::{Context as _, anyhow};
use indicatif::ProgressBar;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _};
use synckit_client::{BatchId, ChangeEntry, Cursor, Error, Registration, Tampering};
use uuid::Uuid;

use super::{
    dataset::{Dataset, Table},
    device::{Device, ServerAccess, http},
    edits::Edits,
    local::Comparison,
    local_server::LocalServer,
    received,
    scan::{NEEDLE_BYTES_MIN, Needles, Search, size_of_files},
    story::{Counting, Step, Story, Verdict},
    tamper::TamperingTransport,
};
use crate::{
    cli::DemoArgs,
    failure::Failure,
    units,
    user::{mailed_code, platform},
};

/// The state of the demo.
#[derive(Debug)]
pub(super) struct Play<'a> {
    story: &'a mut Story,
    dataset: Dataset,
    file_table: Table,
    /// Absent if the demo uses somebody else's server.
    server: Option<LocalServer>,
    access: ServerAccess,
    invite: Option<String>,
    email: String,
    password: String,
    laptop: Device,
    phone: Device,
    /// The values that the server must not hold as plaintext.
    needles: Needles,
    /// The row that the phone pushed as a separate batch, and that batch.
    shown: Option<(BatchId, ChangeEntry)>,
}

impl<'a> Play<'a> {
    /// Opens the dataset, finds or starts the server, and loads the dataset into the laptop.
    pub(super) async fn begin(args: DemoArgs, workspace: &Path, story: &'a mut Story) -> Result<Self, Failure> {
        let dataset = match &args.path {
            Some(path) => Dataset::open(path, &workspace.join("dataset"))?,
            None => Dataset::built_in(&workspace.join("dataset"))?,
        };
        let (server, access) = match (args.server, args.api_key) {
            (Some(url), Some(api_key)) => (None, ServerAccess { url, api_key }),
            _ => {
                let step = Step::begin("server");
                let (server, api_key) = LocalServer::start(&workspace.join("server")).await?;
                let url = server.url();
                story.end(
                    step,
                    Verdict::Done,
                    &format!("a server starts at {url}, on an empty directory; an app is created"),
                );
                (Some(server), ServerAccess { url, api_key })
            }
        };
        let random = Uuid::new_v4().simple().to_string();
        let mut play = Self {
            file_table: dataset.file_table(),
            laptop: Device::new("laptop", &access, &workspace.join("laptop"))?,
            phone: Device::new("phone", &access, &workspace.join("phone"))?,
            email: args
                .email
                .unwrap_or_else(|| format!("demo-{}@example.com", &random[..12])),
            password: Uuid::new_v4().simple().to_string(),
            invite: args.invite,
            needles: Needles::default(),
            shown: None,
            story,
            dataset,
            server,
            access,
        };
        play.load()?;
        play.set_needles_up().await?;
        Ok(play)
    }

    fn load(&mut self) -> anyhow::Result<()> {
        let step = Step::begin("load");
        let Self {
            dataset, laptop, story, ..
        } = self;
        let bar = story.bar("load", dataset.row_count()?, Counting::Rows);
        for table in &dataset.tables {
            laptop.add_table(table)?;
        }
        let (mut rows, mut bytes) = (0, 0);
        laptop.database.begin()?;
        let loaded = dataset.visit(&mut |table, row| {
            rows += 1;
            bytes += row.size();
            bar.inc(1);
            laptop.database.upsert(&table.name, &row)
        });
        laptop.database.end(loaded)?;
        bar.finish_and_clear();
        let files = units::counted(dataset.files.len() as u64, "file");
        let tables = units::counted(dataset.tables.len() as u64, "table");
        let text = format!(
            "the laptop loads {}: {} in {tables}, {files}",
            dataset.title,
            units::counted(rows, "row")
        );
        story.end(step.rows(rows).bytes(bytes), Verdict::Done, &text);
        for left_out in &dataset.left_out {
            story.note(&format!("left out: {left_out}"));
        }
        Ok(())
    }

    /// Collects the values to search for, and sets aside those that an empty server's files contain as well.
    async fn set_needles_up(&mut self) -> anyhow::Result<()> {
        let Some(server) = &mut self.server else { return Ok(()) };
        self.needles.add_dataset(&self.dataset)?;
        self.file_table
            .columns
            .iter()
            .for_each(|column| self.needles.add(column.as_bytes()));
        self.needles.add(self.password.as_bytes());
        server.stop().await?;
        let findings = Search::new(&self.needles).directory(&server.data_dir, &ProgressBar::hidden())?;
        server.restart().await?;
        let set_aside = self.needles.set_aside(&findings);
        if !set_aside.is_empty() {
            let text = set_aside
                .iter()
                .take(5)
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(", ");
            let count = units::counted(set_aside.len() as u64, "value");
            self.story.note(&format!(
                "{count} are in the files of an empty server, too, and prove nothing: {text}"
            ));
        }
        Ok(())
    }

    /// Creates the account, signs the laptop in and creates the key.
    pub(super) async fn sign_in(&mut self) -> Result<(), Failure> {
        let step = Step::begin("account");
        let (email, password) = (&self.email, &self.password);
        let client = &self.laptop.client;
        let registration = match &self.invite {
            Some(invite) => client.create_account_with_invite(email, password, invite).await?,
            None => client.create_account(email, password).await?,
        };
        if registration == Registration::Pending {
            let code = mailed_code(email)?;
            client.confirm_account(email, password, code.expose()).await?;
        }
        self.story.end(
            step,
            Verdict::Done,
            "an account is created; its password never leaves the laptop (OPAQUE)",
        );
        let step = Step::begin("encryption");
        client
            .authenticate(email, password)
            .await
            .map_err(|error| match error {
                Error::InvalidCredentials => Failure::new(
                    anyhow!("{email} has an account already, with another password"),
                    "give another address with --email",
                ),
                error => error.into(),
            })?;
        client.setup_encryption_new(password).await?;
        self.laptop.register(platform()).await?;
        self.story.end(
            step,
            Verdict::Done,
            "the laptop signs in, makes the master key and registers",
        );
        self.story
            .note("apps keep session and key in the system's keychain; the demo keeps them in memory only");
        Ok(())
    }

    /// Pushes every row and uploads every file from the laptop.
    pub(super) async fn push(&mut self) -> Result<(), Failure> {
        let Self {
            story,
            laptop,
            dataset,
            file_table,
            ..
        } = self;
        let step = Step::begin("push");
        let before = laptop.wire.sent();
        let bar = story.bar("push", dataset.row_count()?, Counting::Rows);
        let rows = laptop.push_everything(&bar).await?;
        bar.finish_and_clear();
        let sent = laptop.wire.sent() - before;
        let text = format!(
            "the laptop pushes {}, encrypted: {} sent",
            units::counted(rows, "row"),
            units::bytes(sent)
        );
        story.end(step.rows(rows).bytes(sent), Verdict::Done, &text);

        let step = Step::begin("upload");
        let before = laptop.wire.sent();
        let total = dataset.files.iter().map(|file| file.size).sum();
        let bar = story.bar("upload", total, Counting::Bytes);
        laptop.push_files(&dataset.files, file_table, &bar).await?;
        bar.finish_and_clear();
        let sent = laptop.wire.sent() - before;
        let files = units::counted(dataset.files.len() as u64, "file");
        let text = format!(
            "the laptop uploads {files} of {}, encrypted: {} sent",
            units::bytes(total),
            units::bytes(sent)
        );
        story.end(step.rows(dataset.files.len() as u64).bytes(sent), Verdict::Done, &text);
        Ok(())
    }

    /// Adds the phone, with only the password, and compares the received data with the dataset.
    pub(super) async fn join(&mut self) -> Result<(), Failure> {
        let Self {
            story,
            phone,
            dataset,
            file_table,
            email,
            password,
            ..
        } = self;
        let step = Step::begin("join");
        phone.client.authenticate(email, password).await?;
        let has_key = phone.client.has_server_key().await?;
        phone.client.setup_encryption_existing(password).await?;
        phone.register("ios").await?;
        let text = "the phone joins with the password only: it fetches the wrapped key and opens it";
        story.end(step, Verdict::of(has_key), text);

        let step = Step::begin("pull");
        let before = phone.wire.received();
        let bar = story.bar("pull", phone.client.status().await?.change_count, Counting::Rows);
        let changes = phone.pull(&bar).await?;
        bar.finish_and_clear();
        let received = phone.wire.received() - before;
        let text = format!(
            "the phone pulls {}: {} received",
            units::counted(changes, "change"),
            units::bytes(received)
        );
        story.end(step.rows(changes).bytes(received), Verdict::Done, &text);

        let step = Step::begin("download");
        let before = phone.wire.received();
        let bar = story.bar(
            "download",
            dataset.files.iter().map(|file| file.size).sum(),
            Counting::Bytes,
        );
        let (files, bytes) = phone.pull_files(file_table, &bar).await?;
        bar.finish_and_clear();
        let received = phone.wire.received() - before;
        let text = format!(
            "the phone downloads {} of {}",
            units::counted(files, "file"),
            units::bytes(bytes)
        );
        story.end(step.rows(files).bytes(received), Verdict::Done, &text);
        self.compare_with_dataset()?;
        Ok(())
    }

    /// Compares the phone with the dataset, which is read once more: every value of every row, every byte of every
    /// file.
    fn compare_with_dataset(&mut self) -> anyhow::Result<()> {
        let Self {
            story, phone, dataset, ..
        } = self;
        let step = Step::begin("compare");
        let (mut rows, mut bytes) = (0, 0);
        let mut difference = None;
        let mut rows_of: HashMap<String, u64> = HashMap::new();
        let bar = story.bar("compare", dataset.row_count()?, Counting::Rows);
        dataset.visit(&mut |table, row| {
            rows += 1;
            bytes += row.size();
            bar.inc(1);
            *rows_of.entry(table.name.clone()).or_default() += 1;
            let same = phone.database.row(&table.name, &row.id)?.as_ref() == Some(&row);
            if !same && difference.is_none() {
                difference = Some(format!("the row {} of {} is not the dataset's", row.id, table.name));
            }
            Ok(())
        })?;
        bar.finish_and_clear();
        for table in &dataset.tables {
            let held = phone.database.row_count(&table.name)?;
            let given = rows_of.get(&table.name).copied().unwrap_or(0);
            if held != given && difference.is_none() {
                difference = Some(format!(
                    "{} has {held} rows on the phone and {given} in the dataset",
                    table.name
                ));
            }
        }
        let difference = match difference {
            Some(difference) => Some(difference),
            None => received::first_difference(&dataset.files, &phone.files_dir)?,
        };
        let files_bytes: u64 = dataset.files.iter().map(|file| file.size).sum();
        let text = match &difference {
            None => format!(
                "on the phone, every value of {} and every byte of {} is the same",
                units::counted(rows, "row"),
                units::counted(dataset.files.len() as u64, "file")
            ),
            Some(difference) => format!("{difference} (give a copy of it if another program changes it)"),
        };
        story.end(
            step.rows(rows).bytes(bytes + files_bytes),
            Verdict::of(difference.is_none()),
            &text,
        );
        Ok(())
    }

    /// Both devices edit offline, then sync until they agree.
    pub(super) async fn converge(&mut self) -> Result<(), Failure> {
        let Self {
            story,
            laptop,
            phone,
            needles,
            ..
        } = self;
        let step = Step::begin("edit");
        let bar = ProgressBar::hidden();
        // The laptop's own rows return once, because a push never moves an app's cursor past its last pull.
        laptop.pull(&bar).await?;
        let Some(edits) = Edits::make(phone, laptop)? else {
            story.end(step, Verdict::Done, "the dataset has no table to edit");
            return Ok(());
        };
        let text = format!(
            "offline, phone and laptop make {} in {}: the same row, other rows, deletions",
            units::counted(edits.count, "change"),
            edits.table.name
        );
        story.end(step.rows(edits.count), Verdict::Done, &text);

        let step = Step::begin("converge");
        let (pushed_by_phone, pushed_by_laptop) = tokio::join!(phone.push_pending(), laptop.push_pending());
        self.shown = pushed_by_phone?;
        pushed_by_laptop?;
        phone.pull(&bar).await?;
        laptop.pull(&bar).await?;
        let comparison = laptop.database.compare(&phone.database)?;
        let unexpected = edits.first_difference(&phone.database)?;
        let (passed, text, rows, bytes) = match (comparison, unexpected) {
            (Comparison::Equal { rows, bytes }, None) => {
                let text = format!(
                    "both push at once, pull, and hold the same {}",
                    units::counted(rows, "row")
                );
                (true, text, rows, bytes)
            }
            (Comparison::Equal { rows, bytes }, Some(text)) => (false, text, rows, bytes),
            (Comparison::Different(text), _) => (false, text, 0, 0),
        };
        story.end(step.rows(rows).bytes(bytes), Verdict::of(passed), &text);
        if let Some(text) = edits.contested(&phone.database)? {
            story.note(&text);
        }
        // The edits of the devices are as secret as the dataset.
        phone.database.visit_after(&edits.table.name, None, &mut |row| {
            needles.add(row.id.as_bytes());
            row.cells
                .iter()
                .filter_map(super::dataset::Cell::payload)
                .for_each(|value| needles.add(value));
            Ok(true)
        })?;
        Ok(())
    }

    /// Shows one row beside its stored bytes in the server's database.
    pub(super) fn show_what_the_server_holds(&mut self) -> anyhow::Result<()> {
        let step = Step::begin("server's view");
        let Some(server) = &self.server else {
            self.story.end(
                step,
                Verdict::NotPossible,
                "the stored bytes can be shown only on the server's machine",
            );
            return Ok(());
        };
        let Some((batch_id, change)) = &self.shown else {
            self.story
                .end(step, Verdict::Done, "no row was edited, so none is shown");
            return Ok(());
        };
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let database = Connection::open_with_flags(server.data_dir.join("synckit.db"), flags)?;
        let sql = "SELECT coalesce(b.sealed, s.sealed) FROM batches b LEFT JOIN sealed_batches s USING (sealed_key)
                   WHERE b.batch_id = ?1";
        let sealed: Option<Vec<u8>> = database
            .query_row(sql, [batch_id.as_bytes()], |row| row.get(0))
            .optional()?;
        let sealed = sealed.context("the server does not hold the batch that the phone pushed")?;
        let plain = serde_json::to_string(change)?;
        let text = format!(
            "of one row of {} the server holds {}, padded and encrypted",
            units::bytes(plain.len() as u64),
            units::bytes(sealed.len() as u64)
        );
        self.story
            .end(step.rows(1).bytes(sealed.len() as u64), Verdict::Done, &text);
        self.story.note("on the phone:");
        self.story.note(&format!("    {}", shortened(&plain, 400)));
        self.story.note("in the server's database:");
        for line in sealed.chunks(32).take(4) {
            self.story.note(&format!(
                "    {}",
                line.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
            ));
        }
        if sealed.len() > 4 * 32 {
            self.story.note(&format!(
                "    and {} more bytes",
                units::count((sealed.len() - 4 * 32) as u64)
            ));
        }
        Ok(())
    }

    /// Searches all files of the server for every value of the data.
    pub(super) async fn search(&mut self) -> Result<(), Failure> {
        let step = Step::begin("search");
        let Some(server) = &mut self.server else {
            self.story.end(
                step,
                Verdict::NotPossible,
                "the server's files can be searched only on its machine",
            );
            return Ok(());
        };
        server.stop().await?;
        let search = Search::new(&self.needles);
        let bar = self
            .story
            .bar("search", size_of_files(&server.data_dir)?, Counting::Bytes);
        let findings = search.directory(&server.data_dir, &bar)?;
        bar.finish_and_clear();
        let values = units::counted(self.needles.len(), "plaintext value");
        let text = if findings.is_empty() {
            format!(
                "none of {values} of {NEEDLE_BYTES_MIN} bytes or more is in the server's {}",
                units::counted(findings.files, "file")
            )
        } else {
            format!("the server holds plaintext: {}", findings.shown().join(", "))
        };
        self.story.end(
            step.rows(self.needles.len()).bytes(findings.bytes),
            Verdict::of(findings.is_empty()),
            &text,
        );

        if self.needles.left_out() > 0 {
            let left_out = units::counted(self.needles.left_out(), "further value");
            self.story
                .note(&format!("{left_out} did not fit into memory and were not searched for"));
        }

        let step = Step::begin("planted value");
        let Some(planted) = self.needles.any() else {
            self.story
                .end(step, Verdict::Done, "the data has no value of 8 bytes or more");
            server.restart().await?;
            return Ok(());
        };
        let path = server.data_dir.join("blobs").join("planted");
        let noise = Uuid::new_v4();
        std::fs::write(&path, [noise.as_bytes(), planted, noise.as_bytes()].concat())?;
        let bar = self
            .story
            .bar("search", size_of_files(&server.data_dir)?, Counting::Bytes);
        let planted_findings = search.directory(&server.data_dir, &bar);
        bar.finish_and_clear();
        std::fs::remove_file(&path)?;
        let planted_findings = planted_findings?;
        let found = if findings.is_empty() {
            planted_findings.is_only_in(planted, &path)
        } else {
            !planted_findings.is_empty()
        };
        let text = if found {
            "the same search finds a planted value, so it works"
        } else {
            "the search misses a planted value, so it proves nothing"
        };
        self.story
            .end(step.bytes(planted_findings.bytes), Verdict::of(found), text);
        server.restart().await?;
        Ok(())
    }

    /// Lets a third device pull through a transport that flips one bit.
    pub(super) async fn tamper(&mut self) -> Result<(), Failure> {
        let step = Step::begin("tampering");
        let (transport, tampers) = TamperingTransport::new(http());
        let tablet = self.access.client(Arc::new(transport));
        tablet.authenticate(&self.email, &self.password).await?;
        tablet.setup_encryption_existing(&self.password).await?;
        let device = tablet.register_device("tablet", "android").await?;
        let refused = tablet.pull(device.id, Cursor::START).await;
        tampers.store(false, Ordering::Relaxed);
        // Control: the same device and page, without the flipped bit.
        let control = tablet.pull(device.id, Cursor::START).await;
        let (passed, text) = match (refused, control) {
            (Err(Error::Tampering(Tampering::BatchForged(evidence))), Ok((changes, _, _))) if !changes.is_empty() => (
                true,
                format!(
                    "a tablet refuses a batch with one flipped bit (BatchForged: {}), and accepts it without",
                    evidence.reason
                ),
            ),
            (Err(Error::Tampering(Tampering::BatchForged(_))), _) => (
                false,
                "a tablet refuses the batch even without the flipped bit".to_owned(),
            ),
            (Ok(_), _) => (false, "a tablet accepts a batch with a flipped bit".to_owned()),
            (Err(error), _) => return Err(error.into()),
        };
        self.story.end(step, Verdict::of(passed), &text);
        Ok(())
    }

    /// Stops the server, and returns the credentials for the kept data.
    pub(super) async fn end(mut self) -> Result<String, Failure> {
        if let Some(server) = &mut self.server {
            server.stop().await?;
        } else {
            self.story
                .note(&format!("the account {} and its data stay on the server", self.email));
        }
        Ok(format!(
            "    sign in as {} with the password {}",
            self.email, self.password
        ))
    }
}

/// The beginning of a text, if it is long.
fn shortened(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
