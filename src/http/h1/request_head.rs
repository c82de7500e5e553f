//! Reads the head of a request strictly, as soon as each line is complete.

use std::ops::Range;

use super::Sizes;
use super::grammar::{MAX_FIELDS, are_query, field, find_stop, has_cr, is_chunked, is_host, is_path, is_token, number};
use crate::http::fault::MessageFault;
use crate::http::fields::{FramingField, framing_field};

/// hyper accepts no longer targets, whatever the limit is.
const LONGEST_TARGET: usize = u16::MAX as usize - 1;
const LONGEST_METHOD: usize = 32;
const MAX_LENGTH_DIGITS: usize = 19;

/// How much of a body follows a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    Length(u64),
    Chunked,
}

/// A head as far as it was read. Positions are counted from its first byte.
#[derive(Debug, Default)]
pub(super) struct PartialHead {
    /// The positions of the fields.
    spans: Vec<FieldSpan>,
    /// How many bytes were examined.
    scanned: usize,
    /// The start of the line that is being read.
    line: usize,
    /// An empty line precedes it.
    blank: bool,
    request: Option<Request>,
    host: Option<Span>,
    length: Option<u64>,
    chunked: bool,
}

#[derive(Clone, Copy, Debug)]
struct Request {
    method: Span,
    target: Span,
    /// The target is in absolute form and names a host.
    absolute: bool,
    /// HTTP/1.0.
    old: bool,
    /// The position where the fields begin.
    end: usize,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    at: usize,
    length: usize,
}

impl Span {
    pub(super) fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.range()).unwrap_or_default()
    }

    pub(super) fn range(self) -> Range<usize> {
        self.at..self.at + self.length
    }
}

/// The position of a field in a head.
#[derive(Clone, Copy, Debug)]
pub(super) struct FieldSpan {
    pub(super) name: Span,
    /// Without the white space around it.
    pub(super) value: Span,
}

impl FieldSpan {
    /// The field in `line`, which begins at `begin` and has a name of `name` bytes.
    fn of(begin: usize, line: &[u8], name: usize) -> Self {
        let is_space = |byte: &&u8| matches!(byte, b' ' | b'\t');
        let value = &line[name + 1..];
        let before = value.iter().take_while(is_space).count();
        let behind = value[before..].iter().rev().take_while(is_space).count();
        Self {
            name: Span { at: begin, length: name },
            value: Span { at: begin + name + 1 + before, length: value.len() - before - behind },
        }
    }
}

/// An accepted head, with the positions of its parts, so that it need not be parsed again.
#[derive(Debug)]
pub(super) struct AcceptedHead {
    /// Its length in bytes, including an empty line before it.
    pub(super) length: usize,
    pub(super) method: Span,
    pub(super) target: Span,
    /// HTTP/1.0.
    pub(super) is_old: bool,
    pub(super) fields: Vec<FieldSpan>,
    pub(super) body: Body,
}

impl PartialHead {
    /// Starts the next head. `spans` is an allocation to reuse for the positions of its fields.
    pub(super) fn with(mut spans: Vec<FieldSpan>) -> Self {
        spans.clear();
        Self { spans, ..Self::default() }
    }

    /// Reads `bytes`, which begin with the head. Once the head is complete, returns the positions of its parts and
    /// the kind of body that follows.
    pub(super) fn judge(&mut self, bytes: &[u8], sizes: &Sizes) -> Result<Option<AcceptedHead>, MessageFault> {
        while let Some(length) = find_stop(&bytes[self.scanned..]) {
            let end = self.scanned + length;
            if bytes[end] != b'\n' {
                return Err(MessageFault::ControlByte);
            }
            let line = bytes[self.line..end].strip_suffix(b"\r").ok_or(MessageFault::BareLf)?;
            let begin = self.line;
            (self.scanned, self.line) = (end + 1, end + 1);
            match self.request {
                None if line.is_empty() && self.blank => return Err(MessageFault::EmptyLines),
                None if line.is_empty() => self.blank = true,
                None => self.request = Some(request(line, begin, sizes)?),
                Some(request) if line.is_empty() => return self.end(bytes, request).map(Some),
                Some(request) if self.line - request.end > sizes.max_header_bytes => {
                    return Err(MessageFault::HeadersTooLarge);
                }
                Some(_) => self.field(line, begin)?,
            }
        }
        self.scanned = bytes.len();
        self.judge_part(&bytes[self.line..], sizes)?;
        Ok(None)
    }

    /// Whether nothing of a message has arrived, except perhaps the empty line before it.
    pub(super) fn is_nothing(&self) -> bool {
        self.request.is_none() && self.scanned == self.line
    }

