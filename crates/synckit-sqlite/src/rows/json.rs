//! Values as JSON: `docs/rows.md`, section 2.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value as Json, json};

use super::{
    row_id::RowId,
    value::{FileKind, FileValue, INLINE_BYTES_MAX, Real, Value},
};

/// A JSON value that no writer of this convention makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// A JSON boolean: SQLite has none, so `true` is written as 1.
    #[error("a boolean: SQLite has 1 and 0")]
    Boolean,

    /// A JSON array.
    #[error("an array: SQLite has none")]
    Array,

    /// An integer beyond the signed 64-bit ones, or a float that SQLite does not store: -0.0.
    #[error("a number that SQLite does not store")]
    Number,

    /// An object with another number of fields than one, or with an unknown one.
    #[error("an object that is no value: it has the one field `text`, `blob`, `real`, `row` or `file`")]
    UnknownObject,

    /// The content of the one field is not of its form.
    #[error("the field `{field}` does not have its form")]
    Malformed {
        /// The field of the object.
        field: &'static str,
    },

    /// The text in the object `text` is valid UTF-8, which is written as a string.
    #[error("an object for a text that is valid UTF-8")]
    NotCanonicalText,

    /// The text or blob is longer than an entry holds: [`INLINE_BYTES_MAX`].
    #[error("a text or blob of more than {INLINE_BYTES_MAX} bytes that is no file")]
    TooLong,

    /// The file is short enough to be in the entry.
    #[error("a file of at most {INLINE_BYTES_MAX} bytes")]
    FileTooShort,
}

impl Value {
    /// The value in an entry. A text or blob longer than [`INLINE_BYTES_MAX`] is written as [`Value::outlined`] has it.
    ///
    /// # Examples
    /// ```
    /// use serde_json::json;
    /// use synckit_sqlite::rows::Value;
    ///
    /// assert_eq!(Value::text("Milk").to_json(), json!("Milk"));
    /// assert_eq!(Value::Blob(vec![1, 2, 255]).to_json(), json!({"blob": "AQL_"}));
    /// assert_eq!(Value::from_json(&json!({"real": "-inf"})), Ok(Value::real(f64::NEG_INFINITY)));
    /// ```
    pub fn to_json(&self) -> Json {
        match self {
            Self::Null => Json::Null,
            Self::Integer(number) => json!(number),
            Self::Real(real) if real.get().is_infinite() => infinity(*real),
            Self::Real(real) => json!(real.get()),
            Self::Text(bytes) | Self::Blob(bytes) if bytes.len() > INLINE_BYTES_MAX => {
                self.clone().outlined().to_json()
            }
            Self::Text(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => json!(text),
                Err(_) => json!({"text": URL_SAFE_NO_PAD.encode(bytes)}),
            },
            Self::Blob(bytes) => json!({"blob": URL_SAFE_NO_PAD.encode(bytes)}),
            Self::Row(id) => json!({"row": id.as_str()}),
            Self::File(file) => json!({"file": file_fields(file)}),
        }
    }

    /// Reads a value of an entry.
    ///
    /// # Errors
    /// [`ValueError`] for everything that [`to_json`](Self::to_json) does not write.
    pub fn from_json(json: &Json) -> Result<Self, ValueError> {
        match json {
            Json::Null => Ok(Self::Null),
            Json::Bool(_) => Err(ValueError::Boolean),
            Json::Array(_) => Err(ValueError::Array),
            Json::Number(number) => from_number(number),
            Json::String(text) => inline(text.as_bytes().to_vec()).map(Self::Text),
            Json::Object(fields) => from_object(fields),
        }
    }
}

fn infinity(real: Real) -> Json {
    json!({"real": if real.get() > 0.0 { "inf" } else { "-inf" }})
}

fn file_fields(file: &FileValue) -> Json {
    let kind = match file.kind {
        FileKind::Text => "text",
        FileKind::Blob => "blob",
    };
    json!({"sha256": file.hash.to_string(), "size": file.size_bytes, "as": kind})
}

fn from_number(number: &serde_json::Number) -> Result<Value, ValueError> {
    if number.is_f64() {
        let float = number.as_f64().filter(|float| float.is_finite());
        let float = float.filter(|float| *float != 0.0 || float.is_sign_positive());
        return float.map(Value::real).ok_or(ValueError::Number);
    }
    number.as_i64().map(Value::Integer).ok_or(ValueError::Number)
}

fn from_object(fields: &Map<String, Json>) -> Result<Value, ValueError> {
    let mut fields = fields.iter();
    let (Some((name, content)), None) = (fields.next(), fields.next()) else {
        return Err(ValueError::UnknownObject);
    };
    match name.as_str() {
        "text" => from_text(&bytes(content, "text")?),
        "blob" => inline(bytes(content, "blob")?).map(Value::Blob),
        "real" => from_infinity(content),
        "row" => Ok(Value::Row(RowId::new(text(content, "row")?))),
        "file" => from_file(content).map(Value::File),
        _ => Err(ValueError::UnknownObject),
    }
}

fn text<'a>(content: &'a Json, field: &'static str) -> Result<&'a str, ValueError> {
    content.as_str().ok_or(ValueError::Malformed { field })
}

fn bytes(content: &Json, field: &'static str) -> Result<Vec<u8>, ValueError> {
    URL_SAFE_NO_PAD
        .decode(text(content, field)?)
        .map_err(|_| ValueError::Malformed { field })
}

fn inline(bytes: Vec<u8>) -> Result<Vec<u8>, ValueError> {
    (bytes.len() <= INLINE_BYTES_MAX)
        .then_some(bytes)
        .ok_or(ValueError::TooLong)
}

fn from_text(bytes: &[u8]) -> Result<Value, ValueError> {
    match std::str::from_utf8(bytes) {
        Ok(_) => Err(ValueError::NotCanonicalText),
        Err(_) => inline(bytes.to_vec()).map(Value::Text),
    }
}

fn from_infinity(content: &Json) -> Result<Value, ValueError> {
    match text(content, "real")? {
        "inf" => Ok(Value::real(f64::INFINITY)),
        "-inf" => Ok(Value::real(f64::NEG_INFINITY)),
        _ => Err(ValueError::Malformed { field: "real" }),
    }
}

fn from_file(content: &Json) -> Result<FileValue, ValueError> {
    let malformed = ValueError::Malformed { field: "file" };
    let fields = content
        .as_object()
        .filter(|fields| fields.len() == 3)
        .ok_or(malformed)?;
    let hash = fields.get("sha256").and_then(Json::as_str);
    let size_bytes = fields.get("size").filter(|size| !size.is_f64()).and_then(Json::as_u64);
    let kind = match fields.get("as").and_then(Json::as_str) {
        Some("text") => FileKind::Text,
        Some("blob") => FileKind::Blob,
        _ => return Err(malformed),
    };
    let file = FileValue {
        hash: hash.and_then(|hash| hash.parse().ok()).ok_or(malformed)?,
        size_bytes: size_bytes.ok_or(malformed)?,
        kind,
    };
    (file.size_bytes > INLINE_BYTES_MAX as u64)
        .then_some(file)
        .ok_or(ValueError::FileTooShort)
}
