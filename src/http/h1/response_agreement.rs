//! The differential check of responses: hyper reads every response that is accepted here with the same status,
//! fields and content. It runs on generated responses in the tests, and on any bytes in the fuzz target.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::response_body::{Framing, MalformedResponse};
use super::response_head;
use crate::http::fields;

/// An answer as a reader understood it.
#[derive(Debug, PartialEq)]
struct Read {
    status: StatusCode,
    headers: HeaderMap,
    content: Vec<u8>,
}

/// Reads any bytes as a response of the service. The first byte sets the size of the pieces.
pub(crate) fn fuzz(bytes: &[u8]) {
    if let Some((cut, bytes)) = bytes.split_first() {
        check(bytes, 1 + usize::from(*cut));
    }
}

/// Reads `bytes` as an answer, in pieces of `at_once` bytes. Returns whether it was accepted to its end.
///
/// # Panics
/// If the size of the pieces matters, or hyper reads another answer.
fn check(bytes: &[u8], at_once: usize) -> bool {
    // The reason of a refusal may depend on how much has arrived.
    let read = |at_once| ours(bytes, at_once).map_err(drop);
    let here = read(at_once.max(1));
    assert_eq!(here, read(bytes.len().max(1)), "however it is cut: {:?}", String::from_utf8_lossy(bytes));
    let Ok(Some(here)) = here else { return false };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let theirs = runtime.block_on(hypers(bytes.to_vec()));
    let theirs = theirs.map(|theirs| Read { headers: relayed(&theirs.headers), ..theirs });
    assert_eq!(Some(here), theirs, "{:?}", String::from_utf8_lossy(bytes));
    true
}

/// The answer as it is read here, in pieces, until the server closes; `None` if it is not a whole answer.
fn ours(bytes: &[u8], at_once: usize) -> Result<Option<Read>, MalformedResponse> {
    let mut unread = BytesMut::new();
    let mut pieces = bytes.chunks(at_once);
    let (mut read, mut body) = loop {
        let Some(piece) = pieces.next() else { return Ok(None) };
        unread.extend_from_slice(piece);
        if let Some(head) = response_head::take(&mut unread, false)? {
            let (parts, ()) = head.answer.into_parts();
            break (Read { status: parts.status, headers: parts.headers, content: Vec::new() }, head.body);
        }
    };
    loop {
        while let Some(content) = body.take(&mut unread)? {
            read.content.extend_from_slice(&content);
        }
        match pieces.next() {
            _ if body.is_over() => return Ok(Some(read)),
            Some(piece) => unread.extend_from_slice(piece),
            None => return Ok((body == Framing::UntilClose).then_some(read)),
        }
    }
}

/// The answer as hyper reads it.
async fn hypers(bytes: Vec<u8>) -> Option<Read> {
    let (near, mut far) = tokio::io::duplex(1 << 16);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near)).await.ok()?;
    tokio::spawn(connection);
    tokio::spawn(async move {
        drop(far.read(&mut [0; 1024]).await);
        drop(far.write_all(&bytes).await);
    });
    let answer: Response<_> = sender.send_request(Request::new(Empty::<Bytes>::new())).await.ok()?;
    let (parts, body) = answer.into_parts();
    let content = body.collect().await.ok()?.to_bytes().to_vec();
    Some(Read { status: parts.status, headers: parts.headers, content })
}

/// The fields that are passed on, by the same rule.
fn relayed(headers: &HeaderMap) -> HeaderMap {
    let connection = || headers.get_all("connection").iter().map(http::HeaderValue::as_bytes);
    let recoded = headers.contains_key("transfer-encoding");
    let goes_on =
        |name: &str| !(fields::ends_at_answer(name.as_bytes(), connection) || recoded && name == "content-length");
    headers.iter().filter(|(name, _)| goes_on(name.as_str())).map(|(n, v)| (n.clone(), v.clone())).collect()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;
    use proptest::strategy::ValueTree;

    use super::*;

    fn made_up() -> impl Strategy<Value = String> {
        let status = select(vec![
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 299 \r\n",
            "HTTP/1.0 200 OK\r\n",
            "HTTP/1.1 204 No Content\r\n",
            "HTTP/1.1 304 Not Modified\r\n",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Not Found\r\n",
            "HTTP/1.1 200\r\n",
        ]);
        let field = select(vec![
            "Content-Length: 5\r\n",
            "content-length:5 \r\n",
            "Content-Length: 0\r\n",
            "Content-Length: 6\r\n",
            "Transfer-Encoding: chunked\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Connection: close\r\n",
            "Connection: keep-alive, X-One\r\n",
            "X-One: 1\r\n",
            "X-Two:\t2 \r\n",
            "X-Two: \r\n",
            "Set-Cookie: \u{e9}\r\n",
            "X-Saltgate-Role: OWNER\r\n",
            "X Odd: 1\r\n",
            "X-Folded: 1\r\n 2\r\n",
            "X-Bare: 1\n",
        ]);
        let body = select(vec![
            "",
            "hello",
            "5\r\nhello\r\n0\r\n\r\n",
            "5\r\nhello\r\n5;x=\"y\"\r\nworld\r\n0\r\nX-Trailer: 1\r\n\r\n",
            "5\r\nhello\r\n",
            "5\r\nhelloo\r\n0\r\n\r\n",
            "05\r\nhello\r\n00\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
            "5 \r\nhello\r\n0\r\n\r\n",
        ]);
        (status, vec(field, 0..5), body)
            .prop_map(|(status, fields, body)| [status, &fields.concat(), "\r\n", body].concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn hyper_reads_accepted_responses_the_same_way(answer in made_up(), at_once in 1_usize..64) {
            check(answer.as_bytes(), at_once);
        }
    }

    #[test]
    fn generated_responses_are_often_but_not_always_accepted() {
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let taken = (0..500).filter(|_| {
            let answer = made_up().new_tree(&mut runner).unwrap().current();
            check(answer.as_bytes(), 7)
        });
        assert!((50..450).contains(&taken.count()));
    }
}
