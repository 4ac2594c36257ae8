//! Requests without an HTTP client: each has a connection of its own, which ends with the answer.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
};

use serde_json::Value;

/// What came back.
pub(crate) struct Answer {
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// Reads what the server says until it closes the connection.
    pub(crate) fn read_from(mut stream: TcpStream) -> Self {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        Self {
            head: head.to_owned(),
            body: body.to_owned(),
        }
    }

    /// Reads the status line and the headers, and leaves the connection.
    pub(crate) fn read_head(stream: TcpStream) -> String {
        let lines = BufReader::new(stream).lines().map_while(Result::ok);
        lines.take_while(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
    }

    /// The body of a good answer, which is JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert!(self.head.starts_with("HTTP/1.1 200"), "{}\n{}", self.head, self.body);
        serde_json::from_str(&self.body).unwrap()
    }
}

/// A connection on which a request begins whose body is `length` bytes of JSON.
pub(crate) fn begin(url: &str, request: &str, token: Option<&str>, length: usize) -> TcpStream {
    let address = url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).unwrap();
    let token = token.map_or(String::new(), |token| format!("authorization: Bearer {token}\r\n"));
    let head = format!(
        "{request} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{token}content-type: application/json\r\n\
         content-length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

pub(crate) fn post(url: &str, path: &str, token: Option<&str>, body: &Value) -> Value {
    let body = body.to_string();
    let mut stream = begin(url, &format!("POST {path}"), token, body.len());
    stream.write_all(body.as_bytes()).unwrap();
    Answer::read_from(stream).json()
}

pub(crate) fn get(url: &str, path: &str, token: Option<&str>) -> Answer {
    Answer::read_from(begin(url, &format!("GET {path}"), token, 0))
}
