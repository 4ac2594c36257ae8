//! `/api/openapi.json` and `/api/docs`: the description of the API, for programs and for people.

use std::sync::Arc;

use axum::{
    Extension,
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, header};
use synckit_protocol::MEDIA_TYPE_JSON;

use crate::{http::ApiError, openapi::Documents};

/// `GET /api/openapi.json`.
pub(super) async fn openapi(Extension(documents): Extension<Arc<Documents>>) -> Response {
    let content_type = HeaderValue::from_static(MEDIA_TYPE_JSON);
    let body = Body::from(documents.made().json.clone());
    ([(header::CONTENT_TYPE, content_type)], body).into_response()
}

/// `GET /api/docs`.
pub(super) async fn page(Extension(documents): Extension<Arc<Documents>>) -> Result<Response, ApiError> {
    let made = documents.made();
    let policy = HeaderValue::from_str(&made.page_policy).map_err(ApiError::internal)?;
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/html; charset=utf-8"),
        ),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    Ok((headers, Body::from(made.page.clone())).into_response())
}
