//! The client in `examples/python`, which was written from the document alone, against the same server as the SDK.
//!
//! `cargo xtask test` and `cargo xtask with-keychain` bring its Python with them.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};
use synckit_client::{BlobHash, ChangeEntry, ChangeOp, Cursor, FoldOutcome};

use crate::{
    mail_server::MailServer,
    subscribe::event_streams,
    world::{User, World, change, changes, pull_all},
};

fn example() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/python"))
}

fn python() -> Command {
    let interpreter = std::env::var_os("SYNCKIT_TEST_PYTHON")
        .expect("SYNCKIT_TEST_PYTHON is set by `cargo xtask test` and `cargo xtask with-keychain -- cargo test`");
    let mut command = Command::new(interpreter);
    // What Python compiles is for its own folders, not for the repository.
    command.current_dir(example()).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// The client of a user, with state of its own.
fn client_of(world: &World, user: &User) -> Command {
    let mut command = python();
    command
        .args(["-m", "synckit_client", "--server", &world.url(), "--email", &user.email])
        .arg("--state")
        .arg(world.file(&format!("{} python.json", user.email)))
        .env("SYNCKIT_API_KEY", &world.api_key)
        .env("SYNCKIT_PASSWORD", &user.password);
    command
}

async fn client(world: &World, user: &User, arguments: &[&str], input: &str) -> Output {
    let mut command = client_of(world, user);
    command.args(arguments);
    run(command, input).await
}

/// The server lives in the runtime of the test, so nothing may block it.
async fn run(mut command: Command, input: &str) -> Output {
    let input = input.to_owned();
    tokio::task::spawn_blocking(move || {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    })
    .await
    .unwrap()
}

/// The standard output of a run that must succeed, line by line.
fn lines(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = str::from_utf8(&output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What a run says that must fail.
fn complaint(output: &Output) -> String {
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// An entry as the client prints it. An absent `data` is absent.
fn as_line(change: &ChangeEntry) -> Value {
    let op = match change.op {
        ChangeOp::Insert => "insert",
        ChangeOp::Update => "update",
        ChangeOp::Delete => "delete",
    };
    let mut line = json!({
        "table": change.table, "op": op, "row_id": change.row_id, "timestamp": change.timestamp.as_micros(),
    });
    if let Some(data) = &change.data {
        line["data"] = data.clone();
    }
    line
}

/// The rows that are left, as the client prints them: in order of table and row id.
fn rows(changes: &[ChangeEntry]) -> Vec<Value> {
    let mut rows = BTreeMap::new();
    for change in changes {
        let key = (change.table.clone(), change.row_id.clone());
        let mut line = as_line(change);
        line.as_object_mut().unwrap().remove("op");
        match change.op {
            ChangeOp::Delete => rows.remove(&key),
            ChangeOp::Insert | ChangeOp::Update => rows.insert(key, line),
        };
    }
    rows.into_values().collect()
}

/// Everything that the format tells apart.
fn all_kinds() -> Vec<ChangeEntry> {
    let data = json!({
        "text": "Grüße \u{1f331}\u{0}", "": [], "zero": 0, "float": 0.0, "negative zero": -0.0, "one": 1, "one.0": 1.0,
        "most": u64::MAX, "least": i64::MIN, "tiny": f64::MIN_POSITIVE, "yes": true, "no": false, "nothing": null,
        "nested": { "bb": [{ "z": 1, "a": { "é": null } }], "a": {}, "c": "" },
    });
    let row = change("kinds", "0190c2a4-7d1e-7f00-8a00-0123456789ab");
    vec![
        ChangeEntry {
            data: Some(data),
            ..row.clone()
        },
        ChangeEntry {
            row_id: "0190C2A4-7D1E-7F00-8A00-0123456789AB".to_owned(),
            ..row.clone()
        },
        ChangeEntry {
            row_id: String::new(),
            data: Some(Value::Null),
            ..row.clone()
        },
        ChangeEntry {
            row_id: "absent".to_owned(),
            op: ChangeOp::Update,
            data: None,
            ..row.clone()
        },
        ChangeEntry {
            row_id: "a list".to_owned(),
            data: Some(json!([1, 1.5, { "b": 1 }])),
            ..row.clone()
        },
        ChangeEntry {
            row_id: "gone".to_owned(),
            op: ChangeOp::Delete,
            data: None,
            ..row
        },
    ]
}

#[tokio::test]
async fn python_client_agrees_with_every_vector() {
    let mut command = python();
    command.arg("check_vectors.py");
    let output = run(command, "").await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("envelope.json: "));
}

#[tokio::test]
async fn careless_clients_fail_on_the_vectors() {
    let mut command = python();
    command.arg("mutants.py");
    let output = run(command, "").await;
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{stdout}{stderr}");
    assert!(stdout.ends_with("mutants, 0 survived\n"), "{stdout}");
}

#[tokio::test]
async fn python_client_reads_what_the_sdk_wrote() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, id) = world.first_device(&user).await;
    laptop.push(id, all_kinds()).await.unwrap();
    laptop.push(id, changes(700)).await.unwrap();
    laptop.rotate_keys(&user.password).await.unwrap();
    laptop.push(id, changes(20)).await.unwrap();

    // The log, under two keys and in several pages.
    let (written, end) = pull_all(&laptop, id, Cursor::START).await.unwrap();
    let mut printed = lines(&client(&world, &user, &["changes"], "").await);
    assert_eq!(printed.pop().unwrap(), json!({ "cursor": end.to_string() }));
    assert_eq!(printed, written.iter().map(as_line).collect::<Vec<_>>());

    // A snapshot, and the log after it.
    assert_eq!(laptop.fold(id).await.unwrap().outcome, FoldOutcome::Stored);
    let gone = ChangeEntry {
        op: ChangeOp::Delete,
        data: None,
        ..change("notes", "3")
    };
    laptop.push(id, vec![gone, change("notes", "new")]).await.unwrap();
    let (written, _) = pull_all(&laptop, id, Cursor::START).await.unwrap();
    assert!(written.len() < 720, "read through the snapshot");
    assert_eq!(lines(&client(&world, &user, &["rows"], "").await), rows(&written));
    // Only what came after a cursor.
    let mut printed = lines(&client(&world, &user, &["changes", "--after", &end.to_string()], "").await);
    printed.pop();
    assert_eq!(printed.len(), 2);

    // A file.
    let data: Vec<u8> = (0..100_000_u32).flat_map(u32::to_be_bytes).collect();
    let (from, to) = (world.file("from"), world.file("to"));
    std::fs::write(&from, &data).unwrap();
    let hash: BlobHash = laptop.blob_put(&from, |_| {}).await.unwrap();
    lines(&client(&world, &user, &["blob", &hash.to_string(), to.to_str().unwrap()], "").await);
    assert_eq!(std::fs::read(&to).unwrap(), data);
}

#[tokio::test]
async fn python_client_hears_of_changes() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, laptop_id) = world.first_device(&user).await;
    let mut command = client_of(&world, &user);
    command
        .args(["changes", "--follow"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for row in ["1", "2", "3"] {
        let pushed = change("notes", row);
        laptop.push(laptop_id, vec![pushed.clone()]).await.unwrap();
        let line;
        (line, lines) = tokio::task::spawn_blocking(move || (lines.next(), lines))
            .await
            .unwrap();
        let line: Value = serde_json::from_str(&line.unwrap().unwrap()).unwrap();
        assert_eq!(line, as_line(&pushed));
    }
    assert_eq!(event_streams(&world).await, 1, "it does not ask again and again");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test]
async fn sdk_reads_what_the_python_client_pushed() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, id) = world.first_device(&user).await;
    laptop.push(id, changes(3)).await.unwrap();

    // It has never pulled: the first answer is `behind`, and it walks the chain. Then more than one batch.
    let pushed: Vec<ChangeEntry> = all_kinds().into_iter().chain(changes(600)).collect();
    let input: String = pushed.iter().map(|change| format!("{}\n", as_line(change))).collect();
    lines(&client(&world, &user, &["push"], &input).await);
    let (pulled, _) = pull_all(&laptop, id, Cursor::START).await.unwrap();
    assert_eq!(pulled[3..], pushed);
    laptop.push(id, changes(1)).await.unwrap();

    let nan = r#"{"table":"t","op":"insert","row_id":"r","data":NaN}"#;
    assert!(complaint(&client(&world, &user, &["push"], nan).await).contains("CannotPush"));
}

