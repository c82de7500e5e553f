//! Writes answers to clients.

use std::io::Write;

use http::header::{self, HeaderValue};
use http::response::Parts;
use http::{HeaderMap, StatusCode};

use super::grammar::write_number;
use super::request_parts::{Facts, names};
use super::request_writer::write_field;

/// The room for a head and a small body that a new connection begins with, in bytes: enough for what Saltgate itself answers.
const ROOM: usize = 512;

/// How the client finds the end of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    /// There is no body.
    NoBody,
    /// It ends after this many more bytes.
    Length(u64),
    /// It ends with the last chunk.
    Chunked,
    /// It ends with the connection.
    WithConnection,
}

/// Writes the head of the answer to the request with these `facts`. `length` is the length of the body, if it is known. Returns
/// how the body ends, and sets `facts.keep_alive` to false if the connection ends with it.
pub(super) fn write_head(
    parts: &Parts,
    length: Option<u64>,
    facts: &mut Facts,
    date: &[u8],
    out: &mut Vec<u8>,
) -> Ends {
    let headers = &parts.headers;
    let mut says_connection = false;
    for (name, value) in headers {
        if *name == header::CONNECTION {
            says_connection = true;
            facts.keep_alive &= !names(value, "close");
        }
    }
    let ends = ends(parts.status, length, facts);
    if ends == Ends::WithConnection {
        facts.keep_alive = false;
    }
    out.reserve(ROOM);
    write_status_line(parts.status, facts.is_old, out);
    let mut has_date = false;
    for (name, value) in headers {
        match *name {
            // The framing fields are written below.
            header::TRANSFER_ENCODING => continue,
            header::CONTENT_LENGTH if !facts.is_head => continue,
            header::DATE => has_date = true,
            _ => {}
        }
        write_field(out, name, value.as_bytes());
    }
    write_framing(parts.status, headers, length, ends, facts, out);
    if !says_connection {
        match (facts.keep_alive, facts.is_old) {
            (true, true) => out.extend_from_slice(b"connection: keep-alive\r\n"),
            (false, false) => out.extend_from_slice(b"connection: close\r\n"),
            _ => {}
        }
    }
    if !has_date {
        write_field(out, &header::DATE, date);
    }
    out.extend_from_slice(b"\r\n");
    ends
}

/// A whole answer to a message that did not become a request: its head with these fields and its length, and its body.
/// It has no `Date` of its own.
pub(crate) fn whole_answer(parts: &Parts, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write_status_line(parts.status, false, &mut out);
    for (name, value) in &parts.headers {
        write_field(&mut out, name, value.as_bytes());
    }
    write_length(body.len() as u64, &mut out);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body);
    out
}

fn ends(status: StatusCode, length: Option<u64>, facts: &Facts) -> Ends {
    let has_none = facts.is_head || status.is_informational() || matches!(status.as_u16(), 204 | 304);
    match length {
        _ if has_none => Ends::NoBody,
        Some(length) => Ends::Length(length),
        None if facts.is_old => Ends::WithConnection,
        None => Ends::Chunked,
    }
}

/// Writes the framing field. An answer to HEAD has the field that an answer to GET would have.
fn write_framing(
    status: StatusCode,
    headers: &HeaderMap<HeaderValue>,
    length: Option<u64>,
    ends: Ends,
    facts: &Facts,
    out: &mut Vec<u8>,
) {
    let length = match ends {
        Ends::Length(length) => Some(length),
        Ends::NoBody if facts.is_head && !headers.contains_key(header::CONTENT_LENGTH) => {
            length.filter(|&length| length > 0 && !matches!(status.as_u16(), 204 | 304))
        }
        Ends::NoBody | Ends::WithConnection => None,
        Ends::Chunked => {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
            None
        }
    };
    if let Some(length) = length {
        write_length(length, out);
    }
}

fn write_length(length: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"content-length: ");
    write_number(length, out);
    out.extend_from_slice(b"\r\n");
}

fn write_status_line(status: StatusCode, is_old: bool, out: &mut Vec<u8>) {
    if status == StatusCode::OK && !is_old {
        return out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    }
    out.extend_from_slice(if is_old { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    // Many clients require a reason phrase.
    out.extend_from_slice(status.canonical_reason().unwrap_or("<none>").as_bytes());
    out.extend_from_slice(b"\r\n");
}

impl Ends {
    /// Writes a part of the body. More than the length in the head is an error.
    pub(super) fn write(&mut self, part: &[u8], out: &mut Vec<u8>) -> Result<(), WrongLength> {
        match self {
            // An empty chunk would end the body.
            _ if part.is_empty() => {}
            Self::NoBody => {}
            Self::Length(left) => {
                *left = left.checked_sub(part.len() as u64).ok_or(WrongLength)?;
                out.extend_from_slice(part);
            }
            Self::Chunked => {
                drop(write!(out, "{:x}\r\n", part.len()));
                out.extend_from_slice(part);
                out.extend_from_slice(b"\r\n");
            }
            Self::WithConnection => out.extend_from_slice(part),
        }
        Ok(())
    }

    /// Writes the end of the body.
    pub(super) fn end(self, out: &mut Vec<u8>) -> Result<(), WrongLength> {
        match self {
            Self::Length(1..) => return Err(WrongLength),
            Self::Chunked => out.extend_from_slice(b"0\r\n\r\n"),
            Self::NoBody | Self::Length(0) | Self::WithConnection => {}
        }
        Ok(())
    }
}

/// The length of a body differs from the length in its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body of an answer does not have the length that its head announced")]
pub(super) struct WrongLength;