    /// The method and the target, once the request line was accepted.
    pub(super) fn request<'b>(&self, bytes: &'b [u8]) -> Option<(&'b [u8], &'b [u8])> {
        self.request.map(|request| (request.method.of(bytes), request.target.of(bytes)))
    }

    /// Checks a line that is not complete yet: it may already be too long.
    fn judge_part(&self, part: &[u8], sizes: &Sizes) -> Result<(), MessageFault> {
        if let Some(request) = self.request {
            // The empty line at the end does not count.
            let section = self.scanned - request.end;
            return if section > sizes.max_header_bytes + 2 { Err(MessageFault::HeadersTooLarge) } else { Ok(()) };
        }
        if part.len() <= LONGEST_METHOD {
            return Ok(());
        }
        let space = part[..=LONGEST_METHOD].iter().position(|byte| *byte == b' ').ok_or(MessageFault::Method)?;
        if part.len() <= sizes.max_target_bytes {
            return Ok(());
        }
        let rest = &part[space + 1..];
        let target = rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len());
        if target > sizes.max_target_bytes.min(LONGEST_TARGET) {
            return Err(MessageFault::TargetTooLong);
        }
        if rest.len() - target > " HTTP/1.1\r".len() { Err(MessageFault::RequestLine) } else { Ok(()) }
    }

    fn field(&mut self, line: &[u8], begin: usize) -> Result<(), MessageFault> {
        if self.spans.len() == MAX_FIELDS {
            return Err(MessageFault::TooManyFields);
        }
        let (name, value) = field(line)?;
        self.spans.push(FieldSpan::of(begin, line, name.len()));
        match framing_field(name).map_err(|_| MessageFault::FieldAlias)? {
            None => {}
            Some(FramingField::Host) if self.host.is_some() => return Err(MessageFault::SeveralHosts),
            Some(FramingField::Host) => {
                let host = judge_host(value)?;
                self.host = Some(Span { at: begin + line.len() - host.len(), length: host.len() });
            }
            Some(FramingField::Length) if self.length.is_some() => return Err(MessageFault::SeveralLengths),
            Some(FramingField::Length) => self.length = Some(length(value)?),
            Some(FramingField::Coding) if self.chunked => return Err(MessageFault::SeveralCodings),
            Some(FramingField::Coding) if is_chunked(without_space(value)) => self.chunked = true,
            Some(FramingField::Coding) => return Err(MessageFault::OddCoding),
        }
        Ok(())
    }

    /// Called after the last field.
    fn end(&mut self, bytes: &[u8], request: Request) -> Result<AcceptedHead, MessageFault> {
        let host = self.host.ok_or(MessageFault::NoHost)?.of(bytes);
        if request.absolute && !names_host(request.target.of(bytes), host)? {
            return Err(MessageFault::OtherHost);
        }
        let body = match (self.length, self.chunked) {
            (Some(_), true) => return Err(MessageFault::LengthAndCoding),
            (None, true) if request.old => return Err(MessageFault::OldCoding),
            (None, true) => Body::Chunked,
            (length, false) => Body::Length(length.unwrap_or(0)),
        };
        Ok(AcceptedHead {
            length: self.line,
            method: request.method,
            target: request.target,
            is_old: request.old,
            fields: std::mem::take(&mut self.spans),
            body,
        })
    }
}

fn request(line: &[u8], begin: usize, sizes: &Sizes) -> Result<Request, MessageFault> {
    if has_cr(line) {
        return Err(MessageFault::BareCr);
    }
    let mut parts = line.splitn(3, |byte| *byte == b' ');
    let (Some(method), Some(target), Some(version)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(MessageFault::RequestLine);
    };
    if method.is_empty() || method.len() > LONGEST_METHOD || !method.iter().all(|byte| is_token(*byte)) {
        return Err(MessageFault::Method);
    }
    if target.len() > sizes.max_target_bytes.min(LONGEST_TARGET) {
        return Err(MessageFault::TargetTooLong);
    }
    let old = match version {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        _ if target.is_empty() || version.contains(&b' ') => return Err(MessageFault::RequestLine),
        _ => return Err(MessageFault::Version),
    };
    if method == b"CONNECT" {
        return Err(MessageFault::Tunnel);
    }
    let absolute = match target {
        _ if is_path(target) => false,
        b"*" if method == b"OPTIONS" => false,
        // The rest of it is checked together with `Host`.
        [b'h', ..] if are_query(target) => true,
        _ => return Err(MessageFault::Target),
    };
    let method = Span { at: begin, length: method.len() };
    let target = Span { at: begin + method.length + 1, length: target.len() };
    Ok(Request { method, target, absolute, old, end: begin + line.len() + 2 })
}

/// The value of a framing field, which may have one space before it and nothing after it.
fn without_space(value: &[u8]) -> &[u8] {
    value.strip_prefix(b" ").unwrap_or(value)
}

/// The number in a `Content-Length`: at most 19 digits and nothing else.
fn length(value: &[u8]) -> Result<u64, MessageFault> {
    let digits = without_space(value);
    number(digits).filter(|_| digits.len() <= MAX_LENGTH_DIGITS).ok_or(MessageFault::OddLength)
}

/// The host in a `Host`.
fn judge_host(value: &[u8]) -> Result<&[u8], MessageFault> {
    let host = without_space(value);
    if is_host(host) { Ok(host) } else { Err(MessageFault::OddHost) }
}

/// Whether a target in absolute form names this host. The scheme must be in lower case and a query must follow a path:
/// hyper would rewrite both.
fn names_host(target: &[u8], host: &[u8]) -> Result<bool, MessageFault> {
    let rest = target.strip_prefix(b"http://").or(target.strip_prefix(b"https://")).ok_or(MessageFault::Target)?;
    let (authority, path) =
        rest.split_at(rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len()));
    if !path.is_empty() && !is_path(path) {
        return Err(MessageFault::Target);
    }
    Ok(authority.eq_ignore_ascii_case(host))
}