#[tokio::test]
async fn python_client_catches_a_server_that_lies() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, id) = world.first_device(&user).await;
    for row in ["a", "b", "c"] {
        laptop.push(id, vec![change("t", row)]).await.unwrap();
    }
    let earlier = world.backup();
    laptop.push(id, vec![change("t", "d")]).await.unwrap();
    assert_eq!(lines(&client(&world, &user, &["rows"], "").await).len(), 4);

    {
        let database = rusqlite::Connection::open(world.data_dir().join("synckit.db")).unwrap();
        let damage = "UPDATE batches SET sealed = zeroblob(length(sealed)) WHERE last_seq = 2";
        assert_eq!(database.execute(damage, []).unwrap(), 1);
    }
    assert!(complaint(&client(&world, &user, &["rows"], "").await).contains("BatchForged"));

    // An older state of the log: the client knows better.
    let world = world.restore(earlier).await;
    assert!(complaint(&client(&world, &user, &["rows"], "").await).contains("HistoryRewound"));

    let wrong = User {
        password: "wrong".to_owned(),
        ..user.clone()
    };
    assert!(complaint(&client(&world, &wrong, &["rows"], "").await).contains("WrongPassword"));
}

#[tokio::test]
async fn python_client_goes_around_a_damaged_snapshot() {
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, id) = world.first_device(&user).await;
    laptop.push(id, changes(3)).await.unwrap();
    assert_eq!(laptop.fold(id).await.unwrap().outcome, FoldOutcome::Stored);
    assert_eq!(lines(&client(&world, &user, &["rows"], "").await).len(), 3);
    {
        let database = rusqlite::Connection::open(world.data_dir().join("synckit.db")).unwrap();
        let damage = "UPDATE snapshot_parts SET sealed = zeroblob(length(sealed))";
        assert_eq!(database.execute(damage, []).unwrap(), 1);
    }
    // The log is still whole; once it is not, there is no other way.
    assert_eq!(lines(&client(&world, &user, &["rows"], "").await).len(), 3);
    {
        let database = rusqlite::Connection::open(world.data_dir().join("synckit.db")).unwrap();
        database
            .execute("UPDATE batches SET sealed = zeroblob(length(sealed))", [])
            .unwrap();
    }
    assert!(complaint(&client(&world, &user, &["rows"], "").await).contains("BatchForged"));
}

