//! Every answer that a test gets is held against the OpenAPI document: operation, status, headers, content type, fields,
//! problem code. And every request that was answered well, against what the document says may be sent.

use http::{HeaderMap, Method, StatusCode};
use minicbor::{Decoder, data::Type};
use serde_json::{Map, Value};
use tokio::sync::OnceCell;

use crate::support::World;

/// What marks bytes of a CBOR body, which JSON would show as text.
const BYTES: &str = "\u{0}bytes";

/// The document, as a server of this program gives it out.
pub(crate) async fn document() -> &'static Value {
    static DOCUMENT: OnceCell<Value> = OnceCell::const_new();
    DOCUMENT
        .get_or_init(async || {
            let mut world = World::start().await;
            let answer = reqwest::get(format!("{}/api/openapi.json", world.url)).await.unwrap();
            let document = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
            world.stop().await.unwrap();
            document
        })
        .await
}

/// An operation of the document.
#[derive(Debug, Clone)]
pub(crate) struct DocumentedOperation<'a> {
    pub(crate) method: Method,
    pub(crate) path: &'a str,
    pub(crate) value: &'a Value,
}

pub(crate) fn operations(document: &Value) -> Vec<DocumentedOperation<'_>> {
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, value) in item.as_object().unwrap() {
            let method = method.to_uppercase().parse().unwrap();
            operations.push(DocumentedOperation { method, path, value });
        }
    }
    operations
}

/// The template that a path fits, if there is one. Literal parts go before variable ones, as in the router.
fn template_of<'a>(document: &'a Value, path: &str) -> Option<&'a str> {
    let parts: Vec<&str> = path.split('/').collect();
    let mut fitting: Vec<&str> = document["paths"]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .filter(|template| {
            let template: Vec<&str> = template.split('/').collect();
            let fits = |(part, wanted): (&&str, &&str)| part == wanted || (wanted.starts_with('{') && !part.is_empty());
            template.len() == parts.len() && parts.iter().zip(&template).all(fits)
        })
        .collect();
    fitting.sort_by_key(|template| template.matches('{').count());
    fitting.first().copied()
}

/// A request, as far as it matters here.
pub(crate) struct Sent {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) content_type: String,
    pub(crate) body: Vec<u8>,
}

/// Holds an answer against the document.
#[track_caller]
pub(crate) fn check(document: &Value, sent: &Sent, status: StatusCode, headers: &HeaderMap, body: &[u8]) {
    let what = format!("{} {} -> {status}", sent.method, sent.path);
    let wanted = if sent.method == Method::HEAD {
        Method::GET
    } else {
        sent.method.clone()
    };
    let operation = template_of(document, &sent.path).map(|template| {
        let item = &document["paths"][template];
        (item.is_object(), &item[wanted.as_str().to_lowercase()])
    });
    let operation = match operation {
        None => {
            return assert_eq!(
                status,
                StatusCode::NOT_FOUND,
                "{what}: a route that is not in the document"
            );
        }
        Some((_, operation)) if operation.is_null() => {
            let problem = "a method that is not in the document: describe it in api/routes.rs";
            return assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{what}: {problem}");
        }
        Some((_, operation)) => operation,
    };
    let response = &operation["responses"][status.as_str()];
    assert!(
        response.is_object(),
        "{what}: the document has no such status for this operation: name the problem in api/routes.rs\n{}",
        String::from_utf8_lossy(body)
    );
    for (name, header) in response["headers"].as_object().unwrap() {
        let header = resolve(document, header);
        assert!(
            header["required"] != true || headers.contains_key(name),
            "{what}: no {name}"
        );
    }
    if sent.method == Method::HEAD {
        return;
    }
    let content_type = headers.get("content-type").map_or("", |value| value.to_str().unwrap());
    let essence = content_type.split(';').next().unwrap();
    match response["content"].as_object() {
        None => assert!(
            body.is_empty(),
            "{what}: a body where the document has none: {content_type}"
        ),
        Some(content) => {
            let found = content
                .iter()
                .find(|(name, _)| name.split(';').next() == Some(essence))
                .unwrap_or_else(|| panic!("{what}: {content_type} is not in the document"));
            // CBOR has no schema of its own: it carries the fields of the JSON form.
            let schema = match essence {
                "application/cbor" => &content["application/json"]["schema"],
                _ => &found.1["schema"],
            };
            if let Some(value) = value_of(essence, body) {
                holds(document, schema, &value, Strictness::Answer).unwrap_or_else(|error| panic!("{what}: {error}"));
            }
        }
    }
    let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
    let essence = sent.content_type.split(';').next().unwrap().to_lowercase();
    if status.is_success()
        && schema.is_object()
        && let Some(value) = value_of(&essence, &sent.body)
    {
        holds(document, schema, &value, Strictness::Request)
            .unwrap_or_else(|error| panic!("{what}: the request was taken, but the document says: {error}"));
    }
}

