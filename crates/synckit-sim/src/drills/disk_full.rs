//! The server's disk runs full: first with pushes, until the next one does not fit, then to its last byte.
//!
//! The disk is a tmpfs of a few megabytes in a separate mount namespace, which needs no rights if the system allows
//! users to create namespaces. Otherwise the database gets a limit, which SQLite treats as a full disk.

use std::{
    ffi::OsString,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, bail, ensure};
use synckit_client::{
    BatchId, BlobHash, ChangeEntry, ChangeOp, Cursor, DeviceId, Error, ProblemCode, SyncKitClient, Timestamp,
};
use tempfile::TempDir;

use super::{
    Sizes, block_on,
    books::whole_log,
    process::{Process, Programs, command},
    site::{Launch, Site},
};

/// The disk.
const DISK_BYTES: usize = 24 * 1024 * 1024;
/// The space that is taken at first, and returned at the end.
const BALLAST_BYTES: usize = 12 * 1024 * 1024;
/// The first limit of the database, on systems without such a disk.
const DATABASE_MAX: &str = "4MiB";
/// Text of one entry; a batch holds one.
const ENTRY_BYTES: usize = 256 * 1024;
/// Files that are stored at the same time, of which some fit.
const UPLOADS_AT_ONCE: u8 = 40;
/// The bytes of each.
const UPLOAD_BYTES: usize = 1024 * 1024;
/// Pushes after which any such disk is full.
const PUSHES_MAX: u64 = 200;

pub(super) fn run(programs: &Programs, _sizes: &Sizes) -> anyhow::Result<String> {
    match SmallDisk::mount() {
        Ok(disk) => on_a_small_disk(programs, disk),
        Err(error) => with_a_limit(programs)
            .map(|result| format!("{result} (no disk of its own here: {error:#})").replace('\n', " ")),
    }
}

fn on_a_small_disk(programs: &Programs, disk: SmallDisk) -> anyhow::Result<String> {
    let launch = Launch {
        data_dir: Some(disk.mount_point.path().join("data")),
        wrapper: disk.enter.clone(),
        ..Launch::default()
    };
    let mut site = Site::open(programs, launch)?;
    let mut user = block_on(User::sign_up(&site))?;
    disk.fill(BALLAST_BYTES)?;

    let refused_first = block_on(user.push_until_full())?;
    let stored = user.stored.len();
    block_on(user.refuses_files())?;
    block_on(user.reads_everything())?;
    block_on(user.deletes_a_file())?;

    // A log that is emptied later would give room back.
    disk.wait_for_empty_log()?;
    let refused = block_on(user.fills_the_rest(&disk))?;
    block_on(user.refuses_files())?;
    block_on(user.reads_everything())?;
    site.kill()?;
    site.start().context("on a disk without a free byte")?;
    let refused_again = block_on(user.fills_the_rest(&disk))?;
    block_on(user.reads_everything())?;

    disk.empty()?;
    for refused in [refused_first, refused, refused_again] {
        block_on(user.goes_on(refused))?;
    }
    let at_once = uploads_at_once(programs)?;
    let result = format!(
        "after {stored} pushes of 256 KiB the disk of {} MiB was full: `507 server_full` for pushes and files, reads and \
         deletions went on; without a free byte, too, for reads, also after a SIGKILL and a start; with room again the \
         refused push went through, without a restart, and every acknowledged entry is there once; {at_once}",
        DISK_BYTES >> 20
    );
    site.stop()?;
    Ok(result)
}

/// Many files at once, more than fit: each finds the room that the others have not taken yet.
fn uploads_at_once(programs: &Programs) -> anyhow::Result<String> {
    let disk = SmallDisk::mount()?;
    let launch = Launch {
        data_dir: Some(disk.mount_point.path().join("data")),
        wrapper: disk.enter.clone(),
        ..Launch::default()
    };
    let mut site = Site::open(programs, launch)?;
    let user = block_on(User::sign_up(&site))?;
    let stored = block_on(async {
        let uploads = (0..UPLOADS_AT_ONCE).map(|number| {
            let client = user.client.clone();
            tokio::spawn(async move { client.blob_put(vec![number; UPLOAD_BYTES], |_| {}).await })
        });
        let mut stored = 0;
        for upload in uploads.collect::<Vec<_>>() {
            match upload.await? {
                Ok(_) => stored += 1,
                Err(error) => expect_full(&error)?,
            }
        }
        ensure!(stored > 0 && stored < UPLOADS_AT_ONCE, "{stored} files fit");
        // Small necessary writes still fit.
        user.client
            .rename_device(user.device_id, "renamed")
            .await
            .context("a rename")?;
        user.deletes_a_file().await?;
        Ok(stored)
    })?;
    site.stop()?;
    Ok(format!(
        "of {UPLOADS_AT_ONCE} files at once {stored} were stored, the others refused, and a device was renamed afterwards"
    ))
}

