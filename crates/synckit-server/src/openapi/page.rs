//! The document as a page for people: one answer with style, script and data in it, which loads nothing.
//!
//! The policy names the hashes of the style and the script, so that no other code runs or loads, whatever the document
//! contains. The script builds the page from text nodes, never from markup.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The page, and its `Content-Security-Policy`.
pub(super) fn of(document: &Value) -> (String, String) {
    // Inside a script element only `<` could end it early.
    let data = document.to_string().replace('<', "\\u003c");
    let page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>SyncKit API</title>\n\
         <link rel=\"icon\" href=\"data:,\">\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <noscript>This page needs its script; the same document is at <a href=\"openapi.json\">openapi.json</a>.\
         </noscript>\n<script type=\"application/json\" id=\"document\">{data}</script>\n\
         <script>{SCRIPT}</script>\n</body>\n</html>\n"
    );
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
        hash(STYLE),
        hash(SCRIPT)
    );
    (page, policy)
}

fn hash(text: &str) -> String {
    STANDARD.encode(Sha256::digest(text))
}
