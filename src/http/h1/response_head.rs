//! The head of a response. Pure: bytes go in, a head comes out.
//!
//! 1. A response that could end in two places is refused: otherwise the next request on the connection would get
//!    the rest of it.
//! 2. Fields of the connection, and those that only Saltgate may set, are removed (contract §6).
//! 3. Interim responses (1xx) are skipped, except 101.

use std::mem::MaybeUninit;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::{Response, StatusCode};
use httparse::Header as Field;
use hyper::ext::ReasonPhrase;

use super::grammar::{MAX_FIELDS, is_chunked, number};
use super::response_body::{At, Framing, MalformedResponse};
use crate::http::fields;

/// The most bytes of a head.
const MAX_HEAD: usize = 64 << 10;

/// The head of a response, and what follows it.
#[derive(Debug)]
pub(crate) struct ResponseHead {
    pub(crate) answer: Response<()>,
    pub(crate) body: Framing,
    /// How long the connection may be idle before it is used for another request; zero if it may not.
    pub(crate) lasts: Duration,
}

/// Takes the head of the response out of the bytes that were read; `None` if more must be read first. `to_head` is
/// whether it answers a HEAD request.
pub(crate) fn take(unread: &mut BytesMut, to_head: bool) -> Result<Option<ResponseHead>, MalformedResponse> {
    loop {
        let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let mut parsed = httparse::Response::new(&mut []);
        let parsing = httparse::ParserConfig::default();
        let length = match parsing.parse_response_with_uninit_headers(&mut parsed, unread, &mut fields) {
            Ok(httparse::Status::Complete(length)) if length <= MAX_HEAD => length,
            Ok(httparse::Status::Partial) if unread.len() <= MAX_HEAD => return Ok(None),
            Ok(_) => return Err(MalformedResponse::TooLarge),
            Err(httparse::Error::TooManyHeaders) => return Err(MalformedResponse::TooManyFields),
            Err(_) => return Err(MalformedResponse::Head),
        };
        let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or(MalformedResponse::Head)?;
        if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
            unread.advance(length);
            continue;
        }
        let hop = HopFields::of(parsed.headers, parsed.version == Some(0))?;
        let (body, persists) = hop.what_follows(status, to_head);
        let lasts = if persists { hop.idle() } else { Duration::ZERO };
        let mut answer = Response::new(());
        *answer.status_mut() = status;
        *answer.headers_mut() = relayed(parsed.headers, &hop)?;
        let reason = parsed.reason.unwrap_or_default();
        if status.canonical_reason() != Some(reason) {
            let reason = ReasonPhrase::try_from(reason.to_owned()).map_err(|_| MalformedResponse::Head)?;
            answer.extensions_mut().insert(reason);
        }
        unread.advance(length);
        return Ok(Some(ResponseHead { answer, body, lasts }));
    }
}

/// What the head says about its body and its connection.
#[derive(Default)]
struct HopFields {
    length: Option<u64>,
    is_chunked: bool,
    /// There is a `Connection` field; then the options of it that matter here.
    says_connection: bool,
    keep_alive: bool,
    close: bool,
    is_old: bool,
    /// How many seconds the service keeps the connection, if it says so.
    timeout: Option<u64>,
}

impl HopFields {
    fn of(fields: &[Field<'_>], is_old: bool) -> Result<Self, MalformedResponse> {
        let mut hop = Self { is_old, ..Self::default() };
        for Field { name, value } in fields {
            if CONTENT_LENGTH == **name {
                let length = length(value)?;
                // The same length twice is still one length.
                if hop.length.replace(length).is_some_and(|before| before != length) {
                    return Err(MalformedResponse::Framing);
                }
            } else if TRANSFER_ENCODING == **name {
                // HTTP/1.0 has no codings.
                if hop.is_chunked || is_old || !is_chunked(value.trim_ascii()) {
                    return Err(MalformedResponse::Framing);
                }
                hop.is_chunked = true;
            } else if CONNECTION == **name {
                hop.says_connection = true;
                for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                    hop.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                    hop.close |= option.eq_ignore_ascii_case(b"close");
                }
            } else if name.eq_ignore_ascii_case("keep-alive") {
                let named = timeout(value);
                hop.timeout = hop.timeout.into_iter().chain(named).min();
            }
        }
        Ok(hop)
    }

