//! `synckit backup`: what it holds, when it refuses, and that a server can be restored from it.

use std::{fs, path::Path};

use serde_json::Value;
use synckit_client::{BlobHash, ChangeOp, Cursor};

use crate::{
    person::{Person, block_on, note},
    program::{Ended, Server, on_data_dir, run, synckit},
};

fn back_up(server: &Server, target: &Path) -> Ended {
    on_data_dir(&server.data_dir(), &["backup", "--json", target.to_str().unwrap()])
}

fn made(ended: Ended) -> Value {
    serde_json::from_str(&ended.expect_code(0).stdout).unwrap()
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_all(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn files(directory: &Path) -> Vec<std::path::PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        }
        all.push(path);
    }
    all
}

#[test]
fn backup_leaves_a_bucket_alone() {
    let server = Server::start();
    let person = block_on(Person::on(&server));
    block_on(person.client.blob_put(b"a file".to_vec(), |_| {})).unwrap();
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("synckit.toml");
    fs::write(&file, "blobs = \"s3://our-files?region=eu-west-1\"").unwrap();
    for (name, args) in [
        ("by flag", ["--blobs", "s3://our-files?region=eu-west-1"]),
        ("by file", ["--config", file.to_str().unwrap()]),
    ] {
        let target = place.path().join(name);
        let target = target.to_str().unwrap();
        let args = ["backup", "--json", target, args[0], args[1]];
        let backup = made(on_data_dir(&server.data_dir(), &args));
        assert_eq!(
            (&backup["objects_copied"], &backup["objects_missing"]),
            (&0.into(), &0.into())
        );
    }
    server.stop();
}

#[test]
fn a_server_is_restored_from_a_backup_made_at_work() {
    let server = Server::start();
    let person = block_on(Person::on(&server));
    let file = b"a file of some bytes".to_vec();
    block_on(async {
        person.push(vec![note(ChangeOp::Insert, "one", 1)]).await;
        person.client.blob_put(file.clone(), |_| {}).await.unwrap();
    });
    let place = tempfile::tempdir().unwrap();
    let (target, keys) = (place.path().join("backup"), place.path().join("keys"));
    // Left by one that was killed.
    fs::create_dir(&target).unwrap();
    fs::write(target.join("synckit.db.part"), "half a database").unwrap();
    let mut command = synckit();
    command
        .args(["backup", "--data-dir"])
        .arg(server.data_dir())
        .arg(&target)
        .arg("--keys")
        .arg(&keys);
    let said = run(&mut command).expect_code(0).stdout;
    assert!(said.contains("blobs     1 copied"), "{said}");
    // Later than the backup: it is not in it.
    block_on(person.push(vec![note(ChangeOp::Insert, "two", 2)]));
    server.stop();

    let restored = place.path().join("restored");
    copy_all(&target, &restored);
    copy_all(&keys, &restored.join("keys"));
    let looked_at = on_data_dir(&restored, &["doctor", "--json", "--full", "--listen", "127.0.0.1:0"]);
    let document: Value = serde_json::from_str(&looked_at.stdout).unwrap();
    for check in ["database", "logs", "blobs", "keys"] {
        let findings = document["findings"].as_array().unwrap().iter();
        let states: Vec<_> = findings
            .filter(|finding| finding["check"] == check)
            .map(|finding| &finding["state"])
            .collect();
        assert!(
            !states.is_empty() && states.iter().all(|state| *state == "ok"),
            "{document:#}"
        );
    }
    let mut serve = synckit();
    serve
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(&restored);
    let server = Server::spawn(serve, tempfile::tempdir().unwrap());
    block_on(async {
        let (client, device) = person.at(&server.url).device("phone").await;
        let (changes, ..) = client.pull(device.id, Cursor::START).await.unwrap();
        let rows: Vec<_> = changes.iter().map(|change| change.row_id.as_str()).collect();
        assert_eq!(rows, ["one"]);
        let url = client.blob_download_url(&BlobHash::of(&file)).await.unwrap();
        assert_eq!(client.blob_download(&url).await.unwrap(), file);
    });
}

