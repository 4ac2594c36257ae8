//! What the pages load: style, font, scripts and the compiled login. Each stands under a name with its hash, so that
//! browsers may keep it for ever, and the pages name the hash of what they run (Subresource Integrity).

use std::collections::HashMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

const STYLE: &str = include_str!("../../assets/console.css");
const FONT: &[u8] = include_bytes!("../../assets/atkinson-next.woff2");
const MARK: &[u8] = include_bytes!("../../assets/mark.svg");
const SCRIPT: &[u8] = include_bytes!("../../assets/gate.js");
const CONSOLE: &[u8] = include_bytes!("../../assets/console.js");
const ONCE: &[u8] = include_bytes!("../../assets/once.js");
const WORKER: &[u8] = include_bytes!("../../assets/opaque-worker.js");
const WASM: &[u8] = include_bytes!("../../assets/opaque.wasm");

/// A file that pages load.
#[derive(Debug)]
pub(crate) struct Asset {
    pub(crate) content_type: &'static str,
    pub(crate) bytes: Bytes,
}

/// How a page names a file.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Link {
    pub(crate) url: String,
    pub(crate) integrity: String,
}

/// The names of all files, for the templates.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Links {
    style: Link,
    font: Link,
    mark: Link,
    script: Link,
    console: Link,
    once: Link,
    worker: Link,
    wasm: Link,
}

/// All files, by the last part of their address.
#[derive(Debug)]
pub(crate) struct Assets {
    files: HashMap<String, Asset>,
    pub(crate) links: Links,
}

impl Assets {
    /// The files of a server that browsers reach under this path, which has no slash at its end.
    pub(crate) fn new(base: &str) -> Self {
        let mut files = HashMap::new();
        let mut add = |stem: &str, extension: &str, content_type: &'static str, bytes: Bytes| {
            let hash = Sha256::digest(&bytes);
            let short: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
            let name = format!("{stem}.{short}.{extension}");
            let link = Link {
                url: format!("{base}/assets/{name}"),
                integrity: format!("sha256-{}", STANDARD.encode(hash)),
            };
            files.insert(name.clone(), Asset { content_type, bytes });
            (name, link)
        };
        const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
        let (font_name, font) = add("atkinson-next", "woff2", "font/woff2", Bytes::from_static(FONT));
        let style = STYLE.replace("url(atkinson-next.woff2)", &format!("url({font_name})"));
        let links = Links {
            style: add("console", "css", "text/css; charset=utf-8", style.into()).1,
            font,
            mark: add("mark", "svg", "image/svg+xml", Bytes::from_static(MARK)).1,
            script: add("gate", "js", JAVASCRIPT, Bytes::from_static(SCRIPT)).1,
            console: add("console-script", "js", JAVASCRIPT, Bytes::from_static(CONSOLE)).1,
            once: add("once", "js", JAVASCRIPT, Bytes::from_static(ONCE)).1,
            worker: add("opaque-worker", "js", JAVASCRIPT, Bytes::from_static(WORKER)).1,
            wasm: add("opaque", "wasm", "application/wasm", Bytes::from_static(WASM)).1,
        };
        Self { files, links }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Asset> {
        self.files.get(name)
    }
}
