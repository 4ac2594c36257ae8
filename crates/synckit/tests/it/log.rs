//! A server outlives its log: a full disk, a reader that is gone, a reader that is stuck.

use std::{
    fs::OpenOptions,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::{Command, Stdio},
};

use crate::program::{Server, synckit};

const TOKEN: &str = "metrics-token-of-the-test";

fn serve(directory: &std::path::Path) -> Command {
    let mut command = synckit();
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(directory.join("data"))
        .env("SYNCKIT_METRICS_TOKEN", TOKEN);
    command
}

/// Asks so many times on one connection; every answer must be 200.
fn ask(url: &str, path: &str, times: usize) -> String {
    let address = url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).unwrap();
    let mut last = String::new();
    for number in 1..=times {
        let end = if number == times { "close" } else { "keep-alive" };
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {TOKEN}\r\nconnection: {end}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        if number == times {
            stream.read_to_string(&mut last).unwrap();
        } else {
            // An answer to this question is one packet on loopback.
            let mut answer = [0; 4096];
            let read = stream.read(&mut answer).unwrap();
            assert!(answer[..read].starts_with(b"HTTP/1.1 200"), "request {number}");
        }
    }
    assert!(last.starts_with("HTTP/1.1 200"), "{last}");
    last
}

fn lost_lines(url: &str) -> u64 {
    let metrics = ask(url, "/metrics", 1);
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix("synckit_log_lines_lost_total "));
    line.unwrap_or_else(|| panic!("{metrics}")).parse().unwrap()
}

/// Lines are written, and counted as lost, a moment after their requests.
fn wait_for_lost_lines(url: &str, number: u64) {
    let tries = 1000;
    assert!((0..tries).any(|_| lost_lines(url) >= number), "after {tries} tries");
}

#[test]
fn a_log_on_a_full_disk_stops_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let server = Server::spawn_logging(serve(directory.path()), directory, full);
    ask(&server.url, "/healthz", 3);
    wait_for_lost_lines(&server.url, 3);
    assert!(server.terminate("-TERM").1.success());
}

#[test]
fn a_log_whose_reader_is_gone_stops_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let server = Server::spawn_logging(serve(directory.path()), directory, writer);
    ask(&server.url, "/healthz", 3);
    wait_for_lost_lines(&server.url, 3);
    assert!(server.terminate("-TERM").1.success());
}

/// Messages and log go into one pipe, as with `2>&1 |`, and nobody reads it after the first line.
#[test]
fn a_log_whose_reader_is_stuck_stops_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = serve(directory.path());
    let mut child = command
        .stdout(writer.try_clone().unwrap())
        .stderr(writer)
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    // Without this, the test would hold the pipe open for itself.
    drop(command);
    let mut lines = BufReader::new(&reader);
    let mut line = String::new();
    let url = loop {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "the server ended");
        if let Some(rest) = line.strip_prefix("listening on ") {
            break rest.split(',').next().unwrap().to_owned();
        }
    };
    // The pipe holds 64 KiB and the queue 1 MiB, a line about 200 bytes.
    let mut asked = 0;
    while lost_lines(&url) == 0 {
        assert!(asked < 50_000, "no line was ever lost");
        ask(&url, "/healthz", 500);
        asked += 500;
    }
    ask(&url, "/readyz", 1);
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert!(child.wait().unwrap().success());
}
