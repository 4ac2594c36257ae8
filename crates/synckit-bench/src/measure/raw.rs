//! Requests without the SDK: one HTTP connection that sends prepared bodies and drops the answers.

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use synckit_protocol::MEDIA_TYPE_CBOR;
use tokio::net::TcpStream;

/// A connection, kept open.
#[derive(Debug)]
pub(super) struct Line {
    sender: SendRequest<Full<Bytes>>,
    host: HeaderValue,
    authorization: HeaderValue,
}

impl Line {
    /// Connects to `address`, for requests of one session.
    pub(super) async fn open(address: &str, authorization: HeaderValue) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // It ends with the sender, which reports earlier errors.
        tokio::spawn(connection);
        Ok(Self {
            sender,
            host: HeaderValue::from_str(address)?,
            authorization,
        })
    }

    /// Whether the server keeps the connection. It does after most refusals.
    pub(super) fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Sends one body, and reads the answer to its end. Returns the size of the answer's body.
    pub(super) async fn post(&mut self, path: &'static str, body: Bytes) -> anyhow::Result<u64> {
        self.send(Method::POST, path, body).await
    }

    /// Sends a request, and reads the answer to its end. Returns the size of the answer's body.
    pub(super) async fn send(&mut self, method: Method, path: &'static str, body: Bytes) -> anyhow::Result<u64> {
        let mut request = Request::builder()
            .method(method)
            .uri(Uri::from_static(path))
            .header(header::HOST, &self.host)
            .header(header::AUTHORIZATION, &self.authorization);
        if !body.is_empty() {
            let content_type = HeaderValue::from_static(MEDIA_TYPE_CBOR);
            request = request
                .header(header::ACCEPT, &content_type)
                .header(header::CONTENT_TYPE, content_type);
        }
        let request = request.body(Full::new(body))?;
        self.sender.ready().await?;
        let mut response = self.sender.send_request(request).await?;
        let mut bytes = 0;
        if !response.status().is_success() {
            let problem = response.body_mut().collect().await?.to_bytes();
            bail!("{path} was refused: {}", String::from_utf8_lossy(&problem));
        }
        while let Some(frame) = response.body_mut().frame().await {
            let frame = frame.context("an answer was cut off")?;
            bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        Ok(bytes)
    }
}
