//! Checks that a parsed request is exactly one message for one host.
//!
//! For HTTP/1 the strict reader ([`super::h1::RequestReader`]) has already checked this and more on the raw bytes.
//! For HTTP/2 this is the only check: the request is sent on as HTTP/1.1, and must be one message for one host
//! there, too (contract §7).

use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderValue, TRANSFER_ENCODING, VIA};
use http::request::Parts;
use http::uri::Authority;
use http::{Method, Version};

use super::fault::MessageFault;
use super::fields::framing_field;
use super::h1::grammar::{are_in_target, is_chunked, is_host};

/// What the fields of a head say about the message itself, collected in one pass.
#[derive(Default)]
pub(crate) struct FramingHeaders<'h> {
    /// How large the header section is, in bytes, as HTTP/1.1 writes it.
    pub(crate) section_bytes: usize,
    host: FirstAndCount<'h>,
    coding: FirstAndCount<'h>,
    length: FirstAndCount<'h>,
    /// There is an `Expect` other than `100-continue`.
    pub(crate) expects_more: bool,
    /// There is a `Connection`.
    pub(crate) connection: bool,
    /// There is a `Via`.
    pub(crate) via: bool,
}

/// The first value of a field, and the number of its values.
#[derive(Default)]
struct FirstAndCount<'h>(Option<&'h HeaderValue>, usize);

impl<'h> FirstAndCount<'h> {
    fn add(&mut self, value: &'h HeaderValue) {
        self.0.get_or_insert(value);
        self.1 += 1;
    }
}

impl<'h> FramingHeaders<'h> {
    /// Collects them from these fields.
    pub(crate) fn of(headers: &'h HeaderMap) -> Self {
        let mut framing = Self::default();
        for (name, value) in headers {
            // Each line also has a colon, a space and a line end.
            framing.section_bytes += name.as_str().len() + value.len() + 4;
            match *name {
                HOST => framing.host.add(value),
                TRANSFER_ENCODING => framing.coding.add(value),
                CONTENT_LENGTH => framing.length.add(value),
                CONNECTION => framing.connection = true,
                VIA => framing.via = true,
                EXPECT => framing.expects_more |= !value.as_bytes().eq_ignore_ascii_case(b"100-continue"),
                _ => {}
            }
        }
        framing
    }
}

/// Checks an HTTP/2 request. Accepts any HTTP/1 request, because the strict reader has refused the same faults in
/// every mode.
///
/// # Errors
/// What is wrong with the request.
pub(crate) fn judge_http_2(parts: &Parts) -> Result<(), MessageFault> {
    if parts.version == Version::HTTP_2 { judge(parts, &FramingHeaders::of(&parts.headers)) } else { Ok(()) }
}

/// Checks a request with these framing headers.
///
/// # Errors
/// What is wrong with the request.
pub(crate) fn judge(parts: &Parts, framing: &FramingHeaders<'_>) -> Result<(), MessageFault> {
    if parts.method == Method::CONNECT {
        return Err(MessageFault::Tunnel);
    }
    judge_host(parts, framing)?;
    judge_framing(framing)?;
    if parts.version == Version::HTTP_2 { judge_bytes(parts) } else { Ok(()) }
}

/// There must be exactly one host. In HTTP/2 it is the `:authority`, or `Host` if a proxy translated the request from HTTP/1.1
/// (RFC 9113 §8.3.1), or both if they are equal.
fn judge_host(parts: &Parts, framing: &FramingHeaders<'_>) -> Result<(), MessageFault> {
    let FirstAndCount(host, hosts) = framing.host;
    let authority = parts.uri.authority().map(Authority::as_str);
    let by_http_2 = parts.version == Version::HTTP_2;
    match (host, authority) {
        _ if hosts > 1 => Err(MessageFault::SeveralHosts),
        (_, Some(authority)) if by_http_2 && !is_host(authority.as_bytes()) => Err(MessageFault::OddAuthority),
        (Some(host), None) if by_http_2 && !is_host(host.as_bytes()) => Err(MessageFault::OddHost),
        (None, Some(_)) if by_http_2 => Ok(()),
        (None, None) if by_http_2 => Err(MessageFault::NoAuthority),
        (None, _) => Err(MessageFault::NoHost),
        (Some(host), Some(authority)) if !authority.as_bytes().eq_ignore_ascii_case(host.as_bytes()) => {
            Err(MessageFault::OtherHost)
        }
        (Some(_), _) => Ok(()),
    }
}

/// There must be one way to find the end of the body. hyper accepts more: any coding that ends in `chunked`, even with a
/// length.
fn judge_framing(framing: &FramingHeaders<'_>) -> Result<(), MessageFault> {
    let FirstAndCount(_, lengths) = framing.length;
    match framing.coding {
        FirstAndCount(None, _) if lengths <= 1 => Ok(()),
        FirstAndCount(None, _) => Err(MessageFault::SeveralLengths),
        FirstAndCount(Some(_), 2..) => Err(MessageFault::SeveralCodings),
        FirstAndCount(Some(_), _) if lengths > 0 => Err(MessageFault::LengthAndCoding),
        FirstAndCount(Some(coding), _) if is_chunked(coding.as_bytes()) => Ok(()),
        FirstAndCount(Some(_), _) => Err(MessageFault::OddCoding),
    }
}

/// Checks the bytes of the target and of field names, which are written to HTTP/1.1 unchanged.
fn judge_bytes(parts: &Parts) -> Result<(), MessageFault> {
    if !are_in_target(parts.uri.path().as_bytes(), parts.uri.query().map(str::as_bytes)) {
        return Err(MessageFault::Target);
    }
    if parts.headers.keys().any(|name| framing_field(name.as_str().as_bytes()).is_err()) {
        return Err(MessageFault::FieldAlias);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn over_http_2_a_host_without_an_authority_is_judged_like_one() {
        for (uri, host, says) in [
            ("/", Some("crm.example"), Ok(())),
            ("/", Some("u@a"), Err(MessageFault::OddHost)),
            ("/", Some("a/b"), Err(MessageFault::OddHost)),
            ("/", None, Err(MessageFault::NoAuthority)),
            ("http://crm.example/", None, Ok(())),
            ("http://crm.example/", Some("other.example"), Err(MessageFault::OtherHost)),
        ] {
            let request = Request::builder().version(Version::HTTP_2).uri(uri);
            let request = host.into_iter().fold(request, |request, host| request.header(HOST, host));
            let parts = request.body(()).unwrap().into_parts().0;
            assert_eq!(judge_http_2(&parts), says, "{uri} {host:?}");
        }
    }
}
