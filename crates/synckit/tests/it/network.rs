//! Networks as machines really have them: proxies, and no certificates.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::Command,
};

use crate::{
    person::{EMAIL, PASSWORD, Person, block_on},
    program::{Ended, Server, UNKNOWN_KEY, run, synckit},
};

/// A proxy that answers nothing.
struct Proxy(TcpListener);

impl Proxy {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Self(listener)
    }

    /// The command with every variable that names a proxy.
    fn around<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let url = format!("http://{}", self.0.local_addr().unwrap());
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
            command.env(name, &url).env(name.to_lowercase(), &url);
        }
        command
    }

    /// A connection that was made and not looked at yet. The system keeps it for the listener, also after its process
    /// has ended.
    fn seen(&self) -> Option<TcpStream> {
        match self.0.accept() {
            Ok((stream, _)) => Some(stream),
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                None
            }
        }
    }
}

fn device_list(command: &mut Command, server: &str) -> Ended {
    run(command.args(["device", "list", "--server", server]))
}

/// A user of no server: the first request is all that matters.
fn anybody() -> Command {
    let mut command = synckit();
    command
        .env("SYNCKIT_API_KEY", UNKNOWN_KEY)
        .env("SYNCKIT_EMAIL", EMAIL)
        .env("SYNCKIT_PASSWORD", PASSWORD);
    command
}

#[test]
fn demo_passes_with_a_proxy_that_sees_nothing() {
    // Its requests go to the API and to presigned URLs.
    let proxy = Proxy::start();
    let ended = run(proxy.around(synckit().arg("demo"))).expect_code(0);
    assert!(ended.stdout.contains("The demo passed"), "{}", ended.stdout);
    assert!(proxy.seen().is_none());
}

#[test]
fn loopback_never_uses_a_proxy() {
    let (proxy, server) = (Proxy::start(), Server::start());
    let port = server.url.rsplit_once(':').unwrap().1;
    block_on(async {
        let person = Person::on(&server).await;
        for host in ["127.0.0.1", "localhost"] {
            let url = format!("http://{host}:{port}");
            device_list(proxy.around(&mut person.command()), &url).expect_code(0);
        }
    });
    // TLS to a port without a server.
    device_list(proxy.around(&mut anybody()), "https://localhost:9").expect_code(1);
    assert!(proxy.seen().is_none());

    // The variables do count for every other host.
    std::thread::scope(|scope| {
        let refused = scope.spawn(|| device_list(proxy.around(&mut anybody()), "https://sync.example.com"));
        let mut seen = 0;
        while !refused.is_finished() {
            seen += usize::from(proxy.seen().is_some());
            std::thread::yield_now();
        }
        refused.join().unwrap().expect_code(1);
        assert!(seen > 0);
    });
}

#[test]
fn no_certificates_leave_loopback_usable() {
    fn without(mut command: Command) -> Command {
        command.env("SSL_CERT_FILE", "/nowhere").env("SSL_CERT_DIR", "/nowhere");
        command
    }
    let server = Server::start();
    block_on(async {
        let person = Person::on(&server).await;
        device_list(&mut without(person.command()), &server.url).expect_code(0);
    });
    let ended = device_list(&mut without(anybody()), "https://127.0.0.1:9").expect_code(1);
    insta::assert_snapshot!(ended.stderr, @r"
    error: the request to the server failed: TLS cannot be used: builder error: unexpected error: No CA certificates were loaded from the system
    hint: install the root certificates of this machine (Debian: ca-certificates)
    ");
}

/// A server that answers every request with one head and a problem, on threads that end with the test's process.
fn busy_server(retry_after: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let body = r#"{"type":"about:blank","title":"The server sheds load","status":503,"code":"overloaded"}"#;
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\nretry-after: {retry_after}\r\nconnection: close\r\n\
         content-type: application/problem+json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut length = 0;
            let mut line = String::new();
            while stream.read_line(&mut line).unwrap() > 2 {
                if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                line.clear();
            }
            stream.read_exact(&mut vec![0; length]).unwrap();
            stream.get_mut().write_all(answer.as_bytes()).unwrap();
        }
    });
    url
}

#[test]
fn absurd_retry_after_ends_a_command_with_an_error() {
    for seconds in [i64::MAX as u64, u64::MAX] {
        let url = busy_server(&seconds.to_string());
        let ended = run(anybody().args(["device", "list", "--json", "--server", &url])).expect_code(1);
        let said: serde_json::Value = serde_json::from_str(&ended.stderr).unwrap();
        let error = &said["error"];
        assert_eq!(error["code"], "overloaded");
        let message = format!("the server asks to wait for {seconds} seconds (overloaded)");
        assert_eq!(error["message"], message.as_str());
        assert_eq!(error["hint"], "wait for the time that the server named, then try again");
    }
    // A value that is not a number of seconds is no wait: the command retries, and then shows the server's message.
    let url = busy_server("18446744073709551616");
    let ended = run(anybody().args(["device", "list", "--json", "--server", &url])).expect_code(1);
    let said: serde_json::Value = serde_json::from_str(&ended.stderr).unwrap();
    assert_eq!(said["error"]["code"], "overloaded");
}
