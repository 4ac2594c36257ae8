//! Credential files as they are on real machines: shared, damaged, linked, mounted.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use synckit_client::{CredentialError, CredentialStore as _, Error, FileStore, SyncKitClient};
use tempfile::TempDir;

use crate::world::{User, World};

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("credentials.json");
    (folder, file)
}

fn write_private(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
    #[cfg(unix)]
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

#[test]
fn long_names_that_begin_alike_share_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let name = |last: &str| {
        folder
            .path()
            .join(format!("{}{last}", "a long name of an app ".repeat(10)))
    };
    let (left, right) = (FileStore::new(name("1")), FileStore::new(name("2")));
    left.write("record", b"left").unwrap();
    right.write("record", b"right").unwrap();
    // A write of one file must not remove the unfinished write of the other.
    let unfinished: Vec<PathBuf> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().ends_with(".lock"))
        .map(|lock| lock.with_extension("new-unfinished"))
        .collect();
    assert_eq!(unfinished.len(), 2, "each has a lock of its own");
    for path in &unfinished {
        fs::write(path, b"secrets").unwrap();
    }
    left.write("record", b"again").unwrap();
    assert_eq!(unfinished.iter().filter(|path| path.exists()).count(), 1);
    right.delete("record").unwrap();
    assert_eq!(unfinished.iter().filter(|path| path.exists()).count(), 0);
    assert_eq!(left.read("record").unwrap().unwrap().as_slice(), b"again");
}

#[test]
fn parallel_writers_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = |writer: usize| {
        let name = format!("{}{}", "a long name of an app ".repeat(10), writer % 2);
        FileStore::new(folder.path().join(name))
    };
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let store = store(writer);
            scope.spawn(move || {
                for record in 0..20 {
                    store.write(&format!("{writer} {record}"), b"secret").unwrap();
                }
            });
        }
    });
    for writer in 0..8 {
        for record in 0..20 {
            assert!(store(writer).read(&format!("{writer} {record}")).unwrap().is_some());
        }
    }
}

#[test]
fn byte_order_mark_is_no_damage() {
    let (_folder, file) = folder();
    let store = FileStore::new(&file);
    store.write("record", b"secret").unwrap();
    let text = fs::read(&file).unwrap();
    write_private(&file, &[b"\xEF\xBB\xBF", text.as_slice()].concat());
    assert_eq!(store.read("record").unwrap().unwrap().as_slice(), b"secret");
}

#[test]
fn empty_file_is_an_empty_store() {
    let (_folder, file) = folder();
    write_private(&file, b"");
    let store = FileStore::new(&file);
    assert!(store.read("record").unwrap().is_none());
    store.write("record", b"secret").unwrap();
    assert_eq!(store.read("record").unwrap().unwrap().as_slice(), b"secret");
}

fn client(world: &World, user: &User) -> SyncKitClient {
    world.client(user, "laptop", None)
}

#[tokio::test]
async fn sign_in_mends_a_damaged_credential_file() {
    let world = World::start().await;
    let user = world.user().await;
    world.first_device(&user).await;
    let file = world.file(&format!("{} laptop.json", user.email));
    let aside = world.file(&format!("{} laptop.json.damaged", user.email));
    for damage in [b"{" as &[u8], b"[]", b"\xFF\xFE{}", b"\0\0\0\0"] {
        write_private(&file, damage);
        let error = client(&world, &user).try_load_key_from_keychain().unwrap_err();
        assert!(
            matches!(&error, Error::Credentials(CredentialError::FileDamaged { path, .. }) if *path == file),
            "{error:?}"
        );
        let text = synckit_client::ErrorChain(&error).to_string();
        assert!(text.contains("sign in again"), "{text}");
        // Nothing but a sign-in replaces it: an error is never an absence.
        FileStore::new(&file).write("record", b"secret").unwrap_err();
        assert_eq!(fs::read(&file).unwrap(), damage);

        let mended = client(&world, &user);
        mended.authenticate(&user.email, &user.password).await.unwrap();
        mended.setup_encryption_existing(&user.password).await.unwrap();
        client(&world, &user).try_load_key_from_keychain().unwrap();
        assert_eq!(fs::read(&aside).unwrap(), damage);
    }
}

#[cfg(unix)]
#[test]
fn symbolic_link_to_a_credential_file_stays() {
    let (folder, link) = folder();
    let target = folder.path().join("elsewhere.json");
    std::os::unix::fs::symlink("elsewhere.json", &link).unwrap();
    let store = FileStore::new(&link);
    // The first write makes the file, the second replaces it.
    for value in [b"first", b"again"] {
        store.write("record", value).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(
            FileStore::new(&target).read("record").unwrap().unwrap().as_slice(),
            value
        );
    }
}

