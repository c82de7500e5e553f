//! The body of a request to the service, and how it is framed.

use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Body;
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;

/// Why the body of a request that passes through ended early.
pub(crate) type Broken = Box<dyn std::error::Error + Send + Sync>;

/// The body of a request to the service: whole, or streamed from a client.
pub enum Outgoing {
    /// In memory.
    Whole(Bytes),
    /// As it arrives.
    Streamed(Streamed),
}

/// A body that arrives piece by piece.
pub struct Streamed {
    body: UnsyncBoxBody<Bytes, Broken>,
    framing: Framing,
}

/// How a body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// There is no body, and no field says so.
    Nothing,
    /// How many bytes are still to be sent.
    Length(u64),
    Chunked,
}

impl Default for Outgoing {
    fn default() -> Self {
        Self::Whole(Bytes::new())
    }
}

impl Outgoing {
    /// A body that is sent as it arrives. `says_length` is whether its request had a `Content-Length`. If it had, an empty body
    /// is sent with one too.
    pub fn streamed<B>(body: B, says_length: bool) -> Self
    where
        B: Body<Data = Bytes, Error: Into<Broken>> + Send + 'static,
    {
        let framing = match body.size_hint().exact() {
            Some(0) if !says_length => Framing::Nothing,
            Some(length) => Framing::Length(length),
            None if body.is_end_stream() => Framing::Nothing,
            None => Framing::Chunked,
        };
        Self::Streamed(Streamed { body: body.map_err(Into::into).boxed_unsync(), framing })
    }

    /// Writes the fields that frame it.
    pub(crate) fn write_framing(&self, out: &mut Vec<u8>) {
        let framing = match self {
            Self::Whole(body) if body.is_empty() => Framing::Nothing,
            Self::Whole(body) => Framing::Length(body.len() as u64),
            Self::Streamed(streamed) => streamed.framing,
        };
        match framing {
            Framing::Nothing => {}
            Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
            // Writing to a vector cannot fail.
            Framing::Length(length) => drop(write!(out, "content-length: {length}\r\n")),
        }
    }
}

impl Streamed {
    /// Writes the next piece of it, framed, or its end. Returns whether that was the end.
    ///
    /// # Errors
    /// If it breaks off, or does not have the announced length.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<io::Result<bool>> {
        loop {
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(frame) => frame.map_err(io::Error::other)?,
                None => {
                    return Poll::Ready(match self.framing {
                        Framing::Nothing | Framing::Length(0) => Ok(true),
                        Framing::Length(_) => Err(io::ErrorKind::UnexpectedEof.into()),
                        Framing::Chunked => {
                            out.extend_from_slice(b"0\r\n\r\n");
                            Ok(true)
                        }
                    });
                }
            };
            // Trailers are dropped; an empty chunk would end the body.
            let Some(data) = frame.into_data().ok().filter(|data| !data.is_empty()) else { continue };
            match &mut self.framing {
                Framing::Chunked => {
                    drop(write!(out, "{:x}\r\n", data.len()));
                    out.extend_from_slice(&data);
                    out.extend_from_slice(b"\r\n");
                }
                Framing::Nothing => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
                Framing::Length(left) => {
                    *left = left.checked_sub(data.len() as u64).ok_or(io::ErrorKind::InvalidData)?;
                    out.extend_from_slice(&data);
                }
            }
            return Poll::Ready(Ok(false));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::task::Waker;

    use http_body::{Frame, SizeHint};
    use http_body_util::Full;

    use super::*;

    /// The written form of a body: its framing fields, then its content.
    fn written(body: Outgoing) -> (String, Option<io::ErrorKind>) {
        let (mut fields, mut out) = (Vec::new(), Vec::new());
        body.write_framing(&mut fields);
        let Outgoing::Streamed(mut body) = body else { panic!("it streams") };
        let mut cx = Context::from_waker(Waker::noop());
        let error = loop {
            match body.poll_next(&mut cx, &mut out) {
                Poll::Ready(Ok(true)) => break None,
                Poll::Ready(Ok(false)) => {}
                Poll::Ready(Err(error)) => break Some(error.kind()),
                Poll::Pending => panic!("all of it is there"),
            }
        };
        (String::from_utf8([fields, out].concat()).unwrap(), error)
    }

    /// Arrives in these pieces; the second value is the announced length.
    struct Bits(std::slice::Iter<'static, &'static str>, Option<u64>);

    fn bits(bits: &'static [&'static str], told: Option<u64>) -> Outgoing {
        Outgoing::streamed(Bits(bits.iter(), told), told.is_some())
    }

    impl Body for Bits {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.next().map(|bit| Ok(Frame::data(Bytes::from_static(bit.as_bytes())))))
        }

        fn size_hint(&self) -> SizeHint {
            self.1.map_or_else(SizeHint::default, SizeHint::with_exact)
        }
    }

    #[test]
    fn a_body_is_framed_as_announced() {
        let chunked = written(bits(&["ab", "", "c"], None));
        assert_eq!(chunked, ("transfer-encoding: chunked\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n".into(), None));
        let told = written(bits(&["ab", "c"], Some(3)));
        assert_eq!(told, ("content-length: 3\r\nabc".into(), None));
        let nothing = || Full::<Bytes>::default();
        assert_eq!(written(Outgoing::streamed(nothing(), false)), (String::new(), None));
        assert_eq!(written(Outgoing::streamed(nothing(), true)), ("content-length: 0\r\n".into(), None));
    }

    #[test]
    fn a_body_of_the_wrong_length_never_looks_complete() {
        let short = written(bits(&["ab"], Some(3)));
        assert_eq!(short.1, Some(io::ErrorKind::UnexpectedEof));
        let long = written(bits(&["ab", "cd"], Some(3)));
        assert_eq!(long, ("content-length: 3\r\nab".into(), Some(io::ErrorKind::InvalidData)));
    }
}
