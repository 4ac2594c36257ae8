//! The OpenAPI 3.1 document of the API, made from the operations that the router is made from, and a page to read it.
//!
//! Schemas of bodies come from the types of `synckit-protocol` that the handlers read and write. `bounds` has the
//! limits, which types cannot express. Everything describes the JSON form; CBOR carries the same fields with byte
//! strings for bytes and ids.
//!
//! Invariant: the document contains every operation, status and problem code of the server. The tests
//! hold every answer that they get against it.

mod bounds;
mod operation;
mod page;

use std::sync::OnceLock;

use bytes::Bytes;
use schemars::{
    SchemaGenerator,
    generate::{Contract, SchemaSettings},
};
use serde_json::{Map, Value, json};
use synckit_protocol::{MEDIA_TYPE_CBOR, MEDIA_TYPE_JSON, MEDIA_TYPE_PROBLEM, Problem, ProblemCode, limits};

use crate::http::MEDIA_TYPE_FORM;
use operation::Body;
pub(crate) use operation::{
    Access, Answer, Content, Description, Operation, Place, SchemaOf, delete, get, patch, post, put,
};

/// The document and its page, made when somebody asks for them first.
#[derive(Debug)]
pub(crate) struct Documents {
    operations: Vec<Description>,
    server_url: String,
    made: OnceLock<Made>,
}

/// The content of a body.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) json: Bytes,
    pub(crate) page: Bytes,
    /// The `Content-Security-Policy` of the page: its own style and script, and nothing else.
    pub(crate) page_policy: String,
}

impl Documents {
    /// The documents of a server that clients reach at `server_url`.
    pub(crate) fn new(operations: Vec<Description>, server_url: String) -> Self {
        Self {
            operations,
            server_url,
            made: OnceLock::new(),
        }
    }

    pub(crate) fn made(&self) -> &Made {
        self.made.get_or_init(|| {
            let document = document(&self.operations, &self.server_url);
            let (page, page_policy) = page::of(&document);
            Made {
                json: document.to_string().into(),
                page: page.into(),
                page_policy,
            }
        })
    }
}

const ABOUT: &str = "End-to-end encrypted sync. The server stores what it cannot read: passwords, keys and contents never \
    reach it. This document describes the HTTP interface; what is inside the sealed bytes, and what a client must verify, \
    is in docs/protocol.md.\n\nBodies are JSON or CBOR, by `Content-Type`; answers come in the first of the two that `Accept` \
    names, else in that of the request. The schemas are those of JSON. In CBOR the same fields hold byte strings where \
    JSON has base64url, hexadecimal or a UUID. Unknown fields are ignored; an optional field without a value is left out. \
    Every error is a problem (RFC 9457) in JSON with a stable `code`. A GET route answers HEAD too.";

/// The parts of the document, in order.
const TAGS: &[(&str, &str)] = &[
    (
        "accounts",
        "Registration and forgotten passwords, with OPAQUE (RFC 9807)",
    ),
    ("sessions", "Sign-in, unlock, refresh, sign-out"),
    ("devices", "Installations of an app"),
    ("keys", "The envelope: master keys, sealed on a device"),
    ("log", "Sealed batches of changes, in one order"),
    ("snapshots", "The folded state of a stream, sealed"),
    (
        "blobs",
        "Sealed files. On the wire `hash` is the blob id and `size` the sealed size",
    ),
    (
        "account",
        "What belongs to a person and not to an app; needs a fresh password login",
    ),
    (
        "browser",
        "Sign-in by browser: authorization code with PKCE (RFC 6749, 7636, 8252, 9700)",
    ),
    ("pages", "What a person sees and does with an account in a browser"),
    ("server", "Health, metrics and this document"),
];

/// The headers of answers: name, type, whether it is always there, meaning.
const HEADERS: &[(&str, &str, bool, &str)] = &[
    (
        "X-Request-Id",
        "string",
        true,
        "Names the request in the server's log; made by the server.",
    ),
    (
        "Cache-Control",
        "string",
        true,
        "`no-store`: nothing may be kept. Of an event stream: `no-cache, no-transform`.",
    ),
    (
        "Retry-After",
        "integer",
        true,
        "Seconds to wait before the request is sent again.",
    ),
    (
        "WWW-Authenticate",
        "string",
        true,
        "`Bearer`: the token in the header `Authorization`.",
    ),
    ("Allow", "string", true, "The methods of the route."),
    (
        "ETag",
        "string",
        true,
        "The validator of the object, which never changes.",
    ),
    ("Accept-Ranges", "string", true, "`bytes`."),
    (
        "Content-Range",
        "string",
        true,
        "Which bytes of how many these are, or how many there are.",
    ),
    (
        "X-Accel-Buffering",
        "string",
        true,
        "`no`: a proxy passes each event on at once.",
    ),
    (
        "Content-Security-Policy",
        "string",
        true,
        "Lets the page use nothing but what is in it, or on this server.",
    ),
    ("Location", "string", true, "Where the browser goes on."),
];