#[test]
fn a_second_backup_copies_what_is_new() {
    let server = Server::start();
    let person = block_on(Person::on(&server));
    let put = |contents: &[u8]| block_on(person.client.blob_put(contents.to_vec(), |_| {})).unwrap();
    put(b"first");
    let place = tempfile::tempdir().unwrap();
    let target = place.path().join("backup");
    let first = made(back_up(&server, &target));
    assert_eq!(
        (&first["objects_copied"], &first["objects_present"]),
        (&1.into(), &0.into())
    );
    put(b"second");
    let known = files(&target.join("blobs"));
    let shard = known.iter().find(|path| path.is_dir()).unwrap();
    let name = format!("{}{}", shard.file_name().unwrap().to_str().unwrap(), "7".repeat(62));
    fs::write(shard.join(&name), "nothing names this any more").unwrap();
    fs::write(shard.join(format!("{name}.part")), "half an object").unwrap();
    // Somebody looked into the backup, and left the log of it there.
    fs::write(target.join("synckit.db-wal"), "of the database before").unwrap();
    let second = made(back_up(&server, &target));
    let figures = ["objects_copied", "objects_present", "objects_removed"].map(|name| second[name].as_u64().unwrap());
    assert_eq!(figures, [1, 1, 1]);
    assert!(!target.join("synckit.db-wal").exists());
    let objects = files(&target.join("blobs"));
    assert_eq!(objects.iter().filter(|path| path.is_file()).count(), 2, "{objects:?}");
}

#[cfg(unix)]
#[test]
fn a_backup_is_private_whatever_the_umask() {
    use std::os::unix::fs::PermissionsExt as _;
    let server = Server::start();
    let person = block_on(Person::on(&server));
    block_on(person.client.blob_put(b"a file".to_vec(), |_| {})).unwrap();
    let place = tempfile::tempdir().unwrap();
    let target = place.path().join("backup");
    let script = "umask 0; exec \"$0\" backup \"$2\" --keys \"$2-keys\" --data-dir \"$1\"";
    let mut shell = std::process::Command::new("sh");
    shell
        .args(["-c", script, env!("CARGO_BIN_EXE_synckit")])
        .args([&server.data_dir(), &target]);
    run(&mut shell).expect_code(0);
    for directory in [&target, &place.path().join("backup-keys")] {
        for path in files(directory) {
            let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o077;
            assert_eq!(mode, 0, "{}", path.display());
        }
    }
}

#[test]
fn a_backup_to_the_wrong_place_is_refused() {
    let server = Server::start();
    let place = tempfile::tempdir().unwrap();
    let refusal = |data_dir: &Path, arguments: &[&str]| {
        let mut all = vec!["backup", "--json"];
        all.extend(arguments);
        let ended = on_data_dir(data_dir, &all).expect_code(1);
        let said: Value = serde_json::from_str(ended.stderr.lines().last().unwrap()).unwrap();
        said["error"]["code"].as_str().unwrap().to_owned()
    };
    let target = place.path().join("backup");
    let target = target.to_str().unwrap();
    assert_eq!(refusal(&place.path().join("nothing"), &[target]), "no_data");
    let own = server.data_dir();
    assert_eq!(refusal(&own, &[own.to_str().unwrap()]), "data_dir");
    let inside = format!("{target}/keys");
    assert_eq!(refusal(&own, &[target, "--keys", &inside]), "invalid_value");
    let other = Server::start();
    fs::copy(other.data_dir().join("keys/opaque.key"), own.join("keys/opaque.key")).unwrap();
    let keys = place.path().join("keys");
    assert_eq!(
        refusal(&own, &[target, "--keys", keys.to_str().unwrap()]),
        "other_oprf_seed"
    );
    assert!(!Path::new(target).join("synckit.db").exists());
}

#[test]
fn a_backup_names_files_that_are_missing() {
    let server = Server::start();
    let person = block_on(Person::on(&server));
    block_on(async {
        for contents in [b"first", b"other", b"third"] {
            person.client.blob_put(contents.to_vec(), |_| {}).await.unwrap();
        }
    });
    let objects = files(&server.data_dir().join("blobs"));
    let objects: Vec<_> = objects.iter().filter(|path| path.is_file()).collect();
    // Gone, and rotten at the same size.
    fs::remove_file(objects[0]).unwrap();
    let mut bytes = fs::read(objects[1]).unwrap();
    bytes[20] ^= 1;
    fs::write(objects[1], bytes).unwrap();
    let place = tempfile::tempdir().unwrap();
    let ended = back_up(&server, place.path()).expect_code(1);
    let backup: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(
        (&backup["objects_copied"], &backup["objects_missing"]),
        (&1.into(), &2.into())
    );
    let name = objects[0].file_name().unwrap().to_str().unwrap();
    assert!(
        ended.stderr.contains("backup_incomplete") && ended.stderr.contains(name),
        "{}",
        ended.stderr
    );
    assert!(place.path().join("synckit.db").is_file());
}
