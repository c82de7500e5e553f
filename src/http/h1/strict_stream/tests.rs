//! Tests of the strict stream over a stream in memory.

use std::future::poll_fn;

use super::*;

const SIZES: Sizes = Sizes { max_header_bytes: 256, max_target_bytes: 64 };

/// A policy whose limits can change, and which records what it refused.
#[derive(Clone)]
struct Recorder(std::sync::Arc<std::sync::Mutex<(Sizes, Vec<(MessageFault, Option<String>)>)>>);

impl Recorder {
    fn new() -> Self {
        Self(std::sync::Arc::new(std::sync::Mutex::new((SIZES, Vec::new()))))
    }
}

impl ConnectionPolicy for Recorder {
    fn limits(&self) -> (Sizes, Times) {
        let long = Duration::from_secs(3600);
        (self.0.lock().unwrap().0, Times { head: long, body: long, write: long, first: long, idle: long })
    }

    fn stands_alone(&self, _: bool) {}

    fn idles(&self) {}

    fn must_stand_alone(&self) -> bool {
        false
    }

    fn refuse(&self, fault: MessageFault, request: Option<(&[u8], &[u8])>) -> Vec<u8> {
        let line = request.map(|(method, target)| String::from_utf8([method, b" ", target].concat()).unwrap());
        self.0.lock().unwrap().1.push((fault, line));
        b"refused".to_vec()
    }
}

/// A policy whose messages must stand alone.
#[derive(Clone)]
struct Alone(Recorder);

impl ConnectionPolicy for Alone {
    fn limits(&self) -> (Sizes, Times) {
        self.0.limits()
    }

    fn stands_alone(&self, alone: bool) {
        self.0.0.lock().unwrap().1.extend((!alone).then_some((MessageFault::Truncated, None)));
    }

    fn must_stand_alone(&self) -> bool {
        true
    }

    fn idles(&self) {}

    fn refuse(&self, fault: MessageFault, request: Option<(&[u8], &[u8])>) -> Vec<u8> {
        self.0.refuse(fault, request)
    }
}

#[tokio::test]
async fn bytes_before_the_answer_to_a_message_that_must_stand_alone_are_never_passed_on() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let one = b"DELETE / HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut piece = [0; 256];
    // Bytes after the answer are the next message.
    let (mut peer, ours) = tokio::io::duplex(256);
    let mut wire = StrictStream::new(ours, Alone(Recorder::new()));
    for _ in 0..2 {
        peer.write_all(one).await.unwrap();
        assert_eq!(wire.read(&mut piece).await.unwrap(), one.len());
        wire.write_all(b"answer").await.unwrap();
    }
    // Bytes before the answer are not, whether or not the stream was checked meanwhile.
    for looked in [true, false] {
        let (mut peer, ours) = tokio::io::duplex(256);
        let told = Recorder::new();
        let mut wire = StrictStream::new(ours, Alone(told.clone()));
        peer.write_all(one).await.unwrap();
        assert_eq!(wire.read(&mut piece).await.unwrap(), one.len());
        peer.write_all(one).await.unwrap();
        if looked {
            poll_fn(|cx| Poll::Ready(wire.look(cx))).await.unwrap();
            assert_eq!(told.0.lock().unwrap().1.len(), 1, "it is logged before there is an answer");
        }
        wire.write_all(b"answer").await.unwrap();
        assert_eq!(wire.read(&mut piece).await.unwrap(), 0);
    }
}

/// Everything that passes through when this much is read at once into this much room, and what the peer receives.
async fn through(bytes: Vec<u8>, at_once: usize, room: usize) -> (Vec<u8>, Vec<u8>, Recorder) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (mut peer, ours) = tokio::io::duplex(64);
    let told = Recorder::new();
    let mut wire = StrictStream::new(ours, told.clone());
    let peer = tokio::spawn(async move {
        for piece in bytes.chunks(at_once) {
            let _ = peer.write_all(piece).await;
        }
        peer.shutdown().await.unwrap();
        let mut answer = Vec::new();
        peer.read_to_end(&mut answer).await.unwrap();
        answer
    });
    let (mut all, mut piece) = (Vec::new(), vec![0; room]);
    while let Ok(read @ 1..) = wire.read(&mut piece).await {
        all.extend_from_slice(&piece[..read]);
    }
    wire.finish(false).await;
    (all, peer.await.unwrap(), told)
}

#[tokio::test]
async fn bytes_pass_unchanged_up_to_the_refusal() {
    let good = "\r\nPOST /a?b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello\
                POST / HTTP/1.1\r\nHost: a\r\nX:\t y \r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nT: u\r\n\r\n"
        .repeat(3);
    let bad = format!("{good}GET /a?secret HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n{good}");
    for (at_once, room) in [(1, 1), (1, 4096), (7, 3), (4096, 5), (4096, 4096)] {
        let (all, answer, told) = through(good.clone().into_bytes(), at_once, room).await;
        assert_eq!(String::from_utf8(all).unwrap(), good, "{at_once} at once, room for {room}");
        assert_eq!((answer.as_slice(), told.0.lock().unwrap().1.len()), (&b""[..], 0));

        let (all, answer, told) = through(bad.clone().into_bytes(), at_once, room).await;
        assert_eq!(String::from_utf8(all).unwrap(), good, "{at_once} at once, room for {room}");
        assert_eq!(answer, b"refused");
        assert_eq!(told.0.lock().unwrap().1, [(MessageFault::SeveralHosts, Some("GET /a?secret".to_owned()))]);
    }
}

#[tokio::test]
async fn one_message_passes_at_a_time_with_the_limits_then_in_force() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let first = "GET /first HTTP/1.1\r\nHost: a\r\n\r\n";
    let (mut peer, ours) = tokio::io::duplex(4096);
    let told = Recorder::new();
    let mut wire = StrictStream::new(ours, told.clone());
    peer.write_all(format!("{first}GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(20)).as_bytes()).await.unwrap();
    let mut piece = [0; 4096];
    let read = wire.read(&mut piece).await.unwrap();
    assert_eq!(&piece[..read], first.as_bytes());
    told.0.lock().unwrap().0.max_target_bytes = 16;
    assert_eq!(wire.read(&mut piece).await.unwrap(), 0, "the second is over the new limit");
    assert_eq!(told.0.lock().unwrap().1, [(MessageFault::TargetTooLong, None)]);
}

#[tokio::test]
async fn a_refused_body_is_an_error_for_its_reader_and_has_no_answer_here() {
    use std::io::ErrorKind;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (mut peer, ours) = tokio::io::duplex(4096);
    let told = Recorder::new();
    let mut wire = StrictStream::new(ours, told.clone());
    peer.write_all(format!("{head}2\r\nhi!!\r\n").as_bytes()).await.unwrap();
    let mut piece = [0; 4096];
    let read = wire.read(&mut piece).await.unwrap();
    assert_eq!(&piece[..read], format!("{head}2\r\nhi").as_bytes());
    assert_eq!(wire.read(&mut piece).await.unwrap_err().kind(), ErrorKind::InvalidData);
    peer.shutdown().await.unwrap();
    wire.finish(false).await;
    let mut answer = Vec::new();
    peer.read_to_end(&mut answer).await.unwrap();
    assert_eq!((answer.as_slice(), told.0.lock().unwrap().1.len()), (&b""[..], 0));
}
