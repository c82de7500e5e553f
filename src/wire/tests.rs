use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::agreement::check;
use super::*;

const SIZES: Sizes = Sizes { max_header_bytes: 256, max_target_bytes: 64 };

/// What becomes of these bytes: how many messages they are, or what is wrong.
fn told(bytes: &[u8], at_once: usize) -> Result<usize, Fault> {
    let (mut reader, mut accepted, mut there, mut messages) = (Reader::default(), 0, 0, 0);
    while there < bytes.len() {
        there = (there + at_once).min(bytes.len());
        while let Some(part) = reader.accept(&bytes[accepted..there], &SIZES)? {
            accepted += part.bytes;
            messages += usize::from(part.ends);
        }
    }
    Ok(messages)
}

fn however_it_is_cut(name: &str, bytes: &[u8], expected: Result<usize, Fault>) {
    for at_once in [1, 2, 3, 7, bytes.len()] {
        assert_eq!(told(bytes, at_once), expected, "{name}, {at_once} bytes at once");
    }
}

#[test]
fn what_leaves_no_two_readings_is_accepted_however_it_is_cut() {
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(200));
    let full = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(256 - 9 - 5));
    let target = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(63));
    let rows: &[(&str, &str, usize)] = &[
        ("no body", "DELETE / HTTP/1.1\r\nHost: a\r\n\r\n", 1),
        ("two messages", "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 2),
        ("an empty line between", "GET / HTTP/1.1\r\nHost: a\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 2),
        ("a length", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET", 1),
        ("a length of nothing", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", 1),
        ("a body like a head", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 22\r\n\r\nContent-Length: 1\nX\n\n\n", 1),
        (
            "chunks",
            "GET / HTTP/1.1\r\nHost: a\r\ntransfer-encoding:Chunked\r\n\r\n3\r\n\n\n\n\r\n0A\r\n0123456789\r\n0\r\n\r\n",
            1,
        ),
        ("trailers", "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\nZ: z\r\n\r\nGET", 1),
        ("HTTP/1.0", "GET / HTTP/1.0\r\nHost: a\r\n\r\n", 1),
        ("absolute form", "GET http://A.b:80/x HTTP/1.1\r\nHost: a.B:80\r\n\r\n", 1),
        ("the server itself", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 1),
        ("an address of version 6", "GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n", 1),
        ("a long field", &long, 1),
        ("a full header section", &full, 1),
        ("a full target", &target, 1),
        ("half a head", "GET / HTTP/1.1\r\nHo", 0),
        ("half a body", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhell", 0),
        ("half a chunk size", "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r", 0),
    ];
    for (name, bytes, messages) in rows {
        however_it_is_cut(name, bytes.as_bytes(), Ok(*messages));
    }
    however_it_is_cut("a value beyond ASCII", "GET / HTTP/1.1\r\nHost: a\r\nX: 권한\r\n\r\n".as_bytes(), Ok(1));
}

#[test]
fn every_fault_is_seen_for_what_it_is() {
    use Fault as F;
    let chunked = |rest: &str| format!("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{rest}");
    let fields = |lines: &str| format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n");
    let first = |line: &str| format!("{line}\r\nHost: a\r\n\r\n");
    let rows: Vec<(String, Fault)> = vec![
        (first("GET / HTTP/1.1\0"), F::ControlByte),
        (fields("X: \x01"), F::ControlByte),
        (fields("X: \x7f"), F::ControlByte),
        (fields("X: a\rb"), F::BareCr),
        (fields("X\r: a"), F::BareCr),
        (first("GET /\rx HTTP/1.1"), F::BareCr),
        ("GET / HTTP/1.1\nHost: a\r\n\r\n".into(), F::BareLf),
        (fields("X: a\nY: b"), F::BareLf),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n".into(), F::BareLf),
        ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".into(), F::EmptyLines),
        (first("GET /"), F::RequestLine),
        (first("GET  / HTTP/1.1"), F::RequestLine),
        (first("GET / x HTTP/1.1"), F::RequestLine),
        (first("GET / HTTP/1.1 "), F::RequestLine),
        (first(" GET / HTTP/1.1"), F::Method),
        (first("G(T / HTTP/1.1"), F::Method),
        (first(&format!("{} / HTTP/1.1", "G".repeat(33))), F::Method),
        (first("CONNECT a:1 HTTP/1.1"), F::Tunnel),
        (first("GET / HTTP/1.2"), F::Version),
        (first("GET / HTTP/2.0"), F::Version),
        (first("GET / http/1.1"), F::Version),
        (first("GET /#x HTTP/1.1"), F::Target),
        (first("GET /\u{e9} HTTP/1.1"), F::Target),
        (first("GET x HTTP/1.1"), F::Target),
        (first("GET * HTTP/1.1"), F::Target),
        (first("GET ftp://a/ HTTP/1.1"), F::Target),
        (first(&format!("GET /{} HTTP/1.1", "x".repeat(64))), F::TargetTooLong),
        (format!("GET /{}", "x".repeat(64)), F::TargetTooLong),
        (fields(&format!("X: {}", "x".repeat(256 - 9 - 4))), F::HeadersTooLarge),
        (format!("GET / HTTP/1.1\r\n{}", "x".repeat(259)), F::HeadersTooLarge),
        (fields("X: a\r\n b"), F::FoldedField),
        (fields("Content-Length : 1"), F::SpaceBeforeColon),
        (fields("X"), F::FieldName),
        (fields(": x"), F::FieldName),
        (fields("X(: x"), F::FieldName),
        (fields("Content_Length: 1"), F::FieldAlias),
        (fields("transfer.encoding: chunked"), F::FieldAlias),
        ("GET / HTTP/1.1\r\nX: a\r\n\r\n".into(), F::NoHost),
        ("GET / HTTP/1.0\r\n\r\n".into(), F::NoHost),
        (fields("Host: a"), F::SeveralHosts),
        ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n".into(), F::OddHost),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n".into(), F::OddHost),
        ("GET / HTTP/1.1\r\nHost: a:70000\r\n\r\n".into(), F::OddHost),
        ("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n".into(), F::OddHost),
        (first("GET http://b/ HTTP/1.1"), F::OtherHost),
        (fields("Content-Length: +1"), F::OddLength),
        (fields("Content-Length: 1, 1"), F::OddLength),
        (fields("Content-Length:  1"), F::OddLength),
        (fields("Content-Length: 1 "), F::OddLength),
        (fields("Content-Length: 10000000000000000000"), F::OddLength),
        (fields("Content-Length: 1\r\nContent-Length: 1"), F::SeveralLengths),
        (fields("Transfer-Encoding: gzip, chunked"), F::OddCoding),
        (fields("Transfer-Encoding: \tchunked"), F::OddCoding),
        (fields("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), F::SeveralCodings),
        ("GET / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".into(), F::OldCoding),
        (fields("Content-Length: 1\r\nTransfer-Encoding: chunked"), F::LengthAndCoding),
        (fields("Transfer-Encoding: chunked\r\nContent-Length: 1"), F::LengthAndCoding),
        (chunked("\r\n"), F::ChunkSize),
        (chunked("1 \r\nx\r\n"), F::ChunkSize),
        (chunked("-1\r\n"), F::ChunkSize),
        (chunked("0x1\r\nx\r\n"), F::ChunkSize),
        (chunked("1\nx\r\n"), F::ChunkSize),
        (chunked("00000000000000001\r\n"), F::ChunkSize),
        (chunked("1;a=b\r\nx\r\n"), F::ChunkExtension),
        (chunked("1\r\nxy\r\n"), F::ChunkEnd),
        (chunked("1\r\nx\n0\r\n\r\n"), F::ChunkEnd),
        (chunked("0\r\nContent-Length: 1\r\n\r\n"), F::Trailer),
        (chunked("0\r\nX: y\n\r\n"), F::BareLf),
        (chunked(&format!("0\r\nX: {}", "x".repeat(9 << 10))), F::Trailer),
    ];
    for (bytes, fault) in rows {
        however_it_is_cut(&format!("{bytes:.60?}"), bytes.as_bytes(), Err(fault));
        let second = format!("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi{bytes}");
        if fault != F::EmptyLines {
            however_it_is_cut(&format!("behind another: {bytes:.60?}"), second.as_bytes(), Err(fault));
        }
    }
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X:\r\n".repeat(100));
    let sizes = Sizes { max_header_bytes: 4096, max_target_bytes: 64 };
    assert_eq!(Reader::default().accept(many.as_bytes(), &sizes), Err(F::TooManyFields));
}

/// Lines that are nearly right, so that whole messages often are.
fn message() -> impl Strategy<Value = String> {
    let line = select(
        &[
            "DELETE /x HTTP/1.1",
            "GET / HTTP/1.1",
            "POST /?a=b HTTP/1.0",
            "GET http://a/ HTTP/1.1",
            "GET http://a HTTP/1.1",
            "OPTIONS * HTTP/1.1",
            "GET /{\"a\"|b}?`^ HTTP/1.1",
            "get /%00%zz HTTP/1.1",
            "GET http://a?x HTTP/1.1",
            "CONNECT a HTTP/1.1",
        ][..],
    );
    let field = select(
        &[
            "X: y",
            "X:",
            "Y:  spaced\t ",
            "Connection: close",
            "Connection: keep-alive",
            "Connection: a, Close",
            "Expect: 100-continue",
            "Upgrade: h2c",
            "TE: trailers",
            "Trailer: X",
            "Z: \u{ad8c}\u{d55c}",
            "Content_Length: 3",
            "Keep-Alive: 5",
            "Proxy-Connection: close",
        ][..],
    );
    let host = prop_oneof![9 => Just("Host: a"), 1 => select(&["", "Host: b", "host:a", "Host: a\r\nHost: a"][..])];
    let body = prop_oneof![
        3 => Just((String::new(), String::new())),
        3 => (0_usize..6, 0_usize..6, any::<bool>()).prop_map(|(said, there, honest)| {
            let there = if honest { said } else { there };
            (format!("Content-Length: {said}\r\n"), "GET / ".chars().take(there).collect())
        }),
        4 => (vec((0_usize..12, any::<bool>()), 0..4), select(&["", "T: u\r\n", "T: u\r\nV:w\r\n", "Content-Length: 1\r\n"][..]))
            .prop_map(|(chunks, trailers)| {
                let chunk = |(size, upper): &(usize, bool)| match size {
                    0 => String::new(),
                    _ if *upper => format!("{size:X}\r\n{}\r\n", "\r\n0\r\n\r\nGET / ".chars().cycle().take(*size).collect::<String>()),
                    _ => format!("00{size:x}\r\n{}\r\n", "x".repeat(*size)),
                };
                let chunks: String = chunks.iter().map(chunk).collect();
                ("Transfer-Encoding: chunked\r\n".into(), format!("{chunks}0\r\n{trailers}\r\n"))
            }),
    ];
    (select(&["", "", "", "\r\n"][..]), line, host, vec(field, 0..3), body).prop_map(
        |(blank, line, host, fields, (framing, body))| {
            let host = if host.is_empty() { String::new() } else { format!("{host}\r\n") };
            let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
            format!("{blank}{line}\r\n{host}{fields}{framing}\r\n{body}")
        },
    )
}

/// A small change somewhere: what smuggling is made of.
fn change() -> impl Strategy<Value = Option<(Index, bool, &'static str)>> {
    let text = select(
        &[
            "\r",
            "\n",
            "\0",
            " ",
            "\t",
            ":",
            ";",
            ",",
            "0",
            "1",
            "f",
            "+",
            "-",
            "\r\n",
            "\r\n ",
            "\r\n\r\n",
            "\n\n",
            "#",
            "\u{b}",
            "\u{85}",
            "Content-Length: 1\r\n",
            "Transfer-Encoding: chunked\r\n",
            "Transfer-Encoding: identity\r\n",
            "Content-Length: 0\r\n",
            "Host: b\r\n",
        ][..],
    );
    proptest::option::of((any::<Index>(), any::<bool>(), text))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn where_it_is_accepted_hyper_reads_the_same(
        messages in vec(message(), 1..4),
        changes in vec(change(), 0..3),
        at_once in select(&[1_usize, 2, 5, 64, 4096][..]),
    ) {
        let mut bytes = messages.concat().into_bytes();
        for (at, instead, text) in changes.into_iter().flatten() {
            let at = at.index(bytes.len());
            let end = if instead { at + 1 } else { at };
            bytes.splice(at..end, text.bytes());
        }
        check(&bytes, at_once);
    }
}

#[test]
fn the_check_of_agreement_compares_something() {
    let sound = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n".repeat(3);
    let agreed = check(sound.as_bytes(), 7);
    assert_eq!((agreed.messages, agreed.refused), (3, false));
    let agreed = check(format!("{sound}GET / HTTP/1.1\nHost: a\r\n\r\n").as_bytes(), 7);
    assert_eq!((agreed.messages, agreed.refused), (3, true));
}

#[test]
fn the_messages_that_are_made_up_pass_often_and_not_always() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let made = (0..500).map(|_| message().new_tree(&mut runner).unwrap().current());
    let agreed: Vec<_> = made.map(|message| check(message.as_bytes(), 4096)).collect();
    let passed = agreed.iter().filter(|agreed| agreed.messages == 1 && !agreed.refused).count();
    let refused = agreed.iter().filter(|agreed| agreed.refused).count();
    assert!(passed > 150 && refused > 50, "{passed} passed, {refused} were refused");
}

/// A keeper whose limits change, and who tells what it refused.
#[derive(Clone)]
struct Told(std::sync::Arc<std::sync::Mutex<(Sizes, Vec<(Fault, Option<String>)>)>>);

impl Told {
    fn new() -> Self {
        Self(std::sync::Arc::new(std::sync::Mutex::new((SIZES, Vec::new()))))
    }
}

impl Keeper for Told {
    fn limits(&self) -> (Sizes, Times) {
        let long = Duration::from_secs(3600);
        (self.0.lock().unwrap().0, Times { head: long, body: long, write: long, idle: long })
    }

    fn refuse(&self, fault: Fault, request: Option<(&[u8], &[u8])>) -> Vec<u8> {
        let line = request.map(|(method, target)| String::from_utf8([method, b" ", target].concat()).unwrap());
        self.0.lock().unwrap().1.push((fault, line));
        b"refused".to_vec()
    }
}

/// Everything that comes through, read with so much room at once, and what the peer gets.
async fn through(bytes: Vec<u8>, at_once: usize, room: usize) -> (Vec<u8>, Vec<u8>, Told) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (mut peer, ours) = tokio::io::duplex(64);
    let told = Told::new();
    let mut wire = Wire::new(ours, told.clone());
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
    wire.finish().await;
    (all, peer.await.unwrap(), told)
}

#[tokio::test]
async fn what_comes_through_is_what_was_sent_and_ends_where_it_is_refused() {
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
        assert_eq!(told.0.lock().unwrap().1, [(Fault::SeveralHosts, Some("GET /a?secret".to_owned()))]);
    }
}

#[tokio::test]
async fn of_two_messages_no_more_than_the_first_is_handed_on_and_limits_are_asked_for_each() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let first = "GET /first HTTP/1.1\r\nHost: a\r\n\r\n";
    let (mut peer, ours) = tokio::io::duplex(4096);
    let told = Told::new();
    let mut wire = Wire::new(ours, told.clone());
    peer.write_all(format!("{first}GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(20)).as_bytes()).await.unwrap();
    let mut piece = [0; 4096];
    let read = wire.read(&mut piece).await.unwrap();
    assert_eq!(&piece[..read], first.as_bytes());
    told.0.lock().unwrap().0.max_target_bytes = 16;
    assert_eq!(wire.read(&mut piece).await.unwrap(), 0, "the second is over the new limit");
    assert_eq!(told.0.lock().unwrap().1, [(Fault::TargetTooLong, None)]);
}

#[tokio::test]
async fn a_body_that_is_refused_is_an_error_for_who_reads_it_and_nobody_answers_here() {
    use std::io::ErrorKind;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (mut peer, ours) = tokio::io::duplex(4096);
    let told = Told::new();
    let mut wire = Wire::new(ours, told.clone());
    peer.write_all(format!("{head}2\r\nhi!!\r\n").as_bytes()).await.unwrap();
    let mut piece = [0; 4096];
    let read = wire.read(&mut piece).await.unwrap();
    assert_eq!(&piece[..read], format!("{head}2\r\nhi").as_bytes());
    assert_eq!(wire.read(&mut piece).await.unwrap_err().kind(), ErrorKind::InvalidData);
    peer.shutdown().await.unwrap();
    wire.finish().await;
    let mut answer = Vec::new();
    peer.read_to_end(&mut answer).await.unwrap();
    assert_eq!((answer.as_slice(), told.0.lock().unwrap().1.len()), (&b""[..], 0));
}
