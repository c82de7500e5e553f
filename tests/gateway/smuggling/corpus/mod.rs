//! Messages that two readers could end differently, and what must become of each.
//!
//! `{auth}` stands for a header that is good once. All that is signed may be deleted by who
//! signed it: if bytes of a body became a request, it would reach the upstream.

mod bodies;
mod hosts;

use crate::harness::SEGMENT;

pub struct Message {
    pub name: String,
    pub bytes: Vec<u8>,
    /// The statuses that come back, all of them.
    pub answers: Vec<u16>,
    /// The bodies of the requests that the upstream sees, all of them.
    pub passed: Vec<&'static str>,
}

/// A second request, where it should not be one.
const SMUGGLED: &str =
    "DELETE /crm-core/v1/segments/SMUGGLED HTTP/1.1\r\nHost: g\r\nAuthorization: {auth}\r\nSMUGGLED: x\r\n\r\n";

fn path() -> String {
    format!("/crm-core/v1/segments/{SEGMENT}")
}

/// A validly signed deletion with these lines besides, each ended, and this behind its head.
fn signed(lines: &str, rest: &str) -> String {
    format!("DELETE {} HTTP/1.1\r\nHost: g\r\nAuthorization: {{auth}}\r\n{lines}\r\n{rest}", path())
}

/// The same with other first lines.
fn begun(first: &str, rest: &str) -> String {
    format!("{first}Authorization: {{auth}}\r\n\r\n{rest}")
}

fn chunked(rest: &str) -> String {
    signed("Transfer-Encoding: chunked\r\n", rest)
}

#[derive(Default)]
struct Corpus(Vec<Message>);