    fn what_follows(&self, status: StatusCode, to_head: bool) -> (Framing, bool) {
        let has_none = to_head
            || matches!(status, StatusCode::SWITCHING_PROTOCOLS | StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        // A proxy in between may use the length, and see another end.
        let in_doubt = self.is_chunked && self.length.is_some();
        let persists = !self.close && (self.keep_alive || !self.is_old) && !in_doubt;
        match (self.is_chunked, self.length) {
            _ if has_none => (Framing::NOTHING, persists),
            (true, _) => (Framing::Chunked(At::Size), persists),
            (false, Some(length)) => (Framing::Length(length), persists),
            (false, None) => (Framing::UntilClose, false),
        }
    }

    /// How long the connection may be idle: a second less than the service keeps it, so that the service does not
    /// close it while a request is on its way.
    fn idle(&self) -> Duration {
        self.timeout.map_or(Duration::MAX, |seconds| Duration::from_secs(seconds.saturating_sub(1)))
    }
}

/// The `timeout` of a `Keep-Alive`, in seconds; `None` if it has none. An unreadable one counts as zero.
fn timeout(value: &[u8]) -> Option<u64> {
    let parameters = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    let named = parameters.filter_map(|parameter| {
        let (name, rest) = parameter.split_at_checked(b"timeout".len())?;
        let is_longer_name = rest.first().is_some_and(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(byte));
        (name.eq_ignore_ascii_case(b"timeout") && !is_longer_name).then_some(rest)
    });
    named.map(|rest| rest.strip_prefix(b"=").and_then(seconds).unwrap_or(0)).min()
}

/// A number of seconds; one that does not fit into a `u64` means for ever.
fn seconds(digits: &[u8]) -> Option<u64> {
    let are_digits = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    are_digits.then(|| number(digits).unwrap_or(u64::MAX))
}

fn length(value: &[u8]) -> Result<u64, MalformedResponse> {
    number(value.trim_ascii()).ok_or(MalformedResponse::Framing)
}

/// The fields that are passed on to the client.
fn relayed(fields: &[Field<'_>], hop: &HopFields) -> Result<HeaderMap, MalformedResponse> {
    // With room for the fields that are added for the client.
    let mut relayed = HeaderMap::with_capacity(fields.len() + 2);
    // Most responses have no `Connection`.
    let connections = if hop.says_connection { fields } else { &[] };
    let named = || connections.iter().filter(|field| CONNECTION == *field.name).map(|field| field.value);
    for Field { name, value } in fields {
        let ends_here = fields::ends_at_answer(name.as_bytes(), named) || hop.is_chunked && CONTENT_LENGTH == **name;
        if !ends_here {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| MalformedResponse::Head)?;
            relayed.append(name, HeaderValue::from_bytes(value).map_err(|_| MalformedResponse::Head)?);
        }
    }
    Ok(relayed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(head: &str) -> Result<Option<(ResponseHead, String)>, MalformedResponse> {
        let mut unread = BytesMut::from(head.as_bytes());
        Ok(take(&mut unread, false)?.map(|head| (head, String::from_utf8(unread.to_vec()).unwrap())))
    }

    fn one(head: &str) -> ResponseHead {
        read(head).unwrap().unwrap().0
    }

    #[test]
    fn the_head_determines_the_framing_of_the_body() {
        let chunked = || Framing::Chunked(At::Size);
        let rows = [
            ("200 OK", "Content-Length: 3\r\n", Framing::Length(3), true),
            ("200 OK", "Content-Length: 3\r\nContent-Length: 3\r\n", Framing::Length(3), true),
            ("200 OK", "Content-Length: 3\r\nConnection: x, Close\r\n", Framing::Length(3), false),
            ("200 OK", "Transfer-Encoding: Chunked\r\n", chunked(), true),
            ("200 OK", "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", chunked(), false),
            ("200 OK", "", Framing::UntilClose, false),
            ("204 No Content", "", Framing::NOTHING, true),
            ("304 Not Modified", "Content-Length: 3\r\n", Framing::NOTHING, true),
        ];
        for (status, fields, body, persists) in rows {
            let head = one(&format!("HTTP/1.1 {status}\r\n{fields}\r\n"));
            assert_eq!((head.body, !head.lasts.is_zero()), (body, persists), "{status} {fields:?}");
        }
        for (fields, persists) in [("", false), ("Connection: keep-alive\r\n", true)] {
            let head = one(&format!("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n{fields}\r\n"));
            assert_eq!((head.body, !head.lasts.is_zero()), (Framing::Length(1), persists), "HTTP/1.0 {fields:?}");
        }
        let mut to_head = BytesMut::from(&b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"[..]);
        let head = take(&mut to_head, true).unwrap().unwrap();
        assert_eq!(head.body, Framing::NOTHING);
        assert_eq!(head.answer.headers()[CONTENT_LENGTH], "3", "as long as it would be");
    }

    #[test]
    fn a_connection_is_kept_a_second_less_than_the_service_announces() {
        let for_ever = Duration::MAX;
        let seconds = Duration::from_secs;
        for (fields, lasts) in [
            ("", for_ever),
            ("Keep-Alive: timeout=5\r\n", seconds(4)),
            ("keep-alive: max=100, Timeout=5\r\n", seconds(4)),
            ("Keep-Alive: timeout=0\r\n", seconds(0)),
            ("Keep-Alive: timeout=1\r\n", seconds(0)),
            ("Keep-Alive: timeout=2\r\n", seconds(1)),
            ("Keep-Alive: timeout=9, timeout=3\r\n", seconds(2)),
            ("Keep-Alive: timeout=9\r\nKeep-Alive: timeout=3\r\n", seconds(2)),
            ("Keep-Alive: max=100\r\n", for_ever),
            ("Keep-Alive: 300\r\n", for_ever),
            ("Keep-Alive: timeout-x=1\r\n", for_ever),
            ("X-Keep-Alive: timeout=1\r\n", for_ever),
            // An unreadable value may have any meaning.
            ("Keep-Alive: timeout\r\n", seconds(0)),
            ("Keep-Alive: timeout=\r\n", seconds(0)),
            ("Keep-Alive: timeout=-5\r\n", seconds(0)),
            ("Keep-Alive: timeout=+5\r\n", seconds(0)),
            ("Keep-Alive: timeout=5s\r\n", seconds(0)),
            ("Keep-Alive: timeout=\"5\"\r\n", seconds(0)),
            ("Keep-Alive: timeout = 5\r\n", seconds(0)),
            ("Keep-Alive: timeout=5;max=100\r\n", seconds(0)),
            ("Keep-Alive: timeout=5\r\nConnection: close\r\n", seconds(0)),
        ] {
            assert_eq!(one(&format!("HTTP/1.1 204 No Content\r\n{fields}\r\n")).lasts, lasts, "{fields:?}");
        }
        let huge = format!("HTTP/1.1 204 No Content\r\nKeep-Alive: timeout={}\r\n\r\n", "9".repeat(400));
        assert_eq!(one(&huge).lasts, seconds(u64::MAX - 1));
    }

    #[test]
    fn a_response_that_could_end_in_two_places_is_refused() {
        let many = "X: 1\r\n".repeat(MAX_FIELDS + 1);
        let large = format!("X: {}\r\n", "x".repeat(MAX_HEAD));
        for fields in [
            "Content-Length: 3\r\nContent-Length: 4\r\n",
            "Content-Length: 3, 3\r\n",
            "Content-Length: +3\r\n",
            "Content-Length: \r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Transfer-Encoding: gzip\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length : 3\r\n",
            "X: a\r\n b\r\n",
            "X\r\n",
            &many,
            &large,
        ] {
            let head = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
            assert!(read(&head).is_err(), "{fields:.60?}");
        }
        for line in ["HTTP/2 200 OK", "HTTP/1.1 20 OK", "ICY 200 OK", "HTTP/1.1 099 OK", "!!!"] {
            assert_eq!(read(&format!("{line}\r\n\r\n")).unwrap_err(), MalformedResponse::Head, "{line}");
        }
        let refused = |fields: &str| read(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n")).unwrap_err();
        assert_eq!((refused(&many), refused(&large)), (MalformedResponse::TooManyFields, MalformedResponse::TooLarge));
        assert_eq!(refused("Content-Length: 3\r\nContent-Length: 4\r\n"), MalformedResponse::Framing);
        let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(MAX_HEAD));
        assert_eq!(read(&endless).unwrap_err(), MalformedResponse::TooLarge);
    }

    #[test]
    fn an_incomplete_head_is_awaited_and_interim_responses_are_skipped() {
        let whole = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n\
                     HTTP/1.1 200 Fine by me\r\nContent-Length: 1\r\n\r\n";
        for cut in 0..whole.len() {
            assert!(read(&whole[..cut]).unwrap().is_none(), "{cut}");
        }
        let (head, behind) = read(&format!("{whole}x")).unwrap().unwrap();
        assert_eq!((head.answer.status(), behind.as_str()), (StatusCode::OK, "x"));
        assert_eq!(head.answer.extensions().get::<ReasonPhrase>().unwrap().as_ref(), b"Fine by me");
        assert!(!head.answer.headers().contains_key("link"));
        assert_eq!(one("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n").answer.status(), 101);
    }

    #[test]
    fn a_response_keeps_its_end_to_end_fields() {
        let head =
            one("HTTP/1.1 200 OK\r\nETag: \"1\"\r\nX-Saltgate-X: 1\r\nX_Request_Id: theirs\r\nConnection: X-Hop\r\n\
             X-Hop: 1\r\nProxy-Authenticate: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\nSet-Cookie: a\r\n\
             Keep-Alive: 5\r\nSet-Cookie: b\r\n\r\n");
        let mut kept: Vec<_> =
            head.answer.headers().iter().map(|(n, v)| format!("{n}: {}", v.to_str().unwrap())).collect();
        kept.sort();
        assert_eq!(kept, ["etag: \"1\"", "set-cookie: a", "set-cookie: b"]);
    }
}
