//! Uploads in parts to a bucket: multipart uploads, in which the store keeps the parts until they are joined.
//!
//! A URL for a part is signed with its number, exact length and SHA-256. The store lists the SHA-256 of each part, and keeps the
//! hash of them all with the object.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{StatusCode, header};
use quick_xml::{Writer, events::BytesText};
use rusty_s3::{
    Method, S3Action,
    actions::{AbortMultipartUpload, UploadPart},
    signing::sign,
};
use serde::{Deserialize, de::DeserializeOwned};
use synckit_protocol::{ObjectKey, SealedHash, limits::UPLOAD_PARTS_MAX, wire::UnixSeconds};
use url::Url;

use super::{
    Bucket, BucketError, StoredPart,
    bucket::{CHECKSUM, OWN_URL, parsed_hash, timestamp, unreachable},
    parts::hash_of_parts,
};

/// The longest answer of a store that is read.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// The longest name of an upload. Those of stores have up to some 150 bytes.
const MULTIPART_ID_BYTES_MAX: usize = 1024;

/// A part that a store lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketPart {
    /// What is known of a part in either place.
    pub stored: StoredPart,
    /// The store's own mark of it, which joining repeats.
    etag: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Created {
    upload_id: String,
}

#[derive(Deserialize)]
struct PartList {
    #[serde(rename = "Part", default)]
    parts: Vec<ListedPart>,
}

#[derive(Deserialize)]
struct ListedPart {
    #[serde(rename = "PartNumber")]
    number: u32,
    #[serde(rename = "ETag")]
    etag: String,
    #[serde(rename = "Size")]
    size: u64,
    #[serde(rename = "ChecksumSHA256")]
    hash: Option<String>,
}

#[derive(Deserialize)]
struct UploadList {
    #[serde(rename = "Upload", default)]
    uploads: Vec<ListedUpload>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListedUpload {
    key: String,
    upload_id: String,
}

impl Bucket {
    /// Begins an upload in parts; returns the store's name for it.
    ///
    /// # Errors
    /// [`BucketError`].
    pub async fn begin_parts(&self, key: ObjectKey, now: UnixSeconds) -> Result<String, BucketError> {
        // With it the store compares the SHA-256 of each part, lists it, and keeps one of the object.
        let algorithm = ("x-amz-checksum-algorithm", "SHA256");
        let object = self.bucket.object_url(&self.key(key));
        let url = self.own_url(Method::Post, object, &[("uploads", "")], &[algorithm], now);
        let request = self.http.post(url).header(algorithm.0, algorithm.1);
        let created: Created = document(request).await?;
        if created.upload_id.is_empty() || created.upload_id.len() > MULTIPART_ID_BYTES_MAX {
            return Err(BucketError::Answer);
        }
        Ok(created.upload_id)
    }

    /// A URL for a `PUT` of one part, with its number, size and hash, and the headers that the URL is signed with.
    pub fn part_url(
        &self,
        key: ObjectKey,
        multipart_id: &str,
        (number, size, hash): (u32, u64, SealedHash),
        now: UnixSeconds,
        valid: Duration,
    ) -> (String, BTreeMap<String, String>) {
        let key = self.key(key);
        // A number that no part has gives a URL that no store accepts.
        let number = u16::try_from(number).unwrap_or(0);
        let mut action = UploadPart::new(&self.bucket, Some(&self.credentials), &key, number, multipart_id);
        let headers = BTreeMap::from([
            (header::CONTENT_LENGTH.as_str().to_owned(), size.to_string()),
            (CHECKSUM.to_owned(), STANDARD.encode(hash.as_bytes())),
        ]);
        for (name, value) in &headers {
            action.headers_mut().insert(name.clone(), value.clone());
        }
        (action.sign_with_time(valid, &timestamp(now)).into(), headers)
    }

    /// The parts that the store has, in order; `None` if it has no such upload. A part without a hash does not count.
    ///
    /// # Errors
    /// [`BucketError`].
    pub async fn parts(
        &self,
        key: ObjectKey,
        multipart_id: &str,
        now: UnixSeconds,
    ) -> Result<Option<Vec<BucketPart>>, BucketError> {
        let object = self.bucket.object_url(&self.key(key));
        let url = self.own_url(Method::Get, object, &[("uploadId", multipart_id)], &[], now);
        let list: PartList = match document(self.http.get(url)).await {
            Err(BucketError::Status(404)) => return Ok(None),
            other => other?,
        };
        let known = list.parts.into_iter().filter_map(|part| {
            let stored = StoredPart {
                number: part.number,
                size: part.size,
                hash: part.hash.as_deref().and_then(parsed_hash)?,
            };
            Some(BucketPart {
                stored,
                etag: part.etag,
            })
        });
        let mut parts: Vec<BucketPart> = known.take(UPLOAD_PARTS_MAX as usize).collect();
        parts.sort_unstable_by_key(|part| part.stored.number);
        Ok(Some(parts))
    }