fn with_a_limit(programs: &Programs) -> anyhow::Result<String> {
    let launch = Launch {
        arguments: vec!["--database-max".to_owned(), DATABASE_MAX.to_owned()],
        ..Launch::default()
    };
    let mut site = Site::open(programs, launch)?;
    let mut user = block_on(User::sign_up(&site))?;
    let refused = block_on(user.push_until_full())?;
    let stored = user.stored.len();
    block_on(user.reads_everything())?;
    block_on(user.deletes_a_file())?;
    site.stop()?;
    site.launch_mut().arguments.clear();
    site.start()?;
    block_on(user.goes_on(refused))?;
    site.stop()?;
    site.check_database()?;
    Ok(format!(
        "after {stored} pushes of 256 KiB the database of {DATABASE_MAX} was full: `507 server_full` for pushes, reads and \
         deletions went on; with a higher limit the refused push went through, and every acknowledged entry is there once"
    ))
}

/// A batch of one large entry.
#[derive(Debug, Clone)]
struct Push {
    id: BatchId,
    row: String,
}

impl Push {
    fn changes(&self) -> Vec<ChangeEntry> {
        vec![ChangeEntry {
            table: "drill".to_owned(),
            op: ChangeOp::Insert,
            row_id: self.row.clone(),
            timestamp: Timestamp::from_micros(0),
            data: Some(serde_json::json!("x".repeat(ENTRY_BYTES))),
        }]
    }
}

/// A user with a device, and its acknowledged entries.
struct User {
    client: SyncKitClient,
    device_id: DeviceId,
    cursor: Cursor,
    stored: Vec<String>,
    kept_file: BlobHash,
    other_file: BlobHash,
}

impl User {
    async fn sign_up(site: &Site) -> anyhow::Result<Self> {
        let account = site.sign_up("ada", 1).await?;
        let member = account.devices.first().context("no device")?;
        let client = site.resumed(&member.name)?;
        let kept_file = client.blob_put(vec![1; 100_000], |_| {}).await?;
        let other_file = client.blob_put(vec![2; 100_000], |_| {}).await?;
        Ok(Self {
            client,
            device_id: member.id,
            cursor: Cursor::START,
            stored: Vec::new(),
            kept_file,
            other_file,
        })
    }

    async fn push(&mut self, push: &Push) -> Result<(), Error> {
        self.cursor = self
            .client
            .push_at(self.device_id, self.cursor, Some(push.id), push.changes())
            .await?;
        self.stored.push(push.row.clone());
        Ok(())
    }

    /// Pushes until one is refused, and returns that one.
    async fn push_until_full(&mut self) -> anyhow::Result<Push> {
        for number in 0..PUSHES_MAX {
            let push = Push {
                id: SyncKitClient::new_batch_id(),
                row: format!("row {number}"),
            };
            match self.push(&push).await {
                Ok(()) => {}
                Err(error) => return expect_full(&error).map(|()| push),
            }
        }
        bail!("the disk is never full")
    }

    /// Takes every free byte of the disk, and returns the push that is refused then. The server may give room back after
    /// that, from its log: until a push is refused, the rest is taken again.
    async fn fills_the_rest(&mut self, disk: &SmallDisk) -> anyhow::Result<Push> {
        for number in 0..PUSHES_MAX {
            disk.fill(usize::MAX)?;
            let push = Push {
                id: SyncKitClient::new_batch_id(),
                row: format!("late row {number}"),
            };
            if let Err(error) = self.push(&push).await {
                return expect_full(&error).map(|()| push);
            }
        }
        bail!("the disk is never full")
    }

    async fn refuses_files(&self) -> anyhow::Result<()> {
        let file = vec![3; DISK_BYTES];
        let error = self.client.blob_put(file, |_| {}).await.err();
        expect_full(&error.context("a file fits on a full disk")?)
    }

