//! The head of a message, judged line by line as its lines become whole.

use memchr::memchr;

use super::bytes::{are_path, are_query, find_stop, is_host, is_token};
use super::{Fault, Sizes};
use crate::bytewise;

/// The HTTP reader takes no more fields either.
const MAX_FIELDS: usize = 100;
/// Nor longer targets, whatever the limit says.
const LONGEST_TARGET: usize = u16::MAX as usize - 1;
const LONGEST_METHOD: usize = 32;

/// How much of a body follows a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    Length(u64),
    Chunked,
}

/// A head of which so much was judged. Places are counted from its first byte.
#[derive(Debug, Default)]
pub(super) struct Head {
    /// So many bytes were looked at.
    scanned: usize,
    /// Where the line begins that is being read.
    line: usize,
    /// An empty line came before it.
    blank: bool,
    request: Option<Request>,
    fields: usize,
    host: Option<Place>,
    length: Option<u64>,
    chunked: bool,
}

#[derive(Clone, Copy, Debug)]
struct Request {
    method: Place,
    target: Place,
    /// Another form than a path: names a host.
    absolute: bool,
    /// HTTP/1.0.
    old: bool,
    /// Where the fields begin.
    end: usize,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    at: usize,
    length: usize,
}

impl Place {
    fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.at..self.at + self.length).unwrap_or_default()
    }
}

impl Head {
    /// Judges what came; `bytes` begin where the head does. Once it is whole, says how long it is
    /// and what follows it.
    pub(super) fn judge(&mut self, bytes: &[u8], sizes: &Sizes) -> Result<Option<(usize, Body)>, Fault> {
        while let Some(length) = find_stop(&bytes[self.scanned..]) {
            let end = self.scanned + length;
            if bytes[end] != b'\n' {
                return Err(Fault::ControlByte);
            }
            let line = bytes[self.line..end].strip_suffix(b"\r").ok_or(Fault::BareLf)?;
            let begin = self.line;
            (self.scanned, self.line) = (end + 1, end + 1);
            match self.request {
                None if line.is_empty() && self.blank => return Err(Fault::EmptyLines),
                None if line.is_empty() => self.blank = true,
                None => self.request = Some(request(line, begin, sizes)?),
                Some(request) if line.is_empty() => return Ok(Some((self.line, self.end(bytes, request)?))),
                Some(request) if self.line - request.end > sizes.max_header_bytes => {
                    return Err(Fault::HeadersTooLarge);
                }
                Some(_) => self.field(line, begin)?,
            }
        }
        self.scanned = bytes.len();
        self.judge_part(&bytes[self.line..], sizes)?;
        Ok(None)
    }

    /// Whether nothing of a message has come: an empty line before one is nothing.
    pub(super) fn is_nothing(&self) -> bool {
        self.request.is_none() && self.scanned == self.line
    }

    /// The method and the target, once the request line is beyond doubt.
    pub(super) fn request<'b>(&self, bytes: &'b [u8]) -> Option<(&'b [u8], &'b [u8])> {
        self.request.map(|request| (request.method.of(bytes), request.target.of(bytes)))
    }

    /// A line that is not whole yet may be too long already.
    fn judge_part(&self, part: &[u8], sizes: &Sizes) -> Result<(), Fault> {
        if let Some(request) = self.request {
            // The empty line at the end does not count.
            let section = self.scanned - request.end;
            return if section > sizes.max_header_bytes + 2 { Err(Fault::HeadersTooLarge) } else { Ok(()) };
        }
        if part.len() <= LONGEST_METHOD {
            return Ok(());
        }
        let space = part[..=LONGEST_METHOD].iter().position(|byte| *byte == b' ').ok_or(Fault::Method)?;
        if part.len() <= sizes.max_target_bytes {
            return Ok(());
        }
        let rest = &part[space + 1..];
        let target = rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len());
        if target > sizes.max_target_bytes.min(LONGEST_TARGET) {
            return Err(Fault::TargetTooLong);
        }
        if rest.len() - target > " HTTP/1.1\r".len() { Err(Fault::RequestLine) } else { Ok(()) }
    }

    fn field(&mut self, line: &[u8], begin: usize) -> Result<(), Fault> {
        self.fields += 1;
        if self.fields > MAX_FIELDS {
            return Err(Fault::TooManyFields);
        }
        let (name, value) = field(line)?;
        match framing_field(name)? {
            None => {}
            Some(Field::Host) if self.host.is_some() => return Err(Fault::SeveralHosts),
            Some(Field::Host) => {
                let host = judge_host(value)?;
                self.host = Some(Place { at: begin + line.len() - host.len(), length: host.len() });
            }
            Some(Field::Length) if self.length.is_some() => return Err(Fault::SeveralLengths),
            Some(Field::Length) => self.length = Some(length(value)?),
            Some(Field::Coding) if self.chunked => return Err(Fault::SeveralCodings),
            Some(Field::Coding) if without_space(value).eq_ignore_ascii_case(b"chunked") => self.chunked = true,
            Some(Field::Coding) => return Err(Fault::OddCoding),
        }
        Ok(())
    }

    /// The fields are all there.
    fn end(&self, bytes: &[u8], request: Request) -> Result<Body, Fault> {
        let host = self.host.ok_or(Fault::NoHost)?.of(bytes);
        if request.absolute && !names_host(request.target.of(bytes), host)? {
            return Err(Fault::OtherHost);
        }
        match (self.length, self.chunked) {
            (Some(_), true) => Err(Fault::LengthAndCoding),
            (None, true) if request.old => Err(Fault::OldCoding),
            (None, true) => Ok(Body::Chunked),
            (length, false) => Ok(Body::Length(length.unwrap_or(0))),
        }
    }
}

