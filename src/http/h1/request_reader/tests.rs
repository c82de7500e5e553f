//! Tests of the strict reader with pieces of any size.

use super::*;

const SIZES: Sizes = Sizes { max_header_bytes: 256, max_target_bytes: 64 };

/// Reads these bytes: how many messages they are, or what is wrong.
fn told(bytes: &[u8], at_once: usize) -> Result<usize, MessageFault> {
    let (mut reader, mut accepted, mut there, mut messages) = (RequestReader::default(), 0, 0, 0);
    while there < bytes.len() {
        there = (there + at_once).min(bytes.len());
        while let Some(part) = reader.accept(&bytes[accepted..there], &SIZES)? {
            accepted += part.bytes;
            messages += usize::from(part.ends);
        }
    }
    Ok(messages)
}

fn however_it_is_cut(name: &str, bytes: &[u8], expected: Result<usize, MessageFault>) {
    for at_once in [1, 2, 3, 7, bytes.len()] {
        assert_eq!(told(bytes, at_once), expected, "{name}, {at_once} bytes at once");
    }
}

#[test]
fn unambiguous_messages_are_accepted_in_pieces_of_any_size() {
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
fn every_fault_is_recognised() {
    use MessageFault as F;
    let chunked = |rest: &str| format!("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{rest}");
    let fields = |lines: &str| format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n");
    let first = |line: &str| format!("{line}\r\nHost: a\r\n\r\n");
    let rows: Vec<(String, MessageFault)> = vec![
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
    assert_eq!(RequestReader::default().accept(many.as_bytes(), &sizes), Err(F::TooManyFields));
}