fn value_of(essence: &str, body: &[u8]) -> Option<Value> {
    match essence {
        "application/json" | "application/problem+json" => Some(serde_json::from_slice(body).unwrap()),
        "application/cbor" => Some(cbor_value(&mut Decoder::new(body))),
        _ => None,
    }
}

/// A CBOR value as JSON, with a mark where there are bytes.
fn cbor_value(decoder: &mut Decoder<'_>) -> Value {
    match decoder.datatype().unwrap() {
        Type::Bytes => {
            decoder.bytes().unwrap();
            BYTES.into()
        }
        Type::String => decoder.str().unwrap().into(),
        Type::Bool => decoder.bool().unwrap().into(),
        Type::Array | Type::ArrayIndef => {
            let mut items = Vec::new();
            let length = decoder.array().unwrap();
            while !at_end(decoder, length, items.len()) {
                items.push(cbor_value(decoder));
            }
            items.into()
        }
        Type::Map | Type::MapIndef => {
            let mut fields = Map::new();
            let length = decoder.map().unwrap();
            while !at_end(decoder, length, fields.len()) {
                let name = decoder.str().unwrap().to_owned();
                let value = cbor_value(decoder);
                fields.insert(name, value);
            }
            fields.into()
        }
        _ => decoder.u64().unwrap().into(),
    }
}

fn at_end(decoder: &mut Decoder<'_>, length: Option<u64>, read: usize) -> bool {
    match length {
        Some(length) => read as u64 == length,
        None if decoder.datatype().unwrap() == Type::Break => {
            decoder.skip().unwrap();
            true
        }
        None => false,
    }
}

/// What a schema refers to, or itself.
pub(crate) fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(reference) => document.pointer(reference.strip_prefix('#').unwrap()).unwrap(),
        None => value,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Strictness {
    /// The server sends nothing that the document does not name.
    Answer,
    /// Clients may send fields that the server ignores.
    Request,
}

/// Whether a value is what a schema says: the keywords that the document uses, but for patterns.
fn holds(document: &Value, schema: &Value, value: &Value, strictness: Strictness) -> Result<(), String> {
    let object = schema.as_object().ok_or("no schema")?;
    let refuse = |reason: &str| Err(format!("{reason}: {value} is not {schema}"));
    for (keyword, wanted) in object {
        let number = |value: &Value| value.as_u64().map(u128::from);
        let length = value.as_str().map(|text| text.chars().count() as u64);
        let in_order = match keyword.as_str() {
            "$ref" => {
                holds(document, resolve(document, schema), value, strictness)?;
                true
            }
            // Whether a field is known is decided where the fields are listed whole.
            "allOf" => wanted
                .as_array()
                .unwrap()
                .iter()
                .all(|part| holds(document, part, value, strictness).is_ok()),
            "anyOf" => wanted
                .as_array()
                .unwrap()
                .iter()
                .any(|choice| holds(document, choice, value, strictness).is_ok()),
            "type" => {
                let is = |name: &Value| match name.as_str().unwrap() {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "integer" => value.is_u64(),
                    "boolean" => value.is_boolean(),
                    "null" => value.is_null(),
                    other => panic!("an unknown type {other}"),
                };
                wanted
                    .as_array()
                    .map_or_else(|| is(wanted), |types| types.iter().any(is))
            }
            "enum" => wanted.as_array().unwrap().contains(value),
            "const" => wanted == value,
            "minimum" => value.is_null() || number(value) >= number(wanted),
            "maximum" => value.is_null() || number(value) <= number(wanted),
            "minLength" => value == BYTES || length >= wanted.as_u64(),
            "maxLength" => value == BYTES || length <= wanted.as_u64(),
            "maxItems" => value.as_array().map(|items| items.len() as u64) <= wanted.as_u64(),
            "items" => {
                for item in value.as_array().into_iter().flatten() {
                    holds(document, wanted, item, strictness)?;
                }
                true
            }
            "required" => wanted
                .as_array()
                .unwrap()
                .iter()
                .all(|name| value.get(name.as_str().unwrap()).is_some()),
            "properties" => {
                for (name, value) in value.as_object().into_iter().flatten() {
                    match wanted.get(name) {
                        Some(property) => holds(document, property, value, strictness)?,
                        None if strictness == Strictness::Answer && !object.contains_key("allOf") => {
                            return refuse(&format!("the field {name} is not in the document"));
                        }
                        None => {}
                    }
                }
                true
            }
            "additionalProperties" => {
                for value in value.as_object().into_iter().flat_map(Map::values) {
                    holds(document, wanted, value, strictness)?;
                }
                true
            }
            "description" | "title" | "format" | "pattern" | "contentEncoding" | "default" => true,
            other => return refuse(&format!("an unknown keyword {other}")),
        };
        if !in_order {
            return refuse(keyword);
        }
    }
    Ok(())
}