fn document(operations: &[Description], server_url: &str) -> Value {
    let mut schemas = Schemas::new();
    let mut paths = Map::new();
    for operation in operations {
        let described = schemas.operation(operation);
        let item = paths.entry(operation.path).or_insert_with(|| json!({}));
        item[operation.method.as_str().to_ascii_lowercase()] = described;
    }
    let tags: Vec<Value> = TAGS
        .iter()
        .map(|(name, description)| json!({ "name": name, "description": description }))
        .collect();
    let headers: Map<String, Value> = HEADERS
        .iter()
        .map(|(name, kind, required, description)| {
            let header = json!({ "description": description, "required": required, "schema": { "type": kind } });
            ((*name).to_owned(), header)
        })
        .collect();
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "SyncKit",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": { "name": "PolyForm Noncommercial 1.0.0", "identifier": "PolyForm-Noncommercial-1.0.0" },
        },
        "servers": [{ "url": server_url }],
        "tags": tags,
        "paths": paths,
        "components": {
            "schemas": schemas.finish(),
            "headers": headers,
            "securitySchemes": security_schemes(),
        },
    });
    tidy(&mut document);
    document
}

fn security_schemes() -> Value {
    let bearer = |format: &str, description: &str| {
        let mut scheme = json!({ "type": "http", "scheme": "bearer", "description": description });
        if !format.is_empty() {
            scheme["bearerFormat"] = format.into();
        }
        scheme
    };
    json!({
        "appToken": bearer("JWT", "The `token` of a sign-in or refresh: for one account in one app, 7 days."),
        "accountToken": bearer("JWT", "The `account_token` of a password login or unlock: for one account, 5 minutes."),
        "pageSession": {
            "type": "apiKey", "in": "cookie", "name": "__Host-synckit",
            "description": "Set by `POST /account/sign-in`: for one account on the server's own pages, 12 hours.",
        },
        "presignedUrl": {
            "type": "apiKey", "in": "query", "name": "sig",
            "description": "A presigned URL: for one method on one object, valid for an hour. Send no token with it.",
        },
        "metricsToken": bearer("", "The operator's `metrics_token`. Without one, only loopback is answered."),
    })
}

/// Collects the schemas that operations refer to. Types that are read and types that are written differ in their
/// required fields, so there are two generators; the names of both are in one namespace.
struct Schemas {
    requests: SchemaGenerator,
    answers: SchemaGenerator,
}

impl Schemas {
    fn new() -> Self {
        let generator = |contract| {
            let mut settings = SchemaSettings::draft2020_12();
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
            settings.contract = contract;
            settings.into_generator()
        };
        Self {
            requests: generator(Contract::Deserialize),
            answers: generator(Contract::Serialize),
        }
    }

    fn operation(&mut self, operation: &Description) -> Value {
        let mut described = json!({
            "tags": [operation.tag],
            "summary": operation.summary,
            "operationId": operation_id(operation),
            "security": security(operation.access),
        });
        if !operation.parameters.is_empty() {
            described["parameters"] = operation
                .parameters
                .iter()
                .map(|parameter| {
                    json!({
                        "name": parameter.name,
                        "in": if parameter.place == Place::Path { "path" } else { "query" },
                        "required": parameter.place != Place::OptionalQuery,
                        "description": parameter.description,
                        "schema": (parameter.schema)(&mut self.requests),
                    })
                })
                .collect();
        }
        match operation.body {
            Body::Nothing => {}
            Body::Value(schema, bytes_max) => {
                let schema = Value::from(schema(&mut self.requests));
                described["requestBody"] = json!({
                    "required": true,
                    "description": format!("At most {bytes_max} bytes."),
                    "content": value_content(schema),
                });
            }
            Body::Form(fields) => {
                let properties: Map<String, Value> = fields
                    .iter()
                    .map(|(name, description)| {
                        let property = json!({ "type": "string", "description": description });
                        ((*name).to_owned(), property)
                    })
                    .collect();
                described["requestBody"] = json!({
                    "required": true,
                    "description": format!("At most {} bytes.", limits::BODY_BYTES_MAX),
                    "content": { MEDIA_TYPE_FORM: { "schema": { "type": "object", "properties": properties } } },
                });
            }
            Body::Object => {
                described["requestBody"] = json!({
                    "required": true,
                    "description": "Exactly as many bytes as the URL was signed for.",
                    "content": { "application/octet-stream": {} },
                });
            }
        }
        let mut responses = Map::new();
        for answer in &operation.answers {
            responses.insert(answer.status.to_string(), self.answer(answer));
        }
        for (status, codes) in by_status(&operation.all_problems()) {
            let problem = self.problem(status, &codes);
            let response = responses.entry(status.to_string()).or_insert_with(|| json!({}));
            // A status may have an answer of its own beside the problems.
            also(response, problem);
        }
        described["responses"] = responses.into();
        described
    }

