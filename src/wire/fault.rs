use std::fmt;
use std::io;

macro_rules! faults {
    ($($variant:ident: $kind:ident = $what:literal,)+) => {
        /// What is wrong with a message as it stands on the wire.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "each says it in its text")]
        pub enum Fault { $($variant,)+ }

        impl Fault {
            /// How it is answered.
            pub fn kind(self) -> Kind {
                match self { $(Self::$variant => Kind::$kind,)+ }
            }

            /// What is wrong, for the caller and the log: nothing of the message is in it.
            pub fn what(self) -> &'static str {
                match self { $(Self::$variant => $what,)+ }
            }
        }
    };
}

/// How a fault is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 400.
    Malformed,
    /// 414.
    TargetTooLong,
    /// 431.
    HeadersTooLarge,
    /// 408.
    TooSlow,
}

faults! {
    ControlByte: Malformed = "The head of the message has a control byte.",
    BareCr: Malformed = "The head of the message has a bare CR.",
    BareLf: Malformed = "A line of the head ends in a bare LF.",
    EmptyLines: Malformed = "There is more than one empty line before the message.",
    RequestLine: Malformed = "The request line must be a method, a target and a version, one space apart.",
    Method: Malformed = "The method is not a token of at most 32 bytes.",
    Tunnel: Malformed = "This is no tunnel: CONNECT is not taken.",
    Version: Malformed = "The version must be HTTP/1.1 or HTTP/1.0.",
    Target: Malformed = "The request target has a byte or a form that no request target has.",
    TargetTooLong: TargetTooLong = "The request target is too long.",
    HeadersTooLarge: HeadersTooLarge = "The header section is too large.",
    TooManyFields: HeadersTooLarge = "The header section has more than 100 fields.",
    FoldedField: Malformed = "A field is continued on another line.",
    SpaceBeforeColon: Malformed = "There is white space between a field name and its colon.",
    FieldName: Malformed = "A field name is not a token directly before a colon.",
    FieldAlias: Malformed = "A field name can be taken for a framing field.",
    NoHost: Malformed = "There must be exactly one Host: there is none.",
    SeveralHosts: Malformed = "There must be exactly one Host: there are several.",
    OddHost: Malformed = "Host must be a name or an address, and a port or none.",
    OtherHost: Malformed = "The request target and Host name different hosts.",
    OddLength: Malformed = "Content-Length must be one number of at most 19 digits.",
    SeveralLengths: Malformed = "There must be at most one Content-Length.",
    OddCoding: Malformed = "Transfer-Encoding must be chunked and nothing else.",
    SeveralCodings: Malformed = "There must be at most one Transfer-Encoding.",
    OldCoding: Malformed = "HTTP/1.0 has no Transfer-Encoding.",
    LengthAndCoding: Malformed = "There must not be a Content-Length beside a Transfer-Encoding.",
    Truncated: Malformed = "The message ended before its head was whole.",
    HeadTooSlow: TooSlow = "The head did not come in time.",
    ChunkSize: Malformed = "A chunk size must be 1 to 16 hexadecimal digits and CRLF.",
    ChunkExtension: Malformed = "Chunk extensions are not taken.",
    ChunkEnd: Malformed = "A chunk does not end where its size says.",
    Trailer: Malformed = "The trailers are too large, or one of them belongs into the head.",
    BodyTooSlow: TooSlow = "The body did not come in time.",
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what())
    }
}

impl std::error::Error for Fault {}

/// How a fault in a body reaches who reads the body: `TimedOut` or `InvalidData`.
impl From<Fault> for io::Error {
    fn from(fault: Fault) -> Self {
        let kind = if fault.kind() == Kind::TooSlow { io::ErrorKind::TimedOut } else { io::ErrorKind::InvalidData };
        Self::new(kind, fault)
    }
}