fn request(line: &[u8], begin: usize, sizes: &Sizes) -> Result<Request, Fault> {
    if has_cr(line) {
        return Err(Fault::BareCr);
    }
    let mut parts = line.splitn(3, |byte| *byte == b' ');
    let (Some(method), Some(target), Some(version)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(Fault::RequestLine);
    };
    if method.is_empty() || method.len() > LONGEST_METHOD || !method.iter().all(|byte| is_token(*byte)) {
        return Err(Fault::Method);
    }
    if target.len() > sizes.max_target_bytes.min(LONGEST_TARGET) {
        return Err(Fault::TargetTooLong);
    }
    let old = match version {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        _ if target.is_empty() || version.contains(&b' ') => return Err(Fault::RequestLine),
        _ => return Err(Fault::Version),
    };
    if method == b"CONNECT" {
        return Err(Fault::Tunnel);
    }
    let absolute = match target {
        _ if is_path(target) => false,
        b"*" if method == b"OPTIONS" => false,
        // The rest of it is judged beside the Host.
        [b'h', ..] if are_query(target) => true,
        _ => return Err(Fault::Target),
    };
    let method = Place { at: begin, length: method.len() };
    let target = Place { at: begin + method.length + 1, length: target.len() };
    Ok(Request { method, target, absolute, old, end: begin + line.len() + 2 })
}

fn has_cr(bytes: &[u8]) -> bool {
    !bytewise::all(bytes, |byte| byte != b'\r')
}

/// Name and value of a whole line.
pub(super) fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    let end = line.iter().position(|byte| !is_token(*byte)).ok_or(Fault::FieldName)?;
    let (name, rest) = line.split_at(end);
    match (name, rest) {
        ([], [b' ' | b'\t', ..]) => Err(Fault::FoldedField),
        (_, [b'\r', ..]) => Err(Fault::BareCr),
        ([_, ..], [b' ' | b'\t', ..]) => Err(Fault::SpaceBeforeColon),
        // All else that stands in no value was seen when the end of the line was looked for. What is
        // beyond ASCII is let pass: real clients send it.
        ([_, ..], [b':', value @ ..]) if !has_cr(value) => Ok((name, value)),
        ([_, ..], [b':', ..]) => Err(Fault::BareCr),
        _ => Err(Fault::FieldName),
    }
}

/// The fields that say where a message ends and whom it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Host,
    Length,
    Coding,
}

/// Which of them this is. A name that some reader behind us could take for one is none, and
/// refused: where fields become variables, `-` and `_` are one.
pub(super) fn framing_field(name: &[u8]) -> Result<Option<Field>, Fault> {
    let (plain, field): (&[u8], _) = match name.len() {
        4 => (b"host", Field::Host),
        14 => (b"content-length", Field::Length),
        17 => (b"transfer-encoding", Field::Coding),
        _ => return Ok(None),
    };
    if name.eq_ignore_ascii_case(plain) {
        return Ok(Some(field));
    }
    let alike = |(byte, plain): (&u8, &u8)| {
        byte.eq_ignore_ascii_case(plain) || (*plain == b'-' && !byte.is_ascii_alphanumeric())
    };
    if name.iter().zip(plain).all(alike) { Err(Fault::FieldAlias) } else { Ok(None) }
}

/// The value of a framing field: at most one space before it, nothing behind.
fn without_space(value: &[u8]) -> &[u8] {
    value.strip_prefix(b" ").unwrap_or(value)
}

fn length(value: &[u8]) -> Result<u64, Fault> {
    let digits = without_space(value);
    if !(1..=19).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Fault::OddLength);
    }
    Ok(digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

fn judge_host(value: &[u8]) -> Result<&[u8], Fault> {
    let host = without_space(value);
    let port = match host {
        [b'[', rest @ ..] => {
            let end = rest.iter().position(|byte| *byte == b']').ok_or(Fault::OddHost)?;
            let address = std::str::from_utf8(&rest[..end]).map_err(|_| Fault::OddHost)?;
            address.parse::<std::net::Ipv6Addr>().map_err(|_| Fault::OddHost)?;
            &rest[end + 1..]
        }
        _ => {
            let end = host.iter().position(|byte| !is_host(*byte)).unwrap_or(host.len());
            if end == 0 {
                return Err(Fault::OddHost);
            }
            &host[end..]
        }
    };
    match port {
        [] => Ok(host),
        [b':', port @ ..] if (1..=5).contains(&port.len()) && length(port).is_ok_and(|port| port <= 65535) => Ok(host),
        _ => Err(Fault::OddHost),
    }
}

/// Whether a target in absolute form names this host. The scheme is in lower case and there is
/// no query without a path: the HTTP reader writes both anew.
fn names_host(target: &[u8], host: &[u8]) -> Result<bool, Fault> {
    let rest = target.strip_prefix(b"http://").or(target.strip_prefix(b"https://")).ok_or(Fault::Target)?;
    let (authority, path) =
        rest.split_at(rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len()));
    if !path.is_empty() && !is_path(path) {
        return Err(Fault::Target);
    }
    Ok(authority.eq_ignore_ascii_case(host))
}

/// A path, and a query or none.
fn is_path(target: &[u8]) -> bool {
    let (path, query) = target.split_at(memchr(b'?', target).unwrap_or(target.len()));
    path.starts_with(b"/") && are_path(path) && are_query(query)
}
