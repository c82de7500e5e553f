//! All faults of a request as HTTP, for both protocols, and the messages that the client gets.

use std::fmt;
use std::io;

/// How a fault is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 400, with this message, which contains nothing of the request.
    Malformed(&'static str),
    /// 414.
    TargetTooLong,
    /// 431.
    HeadersTooLarge,
    /// 408: the head did not arrive in time.
    HeadTooSlow,
    /// 408: the body did not arrive in time.
    BodyTooSlow,
}

macro_rules! faults {
    ($($variant:ident: $what:literal,)+) => {
        /// What is wrong with a request.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum MessageFault {
            $(#[doc = $what] $variant,)+
            /// `limits.max_target_bytes`.
            TargetTooLong,
            /// `limits.max_header_bytes`.
            HeadersTooLarge,
            /// More than 100.
            TooManyFields,
            /// `limits.header_timeout`.
            HeadTooSlow,
            /// `limits.body_timeout`.
            BodyTooSlow,
        }

        impl MessageFault {
            /// How it is answered.
            pub fn kind(self) -> Kind {
                match self {
                    $(Self::$variant => Kind::Malformed($what),)+
                    Self::TargetTooLong => Kind::TargetTooLong,
                    Self::HeadersTooLarge | Self::TooManyFields => Kind::HeadersTooLarge,
                    Self::HeadTooSlow => Kind::HeadTooSlow,
                    Self::BodyTooSlow => Kind::BodyTooSlow,
                }
            }
        }
    };
}

faults! {
    ControlByte: "The head of the message contains a control byte.",
    BareCr: "The head of the message contains a bare CR.",
    BareLf: "A line of the head ends in a bare LF.",
    EmptyLines: "There is more than one empty line before the message.",
    RequestLine: "The request line must be a method, a target and a version, one space apart.",
    Method: "The method is not a token of at most 32 bytes.",
    Tunnel: "CONNECT is not supported.",
    Version: "The version must be HTTP/1.1 or HTTP/1.0.",
    Target: "The request target contains an invalid byte or has an invalid form.",
    FoldedField: "A field is continued on another line.",
    SpaceBeforeColon: "There is white space between a field name and its colon.",
    FieldName: "A field name is not a token directly before a colon.",
    FieldAlias: "A field name can be taken for a framing field.",
    NoHost: "There must be exactly one Host: there is none.",
    NoAuthority: "There must be an :authority or a Host.",
    SeveralHosts: "There must be exactly one Host: there are several.",
    OddHost: "Host must be a name or an address, with or without a port.",
    OddAuthority: "The :authority must be a name or an address, with or without a port.",
    OtherHost: "The request target and Host name different hosts.",
    OddLength: "Content-Length must be one number of at most 19 digits.",
    SeveralLengths: "There must be at most one Content-Length.",
    OddCoding: "Transfer-Encoding must be chunked and nothing else.",
    SeveralCodings: "There must be at most one Transfer-Encoding.",
    OldCoding: "HTTP/1.0 has no Transfer-Encoding.",
    LengthAndCoding: "There must not be both a Content-Length and a Transfer-Encoding.",
    Truncated: "The message ended before its head was complete.",
    ChunkSize: "A chunk size must be 1 to 16 hexadecimal digits and CRLF.",
    ChunkExtension: "Chunk extensions are not supported.",
    ChunkEnd: "A chunk does not end where its size says.",
    Trailer: "The trailers are too large, or one of them belongs in the head.",
}

impl fmt::Display for MessageFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind() {
            Kind::Malformed(what) => f.write_str(what),
            kind => write!(f, "{kind:?}"),
        }
    }
}

impl std::error::Error for MessageFault {}

/// A fault in a body reaches the reader of the body as `TimedOut` or `InvalidData`.
impl From<MessageFault> for io::Error {
    fn from(fault: MessageFault) -> Self {
        let is_late = matches!(fault.kind(), Kind::HeadTooSlow | Kind::BodyTooSlow);
        Self::new(if is_late { io::ErrorKind::TimedOut } else { io::ErrorKind::InvalidData }, fault)
    }
}
