//! `GET /status` and `GET /status.json` on the admin listener (contract §10).

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, REFRESH};
use http::{Response, StatusCode, Uri};
use http_body_util::Full;

use super::status::StatusSource;
use crate::plain;
use crate::status;

/// How often the page may load itself again, in seconds.
const REFRESH_SECONDS: std::ops::RangeInclusive<u32> = 1..=3600;

/// The page, or what is wrong with the query.
pub(super) fn page(uri: &Uri, source: &StatusSource) -> Response<Full<Bytes>> {
    let refresh = match refresh(uri.query()) {
        Ok(refresh) => refresh,
        Err(()) => {
            let wrong = "The query of /status is nothing, or refresh=SECONDS from 1 to 3600.\n";
            return answer(StatusCode::BAD_REQUEST, "text/plain; charset=utf-8", wrong.into());
        }
    };
    let mut page = answer(StatusCode::OK, "text/html; charset=utf-8", source.status().page(refresh).into());
    let fields = page.headers_mut();
    fields.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(status::CONTENT_SECURITY_POLICY));
    fields.insert(HeaderName::from_static("referrer-policy"), HeaderValue::from_static("no-referrer"));
    if let Some(seconds) = refresh {
        fields.insert(REFRESH, seconds.into());
    }
    page
}

/// The same as JSON.
pub(super) fn json(source: &StatusSource) -> Response<Full<Bytes>> {
    answer(StatusCode::OK, "application/json", plain::json_line(&source.status().json()).into())
}

fn refresh(query: Option<&str>) -> Result<Option<u32>, ()> {
    let Some(query) = query.filter(|query| !query.is_empty()) else { return Ok(None) };
    let seconds = query.strip_prefix("refresh=").filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let seconds = seconds.and_then(|text| text.parse().ok()).filter(|seconds| REFRESH_SECONDS.contains(seconds));
    seconds.map(Some).ok_or(())
}

fn answer(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    fields.insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
    response
}