    /// Makes an object of these parts. Whether the store did is for [`Bucket::object`] to say: some answer with success
    /// before they know. Succeeds if there is no such upload.
    ///
    /// # Errors
    /// [`BucketError`].
    pub async fn join_parts(
        &self,
        key: ObjectKey,
        multipart_id: &str,
        parts: &[BucketPart],
        now: UnixSeconds,
    ) -> Result<(), BucketError> {
        let object = self.bucket.object_url(&self.key(key));
        let url = self.own_url(Method::Post, object, &[("uploadId", multipart_id)], &[], now);
        let request = self.http.post(url).body(join_document(parts)?);
        let (status, _) = answer(request).await?;
        match status {
            StatusCode::NOT_FOUND => Ok(()),
            status if status.is_success() => Ok(()),
            status => Err(BucketError::Status(status.as_u16())),
        }
    }

    /// Makes an object of the parts of an upload, if they are there and have this hash.
    ///
    /// # Errors
    /// [`BucketError`].
    pub async fn join(
        &self,
        key: ObjectKey,
        multipart_id: &str,
        (size, hash): (u64, SealedHash),
        now: UnixSeconds,
    ) -> Result<(), BucketError> {
        let parts = self.parts(key, multipart_id, now).await?.unwrap_or_default();
        let stored: Vec<StoredPart> = parts.iter().map(|part| part.stored).collect();
        if hash_of_parts(size, &stored) == Some(hash) {
            self.join_parts(key, multipart_id, &parts, now).await?;
        }
        Ok(())
    }

    /// Ends every upload in parts of an object: also one whose name nobody noted, because the server died when the store had
    /// answered.
    ///
    /// # Errors
    /// [`BucketError`].
    pub(super) async fn remove_parts(&self, key: ObjectKey, now: UnixSeconds) -> Result<(), BucketError> {
        let key = self.key(key);
        let query = [("prefix", key.as_str()), ("uploads", "")];
        let url = self.own_url(Method::Get, self.bucket.base_url().clone(), &query, &[], now);
        let list: UploadList = document(self.http.get(url)).await?;
        for upload in list.uploads.iter().filter(|upload| upload.key == key) {
            let action = AbortMultipartUpload::new(&self.bucket, Some(&self.credentials), &key, &upload.upload_id);
            let url = action.sign_with_time(OWN_URL, &timestamp(now));
            match answer(self.http.delete(url)).await?.0 {
                StatusCode::NOT_FOUND => {}
                status if status.is_success() => {}
                status => return Err(BucketError::Status(status.as_u16())),
            }
        }
        Ok(())
    }

    /// The URL of a request that the node makes itself. Query and headers are in order of their names.
    fn own_url(
        &self,
        method: Method,
        url: Url,
        query: &[(&str, &str)],
        headers: &[(&str, &str)],
        now: UnixSeconds,
    ) -> Url {
        sign(
            &timestamp(now),
            method,
            url,
            self.credentials.key(),
            self.credentials.secret(),
            self.credentials.token(),
            self.bucket.region(),
            OWN_URL.as_secs(),
            query.iter().copied(),
            headers.iter().copied(),
        )
    }
}

/// What joins these parts. A store that keeps checksums wants each of them named again.
fn join_document(parts: &[BucketPart]) -> Result<Vec<u8>, BucketError> {
    let mut writer = Writer::new(Vec::new());
    let written = writer
        .create_element("CompleteMultipartUpload")
        .with_attribute(("xmlns", "http://s3.amazonaws.com/doc/2006-03-01/"))
        .write_inner_content(|writer| {
            for part in parts {
                let number = part.stored.number.to_string();
                let hash = STANDARD.encode(part.stored.hash.as_bytes());
                writer.create_element("Part").write_inner_content(|writer| {
                    for (name, text) in [
                        ("PartNumber", number.as_str()),
                        ("ETag", part.etag.as_str()),
                        ("ChecksumSHA256", hash.as_str()),
                    ] {
                        writer.create_element(name).write_text_content(BytesText::new(text))?;
                    }
                    Ok(())
                })?;
            }
            Ok(())
        });
    written.map_err(|_| BucketError::Answer)?;
    Ok(writer.into_inner())
}

/// Sends a request whose answer is a document.
async fn document<T: DeserializeOwned>(request: reqwest::RequestBuilder) -> Result<T, BucketError> {
    let (status, body) = answer(request).await?;
    if !status.is_success() {
        return Err(BucketError::Status(status.as_u16()));
    }
    let text = std::str::from_utf8(&body).map_err(|_| BucketError::Answer)?;
    quick_xml::de::from_str(text).map_err(|_| BucketError::Answer)
}

async fn answer(request: reqwest::RequestBuilder) -> Result<(StatusCode, Bytes), BucketError> {
    let mut response = request.send().await.map_err(unreachable)?;
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(unreachable)? {
        if body.len() + piece.len() > ANSWER_BYTES_MAX {
            return Err(BucketError::Answer);
        }
        body.extend_from_slice(&piece);
    }
    Ok((response.status(), body.into()))
}