    fn answer(&mut self, answer: &Answer) -> Value {
        let mut described = json!({
            "description": answer.description,
            "headers": header_references(["X-Request-Id", "Cache-Control"].iter().chain(answer.headers)),
        });
        match answer.content {
            Content::Nothing => {}
            Content::Value(schema) => described["content"] = value_content(schema(&mut self.answers).into()),
            Content::Json(schema) => {
                let schema = Value::from(schema(&mut self.answers));
                described["content"] = json!({ MEDIA_TYPE_JSON: { "schema": schema } });
            }
            Content::Other(media_type) => described["content"] = json!({ media_type: {} }),
            Content::OneOf(media_types) => {
                let contents = media_types
                    .iter()
                    .map(|media_type| ((*media_type).to_owned(), json!({})));
                described["content"] = Value::Object(contents.collect());
            }
        }
        described
    }

    fn problem(&mut self, status: u16, codes: &[ProblemCode]) -> Value {
        let problem = Value::from(self.answers.subschema_for::<Problem>());
        let mut headers = vec!["X-Request-Id", "Cache-Control"];
        match status {
            401 => headers.push("WWW-Authenticate"),
            405 => headers.push("Allow"),
            416 => headers.push("Content-Range"),
            429 | 503 => headers.push("Retry-After"),
            _ => {}
        }
        let meanings: Vec<String> = codes
            .iter()
            .map(|code| format!("`{code}`: {}", lower_first(code.title())))
            .collect();
        let codes: Vec<&str> = codes.iter().map(|code| code.as_str()).collect();
        json!({
            "description": meanings.join("; "),
            "headers": header_references(headers.iter()),
            "content": { MEDIA_TYPE_PROBLEM: { "schema": {
                "allOf": [problem],
                "properties": { "code": { "enum": codes }, "status": { "const": status } },
            } } },
        })
    }

    fn finish(mut self) -> Map<String, Value> {
        let mut schemas = self.answers.take_definitions(true);
        schemas.values_mut().for_each(without_null);
        schemas.extend(self.requests.take_definitions(true));
        for (schema, field, keywords) in bounds::bounds() {
            let property = schemas
                .get_mut(schema)
                .and_then(|schema| schema["properties"].get_mut(field));
            if let (Some(Value::Object(property)), Value::Object(keywords)) = (property, keywords) {
                property.extend(keywords);
            }
        }
        schemas
    }
}

/// Adds another answer of the same status: its description, headers and contents.
fn also(response: &mut Value, other: Value) {
    let Value::Object(other) = other else { return };
    for (key, value) in other {
        match (&mut response[&key], value) {
            (Value::String(into), Value::String(text)) => *into = format!("{into}; {text}"),
            (Value::Object(into), Value::Object(more)) => into.extend(more),
            (absent, value) => *absent = value,
        }
    }
}

/// The two forms of one value. A schema can only describe the JSON one.
fn value_content(schema: Value) -> Value {
    json!({ MEDIA_TYPE_JSON: { "schema": schema }, MEDIA_TYPE_CBOR: {} })
}

fn security(access: Access) -> Value {
    match access {
        Access::Anybody => json!([]),
        Access::App => json!([{ "appToken": [] }]),
        Access::Account => json!([{ "accountToken": [] }]),
        // Without one there is an answer, too: the sign-in page.
        Access::Page => json!([{ "pageSession": [] }, {}]),
        Access::PresignedUrl => json!([{ "presignedUrl": [] }]),
        Access::Metrics => json!([{ "metricsToken": [] }, {}]),
    }
}