impl Corpus {
    fn add(&mut self, name: impl Into<String>, bytes: impl Into<Vec<u8>>, answers: &[u16], passed: &[&'static str]) {
        let (name, bytes) = (name.into(), bytes.into());
        self.0.push(Message { name, bytes, answers: answers.to_vec(), passed: passed.to_vec() });
    }

    fn refused(&mut self, name: impl Into<String>, bytes: impl Into<Vec<u8>>) {
        self.add(name, bytes, &[400], &[]);
    }
}

pub fn corpus() -> Vec<Message> {
    let mut corpus = Corpus::default();
    sound(&mut corpus);
    lengths_and_codings(&mut corpus);
    lines(&mut corpus);
    bodies::chunks(&mut corpus);
    hosts::hosts_and_targets(&mut corpus);
    bodies::sequences(&mut corpus);
    corpus.0
}

/// Messages that must pass: without them the check could not fail.
fn sound(corpus: &mut Corpus) {
    let request = "GET /SMUGGLED HTTP/1.1\r\nHost: g\r\n\r\n";
    let fields = "X:\r\n".repeat(98);
    let rows: Vec<(&str, String, &'static str)> = vec![
        ("plain", signed("", ""), ""),
        ("a length", signed("Content-Length: 5\r\n", "hello"), "hello"),
        ("a length without a space", signed("content-length:5\r\n", "hello"), "hello"),
        ("a length of nothing", signed("Content-Length: 0\r\n", ""), ""),
        ("a length with a leading zero", signed("Content-Length: 05\r\n", "hello"), "hello"),
        (
            "a body that looks like a request",
            signed("Content-Length: 35\r\n", request),
            "GET /SMUGGLED HTTP/1.1\r\nHost: g\r\n\r\n",
        ),
        ("chunks", chunked("2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"), "hello"),
        (
            "a chunk that looks like a request",
            chunked(&format!("23\r\n{request}\r\n0\r\n\r\n")),
            "GET /SMUGGLED HTTP/1.1\r\nHost: g\r\n\r\n",
        ),
        ("a chunk that looks like the last", chunked("7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n"), "\r\n0\r\n\r\n"),
        ("sizes in upper case and with zeros", chunked("00A\r\n0123456789\r\n000\r\n\r\n"), "0123456789"),
        ("a coding in upper case", signed("TRANSFER-ENCODING: CHUNKED\r\n", "1\r\nx\r\n0\r\n\r\n"), "x"),
        ("a trailer", chunked("1\r\nx\r\n0\r\nSMUGGLED: y\r\n\r\n"), "x"),
        ("HTTP/1.0", format!("DELETE {} HTTP/1.0\r\nHost: g\r\nAuthorization: {{auth}}\r\n\r\n", path()), ""),
        ("absolute form", begun(&format!("DELETE http://G{} HTTP/1.1\r\nHost: g\r\n", path()), ""), ""),
        ("an IPv6 host", begun(&format!("DELETE {} HTTP/1.1\r\nHost: [::1]:80\r\n", path()), ""), ""),
        ("an empty line before it", format!("\r\n{}", signed("", "")), ""),
        ("values beyond ASCII, with tabs, empty", signed("X: 권한\r\nY:\ta\tb\t\r\nZ:\r\n", ""), ""),
        ("a hundred fields", signed(&fields, ""), ""),
        (
            "a connection that names the length",
            signed("Connection: Content-Length\r\nContent-Length: 5\r\n", "hello"),
            "hello",
        ),
        (
            "a connection that names the coding",
            signed("Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n", "1\r\nx\r\n0\r\n\r\n"),
            "x",
        ),
        ("a connection that names the host", signed("Connection: Host, X-Own\r\nX-Own: 1\r\n", ""), ""),
        (
            "an upgrade",
            signed("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n", ""),
            "",
        ),
        (
            "an upgrade to a tunnel",
            signed("Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n", ""),
            "",
        ),
        ("an expectation", signed("Expect: 100-continue\r\n", ""), ""),
        (
            "other names for a length",
            signed("X-Content-Length: 9\r\nContent-Lengths: 9\r\nContentLength: 9\r\n", ""),
            "",
        ),
    ];
    for (name, bytes, body) in rows {
        corpus.add(format!("sound: {name}"), bytes, &[200], &[body]);
    }
}

fn lengths_and_codings(corpus: &mut Corpus) {
    for value in [
        "",
        " ",
        "+5",
        "-5",
        "-0",
        "5,5",
        "5, 5",
        "0,5",
        "5;5",
        "5.0",
        "5e0",
        "0x5",
        "five",
        "'5'",
        "\"5\"",
        "5 ",
        "5\t",
        "\t5",
        "  5",
        "5 5",
        "5\u{b}",
        "\u{c}5",
        "５",
        "٥",
        "1_0",
        "10000000000000000000",
        "18446744073709551616",
        "99999999999999999999999999",
    ] {
        corpus.refused(format!("length {value:?}"), signed(&format!("Content-Length: {value}\r\n"), SMUGGLED));
    }
    for value in [
        "",
        "identity",
        "gzip",
        "gzip, chunked",
        "chunked, gzip",
        "chunked, chunked",
        "identity, chunked",
        "chunked, identity",
        "chunked,",
        ", chunked",
        "chunked;q=1",
        "x-chunked",
        "xchunked",
        "chunkedx",
        "chunke",
        "chun ked",
        "chunked ",
        "chunked\t",
        "\tchunked",
        "  chunked",
        "\"chunked\"",
        "'chunked'",
        "\u{b}chunked",
        "chunked\u{c}",
        "chunked\0",
        "chunked\r",
        "trailers",
        "cow",
        "ｃhunked",
    ] {
        let lines = format!("Transfer-Encoding: {value}\r\n");
        corpus.refused(format!("coding {value:?}"), signed(&lines, &format!("0\r\n\r\n{SMUGGLED}")));
        if value.len() % 3 == 0 {
            corpus.refused(
                format!("a length and coding {value:?}"),
                signed(&format!("Content-Length: 5\r\n{lines}"), SMUGGLED),
            );
        }
    }
    let (length, coding) = ("Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n");
    let both = format!("0\r\n\r\n{SMUGGLED}");
    for (name, lines) in [
        ("a length, then a coding", format!("{length}{coding}")),
        ("a coding, then a length", format!("{coding}{length}")),
        ("a length far from a coding", format!("{length}X: y\r\nZ: z\r\n{coding}")),
        ("a length of nothing and a coding", format!("Content-Length: 0\r\n{coding}")),
        (
            "a length, a coding and a connection that names the coding",
            format!("Connection: Transfer-Encoding\r\n{length}{coding}"),
        ),
        (
            "a length, a coding and a connection that names the length",
            format!("Connection: Content-Length\r\n{length}{coding}"),
        ),
        ("the same length twice", format!("{length}{length}")),
        ("two lengths", format!("{length}Content-Length: 6\r\n")),
        ("two lengths, one of nothing", format!("Content-Length: 0\r\n{length}")),
        ("two lengths in two cases", format!("{length}CONTENT-LENGTH: 5\r\n")),
        ("two codings", format!("{coding}{coding}")),
        ("two codings, one of none", format!("Transfer-Encoding: identity\r\n{coding}")),
        ("two codings, the other first", format!("{coding}Transfer-Encoding: identity\r\n")),
        ("two codings in two cases", format!("{coding}transfer-encoding: cow\r\n")),
    ] {
        corpus.refused(name, signed(&lines, &both));
    }
    let old = format!("DELETE {} HTTP/1.0\r\nHost: g\r\n{coding}", path());
    corpus.refused("a coding in HTTP/1.0", begun(&old, &both));
    corpus.refused("a coding in HTTP/1.0 that is kept", begun(&format!("{old}Connection: keep-alive\r\n"), &both));
    for name in [
        "Content-Length ",
        "Content-Length\t",
        " Content-Length",
        "\tContent-Length",
        "Content_Length",
        "Content.Length",
        "Content-Length\0",
        "Content Length",
        "Content-Length\r",
        "\u{b}Content-Length",
        "Content-Length\u{a0}",
        "(Content-Length)",
        "Content-Length;",
        "\"Content-Length\"",
    ] {
        corpus.refused(format!("field {name:?}"), signed(&format!("{name}: 5\r\n"), SMUGGLED));
    }
    for name in [
        "Transfer-Encoding ",
        "Transfer-Encoding\t",
        " Transfer-Encoding",
        "Transfer_Encoding",
        "Transfer.Encoding",
        "TRANSFER!ENCODING",
        "Transfer\u{2010}Encoding",
        "Transfer-Encoding\0",
        "Transfer-Encoding\r",
        "\u{c}Transfer-Encoding",
        "Transfer Encoding",
        "X Transfer-Encoding",
    ] {
        corpus.refused(format!("field {name:?}"), signed(&format!("{name}: chunked\r\n"), &both));
    }
}

fn lines(corpus: &mut Corpus) {
    let line = format!("DELETE {} HTTP/1.1", path());
    for (name, lines) in [
        ("a folded field", "X: a\r\n b\r\n"),
        ("a coding that is folded", "Transfer-Encoding:\r\n chunked\r\n"),
        ("a coding in a fold", "X: a\r\n\tTransfer-Encoding: chunked\r\n"),
        ("a length that is folded", "Content-Length:\r\n 5\r\n"),
        ("a length in a fold", "X: a\r\n Content-Length: 5\r\n"),
        ("a fold of nothing", "X: a\r\n \r\n"),
        ("a bare LF behind a field", "X: a\nTransfer-Encoding: chunked\r\n"),
        ("a bare LF before a length", "X: a\nContent-Length: 5\r\n"),
        ("a bare LF for the empty line", "\n"),
        ("bare LFs for the end", "X: a\n\n"),
        ("a bare CR in a value", "X: a\rTransfer-Encoding: chunked\r\n"),
        ("a bare CR before the end", "X: a\r\r\n"),
        ("LF and CR", "X: a\n\rContent-Length: 5\r\n"),
        ("a bare CR for the empty line", "\rX: y\r\n"),
        ("a field without a colon", "SMUGGLED\r\n"),
        ("a field without a name", ": SMUGGLED\r\n"),
        ("a request for a field", "GET /SMUGGLED HTTP/1.1\r\n"),
        ("a name with a slash", "SMUGGLED/x: y\r\n"),
        ("a name beyond ASCII", "SMUGGLÉD: y\r\n"),
    ] {
        corpus.refused(name, signed(lines, SMUGGLED));
    }
    corpus.refused("a fold behind the request line", begun(&format!("{line}\r\n X: y\r\nHost: g\r\n"), SMUGGLED));
    corpus.refused("a bare LF behind the request line", begun(&format!("{line}\nHost: g\r\n"), SMUGGLED));
    corpus.refused("a bare CR behind the request line", begun(&format!("{line}\rHost: g\r\n"), SMUGGLED));
    for byte in (0..0x20_u8).chain([0x7f]).filter(|byte| !b"\t\r\n".contains(byte)) {
        let mut bytes = signed("X: a?b\r\n", SMUGGLED).into_bytes();
        let at = bytes.windows(3).position(|three| three == b"a?b").unwrap() + 1;
        bytes[at] = byte;
        corpus.refused(format!("byte {byte:#04x} in a value"), bytes);
    }
    for (name, first) in [
        ("HTTP/0.9", "DELETE {path}\r\n"),
        ("HTTP/0.9 with a version", "DELETE {path} HTTP/0.9\r\nHost: g\r\n"),
        ("HTTP/1.2", "DELETE {path} HTTP/1.2\r\nHost: g\r\n"),
        ("HTTP/1.10", "DELETE {path} HTTP/1.10\r\nHost: g\r\n"),
        ("HTTP/1", "DELETE {path} HTTP/1\r\nHost: g\r\n"),
        ("HTTP/2.0", "DELETE {path} HTTP/2.0\r\nHost: g\r\n"),
        ("a version in lower case", "DELETE {path} http/1.1\r\nHost: g\r\n"),
        ("a version with a space", "DELETE {path} HTTP/ 1.1\r\nHost: g\r\n"),
        ("something behind the version", "DELETE {path} HTTP/1.1 SMUGGLED\r\nHost: g\r\n"),
        ("a space behind the version", "DELETE {path} HTTP/1.1 \r\nHost: g\r\n"),
        ("two spaces", "DELETE  {path} HTTP/1.1\r\nHost: g\r\n"),
        ("two spaces before the version", "DELETE {path}  HTTP/1.1\r\nHost: g\r\n"),
        ("a tab", "DELETE\t{path}\tHTTP/1.1\r\nHost: g\r\n"),
        ("a vertical tab", "DELETE\u{b}{path} HTTP/1.1\r\nHost: g\r\n"),
        ("a space before the method", " DELETE {path} HTTP/1.1\r\nHost: g\r\n"),
        ("a method of two words", "DEL ETE {path} HTTP/1.1\r\nHost: g\r\n"),
        ("a method with a colon", "SMUGGLED: {path} HTTP/1.1\r\nHost: g\r\n"),
        ("a method with a NUL", "DELETE\0 {path} HTTP/1.1\r\nHost: g\r\n"),
        ("a method that is too long", "DELETEDELETEDELETEDELETEDELETEDELETE {path} HTTP/1.1\r\nHost: g\r\n"),
        ("no method", "{path} HTTP/1.1\r\nHost: g\r\n"),
        ("two empty lines", "\r\n\r\nDELETE {path} HTTP/1.1\r\nHost: g\r\n"),
        ("an empty line of LF", "\nDELETE {path} HTTP/1.1\r\nHost: g\r\n"),
        ("a bare CR before it", "\rDELETE {path} HTTP/1.1\r\nHost: g\r\n"),
        ("nothing like HTTP", "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}"),
    ] {
        corpus.refused(name, begun(&first.replace("{path}", &path()), SMUGGLED));
    }
}