    /// Reads exactly the acknowledged entries, each once.
    async fn reads_everything(&self) -> anyhow::Result<()> {
        let log = whole_log(&self.client, self.device_id).await?;
        let rows: Vec<&String> = log.iter().map(|entry| &entry.row_id).collect();
        ensure!(rows.iter().copied().eq(&self.stored), "the log holds {rows:?}");
        let url = self.client.blob_download_url(&self.kept_file).await?;
        self.client.blob_download(&url).await?;
        Ok(())
    }

    async fn deletes_a_file(&self) -> anyhow::Result<()> {
        self.client.blob_delete(&self.other_file).await.context("a deletion")?;
        Ok(())
    }

    async fn goes_on(&mut self, refused: Push) -> anyhow::Result<()> {
        self.push(&refused).await.context("with room again")?;
        self.client
            .blob_put(vec![4; 100_000], |_| {})
            .await
            .context("with room again")?;
        self.reads_everything().await
    }
}

fn expect_full(error: &Error) -> anyhow::Result<()> {
    ensure!(
        error.problem_code() == Some(ProblemCode::ServerFull),
        "not server_full but {}",
        synckit_client::ErrorChain(error)
    );
    Ok(())
}

/// A tmpfs in a mount namespace of its own.
struct SmallDisk {
    mount_point: TempDir,
    /// The prefix of a command that must see it.
    enter: Vec<OsString>,
    /// The disk as this process sees it.
    seen_here: PathBuf,
    /// The namespace lives as long as this process.
    _holder: Process,
}

impl SmallDisk {
    fn mount() -> anyhow::Result<Self> {
        // As any user, in a user namespace; or as root, where those are switched off.
        let unprivileged: &[&str] = &["--user", "--map-root-user", "--mount"];
        Self::mount_in(unprivileged, &["--preserve-credentials", "--user", "--mount"])
            .or_else(|_| Self::mount_in(&["--mount"], &["--mount"]))
    }

    fn mount_in(unshare: &[&str], nsenter: &[&str]) -> anyhow::Result<Self> {
        let mount_point = tempfile::Builder::new().prefix("synckit-drill-disk-").tempdir()?;
        let script = format!("mount -t tmpfs -o size={DISK_BYTES},mode=0700 tmpfs \"$0\" && echo mounted && exec cat");
        let mut holder = command("unshare");
        holder.args(unshare).args(["sh", "-c", &script]).arg(mount_point.path());
        // `cat` ends with this process, whatever becomes of it: the pipe closes.
        holder.stdin(Stdio::piped());
        let mut holder = Process::start(holder, &mount_point.path().with_extension("log"))?;
        let mounted = holder.next_line();
        // The log is in the shared directory of temporary files.
        let complaint = fs::read_to_string(mount_point.path().with_extension("log")).unwrap_or_default();
        let _ = fs::remove_file(mount_point.path().with_extension("log"));
        if mounted.as_deref() != Some("mounted") {
            holder.wait()?;
            bail!("{}", complaint.trim());
        }
        let root = PathBuf::from(format!("/proc/{}/root", holder.id()));
        let seen_here = root.join(mount_point.path().strip_prefix("/")?);
        ensure!(is_empty(&seen_here)?, "the mounted disk cannot be seen");
        let enter = std::iter::once("nsenter")
            .chain(nsenter.iter().copied())
            .map(OsString::from)
            .chain([OsString::from("--target"), holder.id().to_string().into()])
            .collect();
        Ok(Self {
            mount_point,
            enter,
            seen_here,
            _holder: holder,
        })
    }

    /// Takes so many bytes, or all that are left.
    fn fill(&self, bytes: usize) -> anyhow::Result<()> {
        let name = if bytes == usize::MAX { "rest" } else { "ballast" };
        let mut file = fs::File::create(self.seen_here.join(name))?;
        let mut left = bytes;
        let mut piece = 4096;
        while left > 0 {
            piece = piece.min(left);
            match file.write(&vec![0; piece]) {
                Ok(written) => left -= written,
                Err(error) if error.kind() == io::ErrorKind::StorageFull && bytes == usize::MAX => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Waits until the server, at rest, has emptied its write-ahead log.
    fn wait_for_empty_log(&self) -> io::Result<()> {
        let log = self.seen_here.join("data/synckit.db-wal");
        while fs::metadata(&log)?.len() > 0 {
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Gives everything back that was taken.
    fn empty(&self) -> io::Result<()> {
        for name in ["rest", "ballast"] {
            fs::remove_file(self.seen_here.join(name))?;
        }
        Ok(())
    }
}

fn is_empty(directory: &Path) -> io::Result<bool> {
    Ok(fs::read_dir(directory)?.next().is_none())
}