/// `POST /api/sync/blobs/{hash}` is `post_sync_blobs_hash`, and `GET /account` `get_page_account`.
fn operation_id(operation: &Description) -> String {
    let path = operation.path.strip_prefix("/api").unwrap_or(operation.path);
    let words = path.replace(['{', '}'], "").replace(['/', '.'], "_");
    let kind = if operation.tag == "pages" { "_page" } else { "" };
    format!("{}{kind}{words}", operation.method.as_str().to_ascii_lowercase())
}

fn header_references<'a>(names: impl Iterator<Item = &'a &'a str>) -> Value {
    names
        .map(|name| {
            (
                (*name).to_owned(),
                json!({ "$ref": format!("#/components/headers/{name}") }),
            )
        })
        .collect::<Map<_, _>>()
        .into()
}

fn by_status(codes: &[ProblemCode]) -> Vec<(u16, Vec<ProblemCode>)> {
    let mut groups: Vec<(u16, Vec<ProblemCode>)> = Vec::new();
    for code in codes {
        match groups.iter_mut().find(|(status, _)| *status == code.status()) {
            Some((_, group)) => group.push(*code),
            None => groups.push((code.status(), vec![*code])),
        }
    }
    groups
}

fn lower_first(text: &str) -> String {
    let mut characters = text.chars();
    characters
        .next()
        .map(|first| first.to_lowercase().chain(characters).collect())
        .unwrap_or_default()
}

/// An optional field of an answer is left out, never `null`. In a request both mean the same.
fn without_null(schema: &mut Value) {
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
    for property in properties
        .into_iter()
        .flat_map(Map::values_mut)
        .filter_map(Value::as_object_mut)
    {
        if let Some(Value::Array(types)) = property.get_mut("type") {
            types.retain(|name| name != "null");
            if let [only] = types.as_slice() {
                let only = only.clone();
                property.insert("type".to_owned(), only);
            }
        }
        if let Some(Value::Array(choices)) = property.get_mut("anyOf") {
            choices.retain(|choice| choice["type"] != "null");
            if let [Value::Object(only)] = choices.as_slice() {
                let only = only.clone();
                property.remove("anyOf");
                property.extend(only);
            }
        }
    }
}

/// Corrects derived schemas where they differ from the protocol: a number has a maximum; one of several words is an
/// enumeration; a description has no links into Rust and no example.
fn tidy(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.values_mut().for_each(tidy);
            tidy_schema(object);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

fn tidy_schema(schema: &mut Map<String, Value>) {
    if schema.get("default").is_some_and(Value::is_null) {
        schema.remove("default");
    }
    if let Some(Value::Array(choices)) = schema.get("oneOf")
        && choices.iter().all(|choice| choice["const"].is_string())
    {
        let names: Value = choices.iter().map(|choice| choice["const"].clone()).collect();
        schema.remove("oneOf");
        schema.extend([("type".to_owned(), "string".into()), ("enum".to_owned(), names)]);
    }
    let max = match schema.get("format").and_then(Value::as_str) {
        Some("uint32") => Some(u64::from(u32::MAX)),
        Some("uint64") => Some(u64::MAX),
        Some("uint16") => Some(u64::from(u16::MAX)),
        _ => None,
    };
    if let Some(max) = max {
        schema.remove("format");
        schema.entry("maximum").or_insert_with(|| max.into());
    }
    if let Some(Value::String(description)) = schema.get_mut("description") {
        *description = for_readers(description);
    }
}

/// The documentation of a Rust item without its example, and with names in place of links: ``[`crate::limits::X`]`` and
/// ``[`X`]`` become `X` in backticks.
fn for_readers(text: &str) -> String {
    let text = text.split("# Examples").next().unwrap_or_default();
    let text = text.split("```").next().unwrap_or_default().trim_end();
    text.replace("[`crate::limits::", "`")
        .replace("[`crate::", "`")
        .replace("[`Self::", "`")
        .replace("[`", "`")
        .replace("`]", "`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bound_belongs_to_a_field_that_is_there() {
        let document = crate::api::document_for_tests();
        for (schema, field, _) in bounds::bounds() {
            let property = &document["components"]["schemas"][schema]["properties"][field];
            assert!(
                property.is_object(),
                "{schema}.{field} has a bound, but is not in the document"
            );
        }
    }
}
