//! Tests of the HTTP/1 server over a stream in memory.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::rc::Rc;
use std::time::{Duration, UNIX_EPOCH};

use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;
use crate::http::fault::MessageFault;
use crate::http::h1::{Sizes, Times};

struct Patient;

impl ConnectionPolicy for Patient {
    fn limits(&self) -> (Sizes, Times) {
        let long = Duration::from_secs(3600);
        let times = Times { head: long, body: long, write: long, first: long, idle: long };
        (Sizes { max_header_bytes: 64 << 10, max_target_bytes: 1024 }, times)
    }

    fn stands_alone(&self, _: bool) {}

    fn must_stand_alone(&self) -> bool {
        false
    }

    fn idles(&self) {}

    fn refuse(&self, fault: MessageFault, _: Option<(&[u8], &[u8])>) -> Vec<u8> {
        format!("refused: {fault}").into_bytes()
    }
}

/// A body that announces its length or not, and may have another length.
struct Parts(Vec<&'static str>, Option<u64>);

impl Body for Parts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = if self.0.is_empty() { None } else { Some(self.0.remove(0)) };
        Poll::Ready(next.map(|part| Ok(Frame::data(Bytes::from_static(part.as_bytes())))))
    }

    fn size_hint(&self) -> SizeHint {
        self.1.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// Serves what `client` sends until the end. Returns what the client received, and how the connection ended.
async fn served<F: Future<Output = Response<Parts>>>(
    mut call: impl FnMut(Request<RequestBody>) -> F,
    client: impl AsyncFnOnce(&mut DuplexStream),
) -> (String, Result<(), ServeError<Infallible>>) {
    let (mut peer, ours) = duplex(256);
    let (clock, _) = Clock::manual(UNIX_EPOCH + Duration::from_secs(784_111_777));
    let call = |request| {
        let answer = call(request);
        async move { Box::new(answer.await) }
    };
    let mut server = Server::new(StrictStream::new(ours, Patient), clock, call);
    let serving = async {
        let ended = poll_fn(|cx| server.poll(cx)).await;
        if ended.is_ok() {
            server.into_wire().finish(false).await;
        }
        ended
    };
    let asking = async {
        client(&mut peer).await;
        peer.shutdown().await.unwrap();
        let mut got = String::new();
        peer.read_to_string(&mut got).await.unwrap();
        got
    };
    let (ended, got) = tokio::join!(serving, asking);
    (got.replace("date: Sun, 06 Nov 1994 08:49:37 GMT\r\n", ""), ended)
}

fn answer(status: u16, parts: &[&'static str], length: Option<u64>) -> Response<Parts> {
    Response::builder().status(status).body(Parts(parts.to_vec(), length)).unwrap()
}

#[tokio::test]
async fn an_answer_is_framed_to_suit_its_request_and_its_body() {
    let rows: &[(&str, fn() -> Response<Parts>, &str)] = &[
        (
            "GET / HTTP/1.1\r\n",
            || answer(200, &["ab", "c"], Some(3)),
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc",
        ),
        (
            "GET / HTTP/1.1\r\n",
            || answer(404, &["ab", "", "c"], None),
            "HTTP/1.1 404 Not Found\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
        ),
        ("GET / HTTP/1.1\r\n", || answer(204, &[], Some(0)), "HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET / HTTP/1.1\r\n", || answer(200, &[], Some(0)), "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
        ("HEAD / HTTP/1.1\r\n", || answer(200, &["abc"], Some(3)), "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n"),
        (
            "GET / HTTP/1.1\r\nConnection: x, close\r\n",
            || answer(200, &["abc"], Some(3)),
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\nabc",
        ),
        ("GET / HTTP/1.0\r\n", || answer(200, &["abc"], Some(3)), "HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\nabc"),
        (
            "GET / HTTP/1.0\r\nConnection: keep-alive\r\n",
            || answer(200, &["abc"], Some(3)),
            "HTTP/1.0 200 OK\r\ncontent-length: 3\r\nconnection: keep-alive\r\n\r\nabc",
        ),
        ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n", || answer(200, &["abc"], None), "HTTP/1.0 200 OK\r\n\r\nabc"),
    ];
    for (request, answer, expected) in rows {
        let call = |_| std::future::ready(answer());
        let sent = format!("{request}Host: a\r\n\r\n");
        let (got, ended) = served(call, async |peer| peer.write_all(sent.as_bytes()).await.unwrap()).await;
        assert_eq!(got, *expected, "{request}");
        assert!(ended.is_ok(), "{request}");
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_one_after_another() {
    let call = |request: Request<RequestBody>| async move {
        let path = request.uri().path().to_owned();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let text = format!("{path} {}", String::from_utf8_lossy(&body)).leak();
        answer(200, &[text], Some(text.len() as u64))
    };
    let sent = "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nabPOST /2 HTTP/1.1\r\nHost: a\r\n\
                Transfer-Encoding: chunked\r\n\r\n1\r\nc\r\n2\r\nde\r\n0\r\nX: y\r\n\r\nGET /3 HTTP/1.1\r\nHost: a\r\n\r\n";
    for at_once in [sent.len(), 7, 1] {
        let client = async |peer: &mut DuplexStream| {
            for piece in sent.as_bytes().chunks(at_once) {
                peer.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let (got, ended) = served(call, client).await;
        let bodies: Vec<&str> = got.split("\r\n\r\n").skip(1).map(|text| text.split("HTTP").next().unwrap()).collect();
        assert_eq!(bodies, ["/1 ab", "/2 cde", "/3 "], "{at_once}");
        assert!(ended.is_ok());
    }
}

#[tokio::test]
async fn continue_is_sent_when_the_body_is_wanted_and_not_before() {
    let head = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    let wanted = |request: Request<RequestBody>| async move {
        assert_eq!(request.into_body().collect().await.unwrap().to_bytes(), "ab");
        answer(200, &[], Some(0))
    };
    let client = async |peer: &mut DuplexStream| {
        peer.write_all(head.as_bytes()).await.unwrap();
        let mut told = [0; 25];
        peer.read_exact(&mut told).await.unwrap();
        assert_eq!(&told, b"HTTP/1.1 100 Continue\r\n\r\n");
        peer.write_all(b"ab").await.unwrap();
    };
    let (got, ended) = served(wanted, client).await;
    assert!(got.starts_with("HTTP/1.1 200 OK"), "{got}");
    assert!(ended.is_ok());
    // If nobody reads the body, it is never sent, and the connection ends.
    let unwanted = |_| std::future::ready(answer(401, &[], Some(0)));
    let (got, _) = served(unwanted, async |peer| peer.write_all(head.as_bytes()).await.unwrap()).await;
    assert!(got.starts_with("HTTP/1.1 401 Unauthorized"), "{got}");
}

#[tokio::test]
async fn an_answer_of_the_wrong_length_never_looks_complete() {
    for parts in [&["ab"][..], &["abcd"]] {
        let call = |_| std::future::ready(answer(200, parts, Some(3)));
        let (_, ended) =
            served(call, async |peer| peer.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap()).await;
        assert!(matches!(ended, Err(ServeError::WrongLength)), "{parts:?}");
    }
}

#[tokio::test]
async fn a_cut_off_body_and_a_refused_one_have_different_errors() {
    for (rest, kind) in [
        ("Content-Length: 5\r\n\r\nab", io::ErrorKind::UnexpectedEof),
        ("Transfer-Encoding: chunked\r\n\r\nZ", io::ErrorKind::InvalidData),
    ] {
        let call = |request: Request<RequestBody>| async move {
            let error = request.into_body().collect().await.unwrap_err();
            let crate::http::body::BodyError::Http1(error) = error else { panic!("{error:?}") };
            assert_eq!(error.kind(), kind);
            answer(400, &[], Some(0))
        };
        let sent = format!("POST / HTTP/1.1\r\nHost: a\r\n{rest}");
        let (got, _) = served(call, async |peer| peer.write_all(sent.as_bytes()).await.unwrap()).await;
        assert!(got.starts_with("HTTP/1.1 400 Bad Request"), "{got}");
    }
}

#[tokio::test]
async fn a_head_larger_than_one_read_is_accepted() {
    let call = |request: Request<RequestBody>| {
        assert_eq!(request.headers()["x"].len(), 40_000);
        std::future::ready(answer(200, &[], Some(0)))
    };
    let sent = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(40_000));
    let (got, ended) = served(call, async |peer| peer.write_all(sent.as_bytes()).await.unwrap()).await;
    assert!(got.starts_with("HTTP/1.1 200 OK") && ended.is_ok(), "{got}");
}

/// A policy that counts how often the connection was idle.
struct Counting(Rc<Cell<usize>>);

impl ConnectionPolicy for Counting {
    fn limits(&self) -> (Sizes, Times) {
        Patient.limits()
    }

    fn stands_alone(&self, _: bool) {}

    fn must_stand_alone(&self) -> bool {
        false
    }

    fn idles(&self) {
        self.0.set(self.0.get() + 1);
    }

    fn refuse(&self, fault: MessageFault, request: Option<(&[u8], &[u8])>) -> Vec<u8> {
        Patient.refuse(fault, request)
    }
}

#[tokio::test]
async fn after_an_unwanted_body_the_connection_is_idle_and_holds_no_buffer() {
    let (mut peer, ours) = duplex(64 << 10);
    let idled = Rc::new(Cell::new(0));
    let may_answer = Rc::new(tokio::sync::Notify::new());
    let call = |_| {
        let may_answer = may_answer.clone();
        async move {
            may_answer.notified().await;
            Box::new(answer(200, &[], Some(0)))
        }
    };
    let mut server = Server::new(StrictStream::new(ours, Counting(idled.clone())), Clock::system(), call);
    peer.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 40000\r\n\r\nabc").await.unwrap();
    let mut polled = async || poll_fn(|cx| Poll::Ready(server.poll(cx).is_pending())).await;
    assert!(polled().await);
    peer.write_all(&[b'x'; 39_997]).await.unwrap();
    may_answer.notify_one();
    assert!(polled().await, "the body has come, so the connection goes on");
    assert_eq!(idled.get(), 1);
    assert_eq!(server.read.capacity(), 0);
}

/// A body that is longer than what the client reads, and ends once the upload has ended.
struct Echo(Option<&'static [u8]>, RequestBody);

impl Body for Echo {
    type Data = Bytes;
    type Error = crate::http::body::BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Some(first) = self.0.take() {
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(first)))));
        }
        loop {
            match ready!(Pin::new(&mut self.1).poll_frame(cx)) {
                Some(Ok(_)) => {}
                other => return Poll::Ready(other),
            }
        }
    }
}

#[tokio::test]
async fn an_upload_continues_while_the_client_reads_nothing_of_the_answer() {
    let (mut peer, ours) = duplex(256);
    let call = |request: Request<RequestBody>| {
        std::future::ready(Box::new(Response::new(Echo(Some(&[b'x'; 1000]), request.into_body()))))
    };
    let mut server = Server::new(StrictStream::new(ours, Patient), Clock::system(), call);
    let asking = async {
        peer.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 5000\r\n\r\n")
            .await
            .unwrap();
        peer.write_all(&[b'u'; 5000]).await.unwrap();
        let mut got = Vec::new();
        while !got.ends_with(b"\r\n0\r\n\r\n") {
            peer.read_buf(&mut got).await.unwrap();
        }
    };
    let both = async { tokio::join!(poll_fn(|cx| server.poll(cx)), asking).0 };
    assert!(tokio::time::timeout(Duration::from_secs(10), both).await.expect("it goes on").is_ok());
}

#[tokio::test]
async fn an_answer_without_continue_closes_the_connection() {
    let sent = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    let call = |_| std::future::ready(answer(401, &[], Some(0)));
    let (got, _) = served(call, async |peer| peer.write_all(sent.as_bytes()).await.unwrap()).await;
    assert_eq!(got, "HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
}
