//! The head of an answer. Pure: bytes go in, a head comes out.
//!
//! 1. What could be read as more than one answer, or as an end in two places, is no answer: the next
//!    request on the connection would get what is left of it.
//! 2. Fields that belong to the hop it came by, or that only we may say, end here (contract §6).
//! 3. Interim answers end here.

use std::mem::MaybeUninit;

use bytes::BytesMut;
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::{Response, StatusCode};
use httparse::Header as Field;
use hyper::ext::ReasonPhrase;

use super::framing::{At, Framing, Malformed};
use super::hygiene;

/// The most bytes of a head.
const MAX_HEAD: usize = 64 << 10;
const MAX_FIELDS: usize = 100;

/// A head, and what follows it.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) answer: Response<()>,
    pub(super) body: Framing,
    /// Whether another request may follow on the connection.
    pub(super) persists: bool,
}

/// Takes the head of the answer out of what was read; `None` if there must be more of it first.
/// `to_head` is whether a HEAD is answered.
pub(super) fn take(unread: &mut BytesMut, to_head: bool) -> Result<Option<Head>, Malformed> {
    loop {
        let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let mut parsed = httparse::Response::new(&mut []);
        let parsing = httparse::ParserConfig::default();
        let length = match parsing.parse_response_with_uninit_headers(&mut parsed, unread, &mut fields) {
            Ok(httparse::Status::Complete(length)) if length <= MAX_HEAD => length,
            Ok(httparse::Status::Partial) if unread.len() <= MAX_HEAD => return Ok(None),
            Ok(_) | Err(_) => return Err(Malformed),
        };
        let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or(Malformed)?;
        if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
            drop(unread.split_to(length));
            continue;
        }
        let told = Told::of(parsed.headers, parsed.version == Some(0))?;
        let (body, persists) = told.what_follows(status, to_head);
        let mut answer = Response::new(());
        *answer.status_mut() = status;
        *answer.headers_mut() = relayed(parsed.headers, &told)?;
        let reason = parsed.reason.unwrap_or_default();
        if status.canonical_reason() != Some(reason) {
            let reason = ReasonPhrase::try_from(reason.to_owned()).map_err(|_| Malformed)?;
            answer.extensions_mut().insert(reason);
        }
        drop(unread.split_to(length));
        return Ok(Some(Head { answer, body, persists }));
    }
}

/// What the head says of the body and the connection.
#[derive(Default)]
struct Told {
    length: Option<u64>,
    is_chunked: bool,
    /// There is a `Connection`; and what it says, as far as it is known.
    says_connection: bool,
    keep_alive: bool,
    close: bool,
    is_old: bool,
}

impl Told {
    fn of(fields: &[Field<'_>], is_old: bool) -> Result<Self, Malformed> {
        let mut told = Self { is_old, ..Self::default() };
        for Field { name, value } in fields {
            if CONTENT_LENGTH == **name {
                let length = length(value)?;
                // Said twice it is one length still, if it is the same.
                if told.length.replace(length).is_some_and(|before| before != length) {
                    return Err(Malformed);
                }
            } else if TRANSFER_ENCODING == **name {
                // HTTP/1.0 has no codings.
                if told.is_chunked || is_old || !value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                    return Err(Malformed);
                }
                told.is_chunked = true;
            } else if CONNECTION == **name {
                told.says_connection = true;
                for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                    told.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                    told.close |= option.eq_ignore_ascii_case(b"close");
                }
            }
        }
        Ok(told)
    }

    fn what_follows(&self, status: StatusCode, to_head: bool) -> (Framing, bool) {
        let has_none = to_head
            || matches!(status, StatusCode::SWITCHING_PROTOCOLS | StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        // Somebody on the way may go by the length, and see another end.
        let in_doubt = self.is_chunked && self.length.is_some();
        let persists = !self.close && (self.keep_alive || !self.is_old) && !in_doubt;
        match (self.is_chunked, self.length) {
            _ if has_none => (Framing::NOTHING, persists),
            (true, _) => (Framing::Chunked(At::Size), persists),
            (false, Some(length)) => (Framing::Length(length), persists),
            (false, None) => (Framing::UntilClose, false),
        }
    }
}

fn length(value: &[u8]) -> Result<u64, Malformed> {
    let value = value.trim_ascii();
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(Malformed);
    }
    std::str::from_utf8(value).ok().and_then(|value| value.parse().ok()).ok_or(Malformed)
}

/// The fields that go on to the client.
fn relayed(fields: &[Field<'_>], told: &Told) -> Result<HeaderMap, Malformed> {
    // What the client is told besides has room, too.
    let mut relayed = HeaderMap::with_capacity(fields.len() + 2);
    // As a rule there is none to look for.
    let connections = if told.says_connection { fields } else { &[] };
    let named = || connections.iter().filter(|field| CONNECTION == *field.name).map(|field| field.value);
    for Field { name, value } in fields {
        let ends_here = hygiene::ends_at_answer(name.as_bytes(), named) || told.is_chunked && CONTENT_LENGTH == **name;
        if !ends_here {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Malformed)?;
            relayed.append(name, HeaderValue::from_bytes(value).map_err(|_| Malformed)?);
        }
    }
    Ok(relayed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(head: &str) -> Result<Option<(Head, String)>, Malformed> {
        let mut unread = BytesMut::from(head.as_bytes());
        Ok(take(&mut unread, false)?.map(|head| (head, String::from_utf8(unread.to_vec()).unwrap())))
    }

    fn one(head: &str) -> Head {
        read(head).unwrap().unwrap().0
    }

    #[test]
    fn it_is_clear_what_follows_a_head() {
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
            assert_eq!((head.body, head.persists), (body, persists), "{status} {fields:?}");
        }
        for (fields, persists) in [("", false), ("Connection: keep-alive\r\n", true)] {
            let head = one(&format!("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n{fields}\r\n"));
            assert_eq!((head.body, head.persists), (Framing::Length(1), persists), "HTTP/1.0 {fields:?}");
        }
        let mut to_head = BytesMut::from(&b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"[..]);
        let head = take(&mut to_head, true).unwrap().unwrap();
        assert_eq!(head.body, Framing::NOTHING);
        assert_eq!(head.answer.headers()[CONTENT_LENGTH], "3", "as long as it would be");
    }

    #[test]
    fn what_could_have_two_ends_is_no_answer() {
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
            assert_eq!(read(&head).unwrap_err(), Malformed, "{fields:.60?}");
        }
        for line in ["HTTP/2 200 OK", "HTTP/1.1 20 OK", "ICY 200 OK", "HTTP/1.1 099 OK", "!!!"] {
            assert_eq!(read(&format!("{line}\r\n\r\n")).unwrap_err(), Malformed, "{line}");
        }
        assert_eq!(read(&format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(MAX_HEAD))).unwrap_err(), Malformed);
    }

    #[test]
    fn a_head_that_is_not_whole_is_awaited_and_interim_ones_are_passed_over() {
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
    fn an_answer_keeps_its_end_to_end_fields() {
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