#[cfg(unix)]
#[test]
fn lock_file_follows_no_link() {
    let (folder, file) = folder();
    let store = FileStore::new(&file);
    store.write("record", b"secret").unwrap();
    let lock = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.to_string_lossy().ends_with(".lock"))
        .unwrap();
    let precious = folder.path().join("precious");
    fs::write(&precious, b"of somebody").unwrap();
    fs::remove_file(&lock).unwrap();
    std::os::unix::fs::symlink(&precious, &lock).unwrap();
    store.write("record", b"again").unwrap_err();
    assert_eq!(fs::read(&precious).unwrap(), b"of somebody");
}

#[cfg(target_os = "linux")]
fn lock_beside(folder: &Path) -> PathBuf {
    let entries = fs::read_dir(folder).unwrap();
    let mut paths = entries.map(|entry| entry.unwrap().path());
    paths.find(|path| path.to_string_lossy().ends_with(".lock")).unwrap()
}

/// The flags of every descriptor of this process that a file is open under.
#[cfg(target_os = "linux")]
fn open_flags(path: &Path) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc/self/fd").unwrap() {
        let entry = entry.unwrap();
        // Other tests open and close files meanwhile.
        if fs::read_link(entry.path()).is_ok_and(|target| target == path)
            && let Ok(info) = fs::read_to_string(Path::new("/proc/self/fdinfo").join(entry.file_name()))
            && let Some(flags) = info.lines().find_map(|line| line.strip_prefix("flags:"))
        {
            found.push(u32::from_str_radix(flags.trim(), 8).unwrap());
        }
    }
    found
}

/// A check before the file is opened leaves time for an exchange, so the system has to refuse links.
#[cfg(target_os = "linux")]
#[test]
fn lock_file_is_opened_as_no_link_and_kept() {
    let (folder, file) = folder();
    let store = FileStore::new(&file);
    store.write("record", b"secret").unwrap();
    let lock = lock_beside(folder.path());
    // Its content stays.
    fs::write(&lock, b"of somebody").unwrap();
    let held = fs::File::options().write(true).open(&lock).unwrap();
    held.lock().unwrap();
    let writing = std::thread::spawn(move || store.write("record", b"again"));
    let no_link = rustix::fs::OFlags::NOFOLLOW.bits();
    // It has opened the file, and waits.
    let flags = loop {
        let flags = open_flags(&fs::canonicalize(&lock).unwrap());
        if flags.len() > 1 {
            break flags;
        }
        std::thread::yield_now();
    };
    assert!(flags.iter().any(|flags| flags & no_link != 0), "{flags:?}");
    drop(held);
    writing.join().unwrap().unwrap();
    assert_eq!(fs::read(&lock).unwrap(), b"of somebody");
}

/// Opening it would block until somebody opens the other end.
#[cfg(target_os = "linux")]
#[test]
fn pipe_in_place_of_the_lock_is_refused() {
    let (folder, file) = folder();
    let store = FileStore::new(&file);
    store.write("record", b"secret").unwrap();
    let lock = lock_beside(folder.path());
    fs::remove_file(&lock).unwrap();
    let made = Command::new("mkfifo").arg(&lock).status().unwrap();
    assert!(made.success());
    store.write("record", b"again").unwrap_err();
    // The same with an open other end, which lets the pipe be opened.
    let _both_ends = fs::File::options().read(true).write(true).open(&lock).unwrap();
    store.write("record", b"again").unwrap_err();
}

/// Runs itself in a mount namespace in which the file is a mount point, as in a container.
#[cfg(target_os = "linux")]
#[test]
fn mounted_credential_file_is_written_in_place() {
    const FILE: &str = "SYNCKIT_TEST_MOUNTED_FILE";
    if let Some(file) = std::env::var_os(FILE) {
        let store = FileStore::new(PathBuf::from(file));
        store.write("record", b"a longer secret").unwrap();
        store.write("record", b"secret").unwrap();
        assert_eq!(store.read("record").unwrap().unwrap().as_slice(), b"secret");
        return;
    }
    let (_folder, file) = folder();
    write_private(&file, b"");
    let script = "mount --bind \"$0\" \"$0\" && exec \"$1\" --exact \
                  credential_files::mounted_credential_file_is_written_in_place --nocapture";
    let output = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", script])
        .arg(&file)
        .arg(std::env::current_exe().unwrap())
        .env(FILE, &file)
        .output()
        .expect("unshare of util-linux: apt-get install util-linux");
    let said = format!(
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    assert_eq!(
        FileStore::new(&file).read("record").unwrap().unwrap().as_slice(),
        b"secret"
    );
}
