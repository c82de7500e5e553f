//! Classes of header fields by name, and which fields a proxy passes on.
//!
//! Names are compared after folding: every byte except letters and digits counts as `-`. So two names are the same
//! here if some server behind Saltgate could take one for the other.

use http::header::{CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue};

/// The beginning of a name, folded: one byte more than the longest name that is looked for.
#[derive(Clone, Copy)]
pub(crate) struct Folded([u8; Folded::ROOM], usize);

fn fold(byte: u8) -> u8 {
    if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' }
}

impl Folded {
    const ROOM: usize = 32;

    /// This name, folded.
    pub(crate) fn of(name: &[u8]) -> Self {
        let len = name.len().min(Self::ROOM);
        let mut bytes = [0; Self::ROOM];
        bytes[..len].copy_from_slice(&name[..len]);
        // All of them, whatever the length, so that it compiles to SIMD instructions.
        Self(bytes.map(fold), len)
    }

    /// The folded bytes.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0[..self.1]
    }

    /// Whether it is this name, given folded.
    pub(crate) fn is(&self, name: &str) -> bool {
        self.as_bytes() == name.as_bytes()
    }

    /// Whether it begins with this prefix.
    pub(crate) fn begins_with(&self, prefix: &str) -> bool {
        self.as_bytes().starts_with(prefix.as_bytes())
    }

    /// The class of a field with this name.
    pub(crate) fn class(&self) -> Class {
        match self.as_bytes() {
            b"connection" | b"keep-alive" | b"te" | b"trailer" | b"transfer-encoding" => Class::HopByHop,
            b"upgrade" | b"http2-settings" => Class::HopByHop,
            b"host" | b"content-length" | b"expect" => Class::MadeAnew,
            b"authorization" | b"cookie" | b"cookie2" => Class::Credential,
            b"traceparent" | b"tracestate" => Class::Trace,
            b"range" | b"content-range" | b"prefer" => Class::Variation,
            b"depth" | b"destination" | b"overwrite" | b"lock-token" => Class::Variation,
            b"digest" | b"repr-digest" => Class::Content,
            b"forwarded" | b"true-client-ip" | b"client-ip" | b"fastly-client-ip" => Class::Forwarding,
            b"cf-connecting-ip" | b"cf-connecting-ipv6" | b"wl-proxy-client-ip" => Class::Forwarding,
            b"if" | [b'i', b'f', b'-', ..] => Class::Condition,
            [b'x', b'-', rest @ ..] => class_of_x(rest),
            name if name.starts_with(b"content-") => Class::Content,
            name if name.starts_with(b"proxy-") => Class::MadeAnew,
            _ => Class::EndToEnd,
        }
    }
}

/// The class of a field whose name is `x-` and this rest.
fn class_of_x(rest: &[u8]) -> Class {
    match rest {
        b"request-id" => Class::Ours,
        b"method-override" | b"rewrite-url" => Class::Override,
        b"real-ip" | b"client-ip" | b"cluster-client-ip" | b"remote-ip" | b"remote-addr" => Class::Forwarding,
        b"azure-clientip" | b"envoy-external-address" | b"appengine-user-ip" => Class::Forwarding,
        _ if rest.starts_with(b"saltgate-") => Class::Ours,
        _ if rest.starts_with(b"forwarded-") => Class::Forwarding,
        _ if rest.starts_with(b"http-method") || rest.starts_with(b"original-") => Class::Override,
        _ => Class::EndToEnd,
    }
}

/// The class of a field, as far as a gateway needs to know. `docs/operations.md` says how each class is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// It belongs to the connection that it arrived on.
    HopByHop,
    /// It is written anew from what was parsed, or handled here.
    MadeAnew,
    /// Only Saltgate may set it.
    Ours,
    /// It tells a service that authenticates by itself who is calling.
    Credential,
    /// It names another method, or another target.
    Override,
    /// It says where a request came from: the client's address, or the requested host, scheme and path.
    Forwarding,
    /// It says which trace a request is part of, and whether that is sampled.
    Trace,
    /// It makes a request conditional: `If-Match`, dates, and WebDAV's `If`.
    Condition,
    /// It changes what a deletion affects, or when; nothing judges such changes.
    Variation,
    /// It describes the body.
    Content,
    /// It names no caller, no method and no target.
    EndToEnd,
}

/// Whether `Connection` names this field. `Host` never counts as named, because without a host a request could be
/// for any server.
pub(crate) fn is_named<'h>(name: &[u8], connection: impl Iterator<Item = &'h [u8]>) -> bool {
    if name.eq_ignore_ascii_case(HOST.as_str().as_bytes()) {
        return false;
    }
    let is = |named: &[u8]| named.len() == name.len() && named.iter().zip(name).all(|(a, b)| fold(*a) == fold(*b));
    connection.flat_map(|list| list.split(|b| *b == b',')).any(|named| is(named.trim_ascii()))
}

/// Whether a field of a response is removed: it belongs to the connection, or only Saltgate may set it. `connection` gives the
/// values of `Connection`.
pub(crate) fn ends_at_answer<'h, C: Iterator<Item = &'h [u8]>>(name: &[u8], connection: impl Fn() -> C) -> bool {
    let folded = Folded::of(name);
    let ends_here = matches!(folded.class(), Class::Ours | Class::HopByHop) || folded.begins_with("proxy-");
    ends_here || is_named(name, connection())
}

/// The fields of a client's request that are passed on: those that `Connection` does not name and that `goes` accepts.
pub(crate) fn surviving(
    headers: &HeaderMap,
    goes: impl Fn(&Folded) -> bool,
) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
    let says_connection = headers.contains_key(CONNECTION);
    headers.iter().filter(move |(name, _)| {
        let name = name.as_str().as_bytes();
        let named = || is_named(name, headers.get_all(CONNECTION).iter().map(HeaderValue::as_bytes));
        goes(&Folded::of(name)) && !(says_connection && named())
    })
}

/// The fields that determine where a message ends and which host it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FramingField {
    Host,
    Length,
    Coding,
}

/// A name that a server behind Saltgate could take for the name of a framing field: many servers turn fields into
/// variables, in which `-` and `_` are the same.
#[derive(Debug)]
pub(crate) struct Alias;

/// The framing field with this name, if there is one.
///
/// # Errors
/// If it is not a framing field but could be taken for one.
pub(crate) fn framing_field(name: &[u8]) -> Result<Option<FramingField>, Alias> {
    let (plain, field): (&[u8], _) = match name.len() {
        4 => (b"host", FramingField::Host),
        14 => (b"content-length", FramingField::Length),
        17 => (b"transfer-encoding", FramingField::Coding),
        _ => return Ok(None),
    };
    if name.eq_ignore_ascii_case(plain) {
        return Ok(Some(field));
    }
    if name.iter().zip(plain).all(|(byte, plain)| fold(*byte) == *plain) { Err(Alias) } else { Ok(None) }
}
