//! Writes the head of a request to the service.

use std::fmt;

use http::header::{HOST, HeaderName};
use http::{HeaderValue, Method};

use super::grammar::is_value;
use super::request_body::Outgoing;
use crate::bytewise;

/// The initial capacity in bytes: enough for most heads, including the fields about the caller.
const ROOM: usize = 1024;

/// The head of a request to the service. It is serialised while it is built, in the order in which it is sent.
///
/// It does not contain the framing fields, nor `Host` unless the request sets its own. Otherwise `Host` is that of the chosen
/// server (contract §7).
#[derive(Clone, Debug)]
pub struct RequestHead {
    bytes: Vec<u8>,
    /// Where the fields begin.
    fields: usize,
    names_host: bool,
    /// The method is HEAD: its response has no body.
    is_head: bool,
}

/// The part of a head that cannot be written. It does not contain the value, which may be a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidRequestHead {
    /// The path or the query.
    Target,
    /// The value of this field.
    Value(&'static str),
}

impl fmt::Display for InvalidRequestHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Target => f.write_str("the path or query is not a valid request target"),
            Self::Value(named) => write!(f, "the value of {} is not a valid field value", named.trim_end_matches(": ")),
        }
    }
}

impl std::error::Error for InvalidRequestHead {}

impl RequestHead {
    /// A request for this path and query.
    ///
    /// # Errors
    /// If they are not an absolute path of visible ASCII; or `*`, for OPTIONS.
    pub fn new(method: &Method, path: &str, query: Option<&str>) -> Result<Self, InvalidRequestHead> {
        Self::of_parts(method, &[path], query)
    }

    /// The same for a path in parts, of which the first is not empty.
    ///
    /// # Errors
    /// As above.
    pub fn of_parts(method: &Method, path: &[&str], query: Option<&str>) -> Result<Self, InvalidRequestHead> {
        let begins = path.first().is_some_and(|part| part.starts_with('/'));
        let is_path = begins || path == ["*"] && *method == Method::OPTIONS;
        let are_targets = path.iter().all(|part| is_target(part, b'?'));
        if !is_path || !are_targets || !query.is_none_or(|query| is_target(query, b'#')) {
            return Err(InvalidRequestHead::Target);
        }
        let mut bytes = Vec::with_capacity(ROOM);
        bytes.extend_from_slice(method.as_str().as_bytes());
        bytes.push(b' ');
        path.iter().for_each(|part| bytes.extend_from_slice(part.as_bytes()));
        if let Some(query) = query {
            bytes.push(b'?');
            bytes.extend_from_slice(query.as_bytes());
        }
        bytes.extend_from_slice(b" HTTP/1.1\r\n");
        Ok(Self { fields: bytes.len(), bytes, names_host: false, is_head: *method == Method::HEAD })
    }

    /// Adds a field.
    pub fn field(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.names_host |= *name == HOST;
        write_field(&mut self.bytes, name, value.as_bytes());
    }

    /// Adds a field that Saltgate sets. `named` is its name in lower case, a colon and a space.
    ///
    /// # Errors
    /// If `value` cannot be the value of a field.
    #[inline]
    pub fn text(&mut self, named: &'static str, value: &str) -> Result<(), InvalidRequestHead> {
        if !is_value(value.as_bytes()) {
            return Err(InvalidRequestHead::Value(named));
        }
        self.bytes.reserve(named.len() + value.len() + 2);
        self.bytes.extend_from_slice(named.as_bytes());
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.extend_from_slice(b"\r\n");
        Ok(())
    }

    /// Sets `Host`.
    ///
    /// # Errors
    /// If it is not a valid field value.
    pub fn host(&mut self, host: &str) -> Result<(), InvalidRequestHead> {
        self.names_host = true;
        self.text("host: ", host)
    }

    pub(crate) fn is_head(&self) -> bool {
        self.is_head
    }

    /// Writes the head for a server with this `Host`, with the fields that frame the body.
    pub(crate) fn write(&self, host: &HeaderValue, body: &Outgoing, out: &mut Vec<u8>) {
        let (line, fields) = self.bytes.split_at(self.fields);
        out.extend_from_slice(line);
        if !self.names_host {
            write_field(out, &HOST, host.as_bytes());
        }
        out.extend_from_slice(fields);
        body.write_framing(out);
        out.extend_from_slice(b"\r\n");
    }
}

/// Whether the text may be part of a target, in which `ends` would end the part.
fn is_target(text: &str, ends: u8) -> bool {
    bytewise::all(text.as_bytes(), |byte| byte.is_ascii_graphic() & (byte != b'#') & (byte != ends))
}

/// Writes a field as one line.
pub(super) fn write_field(out: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    out.reserve(name.as_str().len() + value.len() + 4);
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn written(head: &RequestHead) -> String {
        let mut out = Vec::new();
        head.write(&HeaderValue::from_static("crm:8080"), &Outgoing::Whole(Bytes::new()), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_host_is_the_servers_unless_the_request_sets_one() {
        let mut head = RequestHead::new(&Method::DELETE, "/p", Some("q=1")).unwrap();
        head.text("x-a: ", "1").unwrap();
        assert_eq!(written(&head), "DELETE /p?q=1 HTTP/1.1\r\nhost: crm:8080\r\nx-a: 1\r\n\r\n");
        head.field(&HOST, &HeaderValue::from_static("gate"));
        assert_eq!(written(&head), "DELETE /p?q=1 HTTP/1.1\r\nx-a: 1\r\nhost: gate\r\n\r\n");
    }

    #[test]
    fn no_value_can_end_a_line() {
        for (path, query) in [("", None), ("p", None), ("*", None), ("/a b", None), ("/a?b", None), ("/a#b", None)] {
            assert_eq!(
                RequestHead::new(&Method::GET, path, query).unwrap_err(),
                InvalidRequestHead::Target,
                "{path:?}"
            );
        }
        for odd in ["\r\nX: 1", "\n", " ", "\u{7f}", "\u{c138}", "\0", "#"] {
            assert!(RequestHead::new(&Method::GET, &format!("/{odd}"), None).is_err(), "{odd:?} in a path");
            assert!(RequestHead::new(&Method::GET, "/", Some(odd)).is_err(), "{odd:?} in a query");
        }
        assert!(RequestHead::new(&Method::OPTIONS, "*", None).is_ok());
        let mut head = RequestHead::new(&Method::GET, "/", None).unwrap();
        for odd in ["a\r\nb", "a\nb", "a\rb", "a\0", "\u{7f}"] {
            assert_eq!(head.text("x-a: ", odd), Err(InvalidRequestHead::Value("x-a: ")), "{odd:?}");
        }
        assert_eq!(written(&head), "GET / HTTP/1.1\r\nhost: crm:8080\r\n\r\n", "nothing is left of them");
        head.text("x-a: ", "\t\u{c138}!").unwrap();
    }
}
