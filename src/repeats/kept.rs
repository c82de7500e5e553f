//! How a request ended, and its answer as it is kept for repeats.

use bytes::Bytes;
use http::HeaderValue;

/// The longest body that is kept for a repeat, in bytes.
pub(crate) const KEPT_BODY: usize = 4 << 10;

/// How a request that spent its salt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Became {
    /// It has not ended yet.
    UnderWay,
    /// The service confirmed the deletion (2xx).
    Deleted,
    /// The service answered with another status.
    RefusedByUpstream,
    /// The gateway refused it and did not send it.
    Refused,
    /// The gateway or the connection to the service failed before it was sent.
    NotSent,
    /// It was a dry run.
    Rehearsed,
    /// It may have been sent, and no answer came.
    Unknown,
    /// Another gateway of the fleet, or this one before a restart, handled it and has not stored how it ended.
    Elsewhere,
}

impl Became {
    /// All values, in the order of the metrics.
    pub const ALL: [Self; 8] = [
        Self::UnderWay,
        Self::Deleted,
        Self::RefusedByUpstream,
        Self::Refused,
        Self::NotSent,
        Self::Rehearsed,
        Self::Unknown,
        Self::Elsewhere,
    ];

    /// The name in logs, in the record, and in the label `first`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnderWay => "under_way",
            Self::Deleted => "deleted",
            Self::RefusedByUpstream => "refused_by_upstream",
            Self::Refused => "refused",
            Self::NotSent => "not_sent",
            Self::Rehearsed => "rehearsed",
            Self::Unknown => "unknown",
            Self::Elsewhere => "elsewhere",
        }
    }

    /// The value with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|became| became.as_str() == name)
    }
}

/// The part of an answer that is kept for repeats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptAnswer {
    /// The HTTP status.
    pub status: u16,
    /// `Content-Type`, where there was one.
    pub content_type: Option<HeaderValue>,
    /// The body; `None` if it was longer than [`KEPT_BODY`] or incomplete.
    pub body: Option<Bytes>,
}

impl KeptAnswer {
    /// An answer of the gateway itself.
    pub fn own(status: u16, body: Bytes) -> Self {
        Self { status, content_type: Some(HeaderValue::from_static("application/json")), body: Some(body) }
    }
}

/// The format in which an answer is stored for other gateways: one line, then the content type and the body.
pub(crate) struct Shared;

impl Shared {
    /// Writes the answer to the request with this id.
    pub(crate) fn write(id: &str, became: Became, answer: &KeptAnswer) -> Vec<u8> {
        let content_type = answer.content_type.as_ref().map_or(&[][..], HeaderValue::as_bytes);
        let body = answer.body.as_ref();
        let length = body.map_or_else(|| "-".to_owned(), |body| body.len().to_string());
        let mut text =
            format!("1 {id} {} {} {} {length}\n", became.as_str(), answer.status, content_type.len()).into_bytes();
        text.extend_from_slice(content_type);
        text.extend(body.into_iter().flatten());
        text
    }

    /// Reads the answer to the request with this id; `None` if the text belongs to another request or is not
    /// understood.
    pub(crate) fn read(text: &[u8], id: &str) -> Option<(Became, KeptAnswer)> {
        let end = text.iter().position(|byte| *byte == b'\n')?;
        let (line, rest) = (std::str::from_utf8(&text[..end]).ok()?, &text[end + 1..]);
        let mut words = line.split(' ');
        let mut word = || words.next();
        if (word()?, word()?) != ("1", id) {
            return None;
        }
        let became = Became::named(word()?)?;
        let status = number(word()?).and_then(|n| u16::try_from(n).ok()).filter(|n| (200..600).contains(n))?;
        let content_type = rest.get(..number(word()?)?)?;
        let body = &rest[content_type.len()..];
        let body = match word()? {
            "-" => body.is_empty().then_some(None)?,
            length => Some(Bytes::copy_from_slice(body)).filter(|body| number(length) == Some(body.len())).map(Some)?,
        };
        let content_type = match content_type {
            [] => None,
            text => Some(HeaderValue::from_bytes(text).ok()?),
        };
        word().is_none().then_some((became, KeptAnswer { status, content_type, body }))
    }
}

/// A number without a sign or leading zeros.
fn number(text: &str) -> Option<usize> {
    text.parse().ok().filter(|number: &usize| number.to_string() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_stored_answers_are_read_back() {
        let answers = [
            KeptAnswer::own(401, Bytes::from_static(b"{}")),
            KeptAnswer { status: 204, content_type: None, body: Some(Bytes::new()) },
            KeptAnswer {
                status: 200,
                content_type: Some(HeaderValue::from_static("text/plain")),
                body: Some(Bytes::from_static(b"a\n\xff\0")),
            },
            KeptAnswer { status: 200, content_type: Some(HeaderValue::from_static("text/plain")), body: None },
        ];
        for answer in answers {
            for became in Became::ALL {
                let text = Shared::write("0af", became, &answer);
                assert_eq!(Shared::read(&text, "0af"), Some((became, answer.clone())));
                assert_eq!(Shared::read(&text, "0ae"), None, "another request");
                assert_eq!(Shared::read(&text[..text.len() - 1], "0af"), None, "cut off");
                assert_eq!(Shared::read(&[&text[..], b"x"].concat(), "0af"), None, "more than there was");
            }
        }
        for odd in [
            "",
            "\n",
            "2 0af deleted 200 0 0\n",
            "1 0af deleted 200 0\n",
            "1 0af deleted 200 0 0 0\n",
            "1 0af gone 200 0 0\n",
            "1 0af deleted 100 0 0\n",
            "1 0af deleted +200 0 0\n",
            "1 0af deleted 65736 0 0\n",
            "1 0af deleted 200 9 0\n",
            "1 0af deleted 200 18446744073709551616 0\n",
        ] {
            assert_eq!(Shared::read(odd.as_bytes(), "0af"), None, "{odd:?}");
        }
    }
}
