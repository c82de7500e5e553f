//! Makes a request from a head that the strict reader accepted.

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, Request, Uri, Version};

use super::request_head::{AcceptedHead, FieldSpan};

/// What a connection needs to know about a request to answer it and to continue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    /// The method is HEAD: its answer has no body.
    pub(super) is_head: bool,
    /// HTTP/1.0.
    pub(super) is_old: bool,
    /// The client allows further requests on this connection.
    pub(super) keep_alive: bool,
    /// The client waits for `100 Continue` before it sends the body.
    pub(super) awaits_continue: bool,
}

/// Writes the head in `bytes` into `request`. `None` if the `http` crate refuses it, which cannot happen to a head that the
/// strict reader accepted.
pub(super) fn write<B>(head: &AcceptedHead, bytes: &Bytes, request: &mut Request<B>) -> Option<Facts> {
    let method = Method::from_bytes(head.method.of(bytes)).ok()?;
    let mut facts = Facts {
        is_head: method == Method::HEAD,
        is_old: head.is_old,
        keep_alive: !head.is_old,
        awaits_continue: false,
    };
    *request.method_mut() = method;
    *request.uri_mut() = Uri::from_maybe_shared(bytes.slice(head.target.range())).ok()?;
    *request.version_mut() = if head.is_old { Version::HTTP_10 } else { Version::HTTP_11 };
    let headers = request.headers_mut();
    headers.reserve(head.fields.len());
    let mut closes = false;
    for field in &head.fields {
        let (name, value) = named(field, bytes)?;
        match name {
            header::CONNECTION => {
                closes |= names(&value, "close");
                facts.keep_alive = !closes && (facts.keep_alive || names(&value, "keep-alive"));
            }
            header::EXPECT => {
                facts.awaits_continue = !head.is_old && value.as_bytes().eq_ignore_ascii_case(b"100-continue");
            }
            _ => {}
        }
        headers.append(name, value);
    }
    Some(facts)
}

fn named(field: &FieldSpan, bytes: &Bytes) -> Option<(HeaderName, HeaderValue)> {
    let name = HeaderName::from_bytes(field.name.of(bytes)).ok()?;
    let value = HeaderValue::from_maybe_shared(bytes.slice(field.value.range())).ok()?;
    Some((name, value))
}

/// Whether a list of options contains this one.
pub(super) fn names(value: &HeaderValue, option: &str) -> bool {
    value.as_bytes().split(|byte| *byte == b',').any(|part| part.trim_ascii().eq_ignore_ascii_case(option.as_bytes()))
}