/// Runs a script beside the client's own modules.
async fn script(text: &str) {
    let mut command = python();
    command.args(["-c", text]);
    let output = run(command, "").await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// No clock runs here: the script counts how long the client would sleep.
#[tokio::test]
async fn python_client_waits_as_the_server_asks() {
    script(
        r#"
import synckit_client.api as api
from synckit_client.errors import Problem

def waits(*answers):
    """How long a call sleeps between these answers, the headers of each; then comes a success."""
    slept, left = [], list(answers)
    api.time.sleep = slept.append
    def attempt():
        return (503, b"", left.pop(0)) if left else (200, b"done", {})
    try:
        assert api.retried(attempt) == (200, b"done")
    except Problem as problem:
        assert problem.status == 503
        return "given up"
    return slept

assert waits({"Retry-After": "7"}) == [7]
assert waits({"Retry-After": "7"}, {"Retry-After": "0"}, {"Retry-After": "9"}) == [7, 0, 9]
for past in ("61", "9223372036854775807", "18446744073709551616", "9" * 5000):
    assert waits({"Retry-After": past}) == "given up", past
for none in ("soon", "-1", "1.5", "", "1e3", "Wed, 21 Oct 2026 07:28:00 GMT", "\u0661"):
    (wait,) = waits({"Retry-After": none})
    assert 0 <= wait <= 0.2, (none, wait)
(wait,) = waits({})
assert 0 <= wait <= 0.2
assert waits({}, {}, {}, {}) == "given up"
"#,
    )
    .await;
}

#[tokio::test]
async fn python_client_is_not_led_into_the_machine() {
    script(
        r#"
from synckit_client.api import LOCAL, LOOPBACK, PUBLIC, Api, reach
from synckit_client.errors import UnsafeUrl

for address, needed in {
    "1.1.1.1": PUBLIC, "::ffff:1.1.1.1": PUBLIC, "2606:4700::1": PUBLIC,
    "10.0.0.1": LOCAL, "169.254.169.254": LOCAL, "100.64.0.1": LOCAL, "fe80::1%1": LOCAL, "::ffff:192.168.1.1": LOCAL,
    "64:ff9b::a00:1": LOCAL, "2002:a00:1::1": LOCAL, "fd00::1": LOCAL,
    "127.0.0.1": LOOPBACK, "::1": LOOPBACK, "::ffff:127.0.0.1": LOOPBACK,
    "0.0.0.0": None, "::": None, "224.0.0.1": None, "255.255.255.255": None, "ff02::1": None,
}.items():
    assert reach(address) == needed, (address, reach(address))

api = Api("https://sync.example.com")
for host in ("127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "10.0.0.1", "0.0.0.0", "user@1.1.1.1"):
    try:
        api.download(f"https://{host}/", 10)
    except UnsafeUrl:
        continue
    raise SystemExit(f"{host} was asked")
"#,
    )
    .await;
}

#[tokio::test]
async fn python_client_refuses_answers_of_other_types() {
    script(
        r#"
import re
from pathlib import Path
import cbor2
from synckit_client.api import TYPES, Answer, Api, problem_of
from synckit_client.errors import NotThisProtocol, Problem

# Every field that the client reads of an answer has a type.
read = set()
for name in ("client", "sign_in", "position"):
    read |= set(re.findall(r"\w\[\"(\w+)\"\]", Path(f"synckit_client/{name}.py").read_text()))
assert len(read) > 20 and read <= TYPES.keys(), read - TYPES.keys()

class Fixed(Api):
    def __init__(self, answer):
        super().__init__("https://sync.example.com")
        self.answer = answer
    def _exchange(self, *_):
        return 200, cbor2.dumps(self.answer), {}

one = {int: 1, bool: True, bytes: b"x", str: "x", Answer: {}}
def right(kind):
    if type(kind) is list:
        return [right(kind[0])]
    return bytes(kind) if type(kind) is int else one[kind]
values = [None, True, 1, -1, 2**64, 1.5, "x", b"x", bytes(15), bytes(16), bytes(32), [], [b"x"], [None], [{}], {}]
for name, kind in TYPES.items():
    answer = Fixed({name: right(kind)}).call("GET", "/")
    assert answer[name] == right(kind)
    taken = [value for value in values if type(value) is type(right(kind))]
    refused = 0
    for value in values:
        for answer in ({name: value}, {"inside": {name: value}}, {"inside": [{name: value}]}):
            try:
                Fixed(answer).call("GET", "/")
                assert value in taken, (name, value)
            except NotThisProtocol:
                refused += 1
    assert refused >= 3 * (len(values) - len(taken)), name
for answer in ([], "x", None, 1, [{}]):
    try:
        Fixed(answer).call("GET", "/")
    except NotThisProtocol:
        continue
    raise SystemExit(f"{answer!r} was taken")

# Decoders take a break as a value, and pass over what follows the first value.
class Raw(Api):
    def __init__(self, answer):
        super().__init__("https://sync.example.com")
        self.answer = answer
    def _exchange(self, *_):
        return 200, self.answer, {}

one = cbor2.dumps({"x": 1})
assert Raw(one).call("GET", "/") == {"x": 1}
for body in (one[:-1] + b"\xff", one + b"\xff", one + one, one[:-1]):
    try:
        Raw(body).call("GET", "/")
    except NotThisProtocol:
        continue
    raise SystemExit(f"{body.hex()} was taken")

# Of a problem of another form, only the status counts.
for body in (b"", b"[]", b"{", b'{"code": 5}', b'{"latest": {"seq": "1"}}', b'{"key_id": "x"}', b'{"behind": []}'):
    problem = problem_of(502, body)
    assert (type(problem), problem.status, problem.code) == (Problem, 502, None), body
assert problem_of(409, b'{"code": "behind"}').code == "behind"
"#,
    )
    .await;
}

#[tokio::test]
async fn python_client_refuses_urls_that_are_none() {
    script(
        r#"
from synckit_client.api import Api
from synckit_client.errors import UnsafeUrl

api = Api("https://sync.example.com")
for url in ("", "x", "https://", "https://[::1", "https://a:b/", "https://a:99999/", "https://exa mple.com/",
            "https://example.com/\r\nx: y", "https://example.com/\u00e9", "https://" + "a" * 64 + ".com/", "file:///etc"):
    try:
        api.download(url, 10)
    except UnsafeUrl:
        continue
    raise SystemExit(f"{url!r} was asked")
"#,
    )
    .await;
}

/// A server that names another snapshot each time, and has none of them.
#[tokio::test]
async fn python_client_stops_without_a_snapshot() {
    script(
        r#"
from synckit_client.client import Client
from synckit_client.errors import Problem
from synckit_client.position import Position

pulls = []
class Api:
    def call(self, method, path, body=None):
        assert path == "/api/sync/pull" and len(pulls) < 100
        pulls.append(body)
        return {"snapshot": {"snapshot_id": bytes([len(pulls)] * 16)}}
class Pulling(Client):
    def __init__(self):
        self._api, self._known, self._device_id = Api(), None, bytes(16)
        self._start = Position.start(bytes(16), bytes(16))
    def _pull_snapshot(self, *_):
        raise Problem(404, {"code": "snapshot_not_found"})
        yield
try:
    list(Pulling().pull())
except Problem as problem:
    assert (problem.code, len(pulls)) == ("snapshot_not_found", 4)
else:
    raise SystemExit("it ended")
"#,
    )
    .await;
}

#[tokio::test]
async fn python_client_checks_the_size_of_a_file() {
    script(
        r#"
from synckit_client.client import BLOB_SEALED_BYTES_MAX, Client
from synckit_client.errors import BlobForged, NotThisProtocol
from synckit_client.primitives import seal, sha256

key, key_id, file = bytes(32), bytes(16), b"a file"
class Ring:
    blob_id_key = bytes(32)
    def subkey(self, *_):
        return key
class Api:
    def __init__(self, size, sealed):
        self.size, self.sealed = size, sealed
    def call(self, method, path, body):
        self.sealed = self.sealed or seal(key, b"synckit/1 blob\0" + body["hash"] + key_id, file)
        return {"key_id": key_id, "size": self.size, "download_url": "https://example.com/"}
    def download(self, url, size_bytes):
        assert size_bytes == self.size
        return self.sealed
def blob(size, sealed=None):
    client = object.__new__(Client)
    client._api, client._ring = Api(size, sealed), Ring()
    try:
        return client.blob(sha256(file))
    except (BlobForged, NotThisProtocol) as error:
        return type(error)
assert blob(46) == file
assert blob(47) is BlobForged
assert blob(45) is BlobForged
assert blob(46, b"") == file
assert blob(46, bytes(46)) is BlobForged
for size in (0, 39, BLOB_SEALED_BYTES_MAX + 1, 2**64 - 1):
    assert blob(size) is NotThisProtocol, size
"#,
    )
    .await;
}

#[tokio::test]
async fn python_client_confirms_an_address() {
    let mail = MailServer::start().await.unwrap();
    let delivery = mail.delivery().unwrap();
    let world = World::start_with(move |config| config.mail = delivery.clone()).await;
    let user = world.user().await;
    let code = mail.code(&user.email, "Confirm your address", 1).await.unwrap();
    assert!(complaint(&client(&world, &user, &["rows"], "").await).contains("WrongPassword"));
    let wrong = client(&world, &user, &["--confirm", "a guess", "rows"], "").await;
    assert!(complaint(&wrong).contains("mail_code_invalid"));
    // It signs in, and finds that no device has set up encryption yet.
    let confirmed = client(&world, &user, &["--confirm", &code, "rows"], "").await;
    assert!(complaint(&confirmed).contains("NoServerKey"));
    assert!(complaint(&client(&world, &user, &["rows"], "").await).contains("NoServerKey"));
}

#[tokio::test]
async fn python_client_reads_with_a_recovery_code() {
    // Python client reads with a recovery code after a reset.
    let world = World::start().await;
    let user = world.user().await;
    let (laptop, id) = world.first_device(&user).await;
    laptop.push(id, changes(2)).await.unwrap();
    let code = laptop.recovery_code(&user.password).await.unwrap();
    laptop.request_password_reset(&user.email).await.unwrap();
    let mailed = world.mailed_code(&user, "Reset your password").await;
    laptop.reset_password(&mailed, "a new password").await.unwrap();

    let user = User {
        password: "a new password".to_owned(),
        ..user
    };
    assert!(complaint(&client(&world, &user, &["rows"], "").await).contains("PasswordWasReset"));
    let mut command = client_of(&world, &user);
    command
        .args(["--recovery-code", "rows"])
        .env("SYNCKIT_RECOVERY_CODE", code.words().as_str());
    assert_eq!(lines(&run(command, "").await).len(), 2);
}
