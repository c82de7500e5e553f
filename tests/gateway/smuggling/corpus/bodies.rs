//! Chunks, and messages behind messages.

use super::{Corpus, SMUGGLED, chunked, signed};

pub(super) fn chunks(corpus: &mut Corpus) {
    for size in [
        "",
        " 5",
        "5 ",
        "5\t",
        "\t5",
        "+5",
        "-5",
        "0x5",
        "5h",
        "g",
        "5,5",
        "5.",
        "5_",
        "'5'",
        "５",
        "00000000000000005",
        "FFFFFFFFFFFFFFFFF",
        "5;",
        "5;a",
        "5;a=b",
        "5 ;a=b",
        "5;a=\"\r\n\"",
        "5\u{b}",
        "5\0",
        "5\r",
        "5\n",
        "\r\n5",
    ] {
        corpus.refused(format!("chunk size {size:?}"), chunked(&format!("{size}\r\nhello\r\n0\r\n\r\n{SMUGGLED}")));
    }
    for (name, rest) in [
        ("a size that ends in a bare LF", "5\nhello\r\n0\r\n\r\n"),
        ("a size that ends in a bare CR", "5\rhello\r\n0\r\n\r\n"),
        ("a chunk that ends in a bare LF", "5\r\nhello\n0\r\n\r\n"),
        ("a chunk that ends in a bare CR", "5\r\nhello\r0\r\n\r\n"),
        ("a chunk without an end", "5\r\nhello0\r\n\r\n"),
        ("a chunk longer than its size", "5\r\nhello, world\r\n0\r\n\r\n"),
        ("a chunk shorter than its size", "5\r\nhi\r\n0\r\n\r\n"),
        ("two line ends behind a chunk", "5\r\nhello\r\n\r\n0\r\n\r\n"),
        ("a last chunk with a space", "0 \r\n\r\n"),
        ("a last chunk with an extension", "0;a=b\r\n\r\n"),
        ("a last chunk that ends in a bare LF", "0\n\r\n"),
        ("a last chunk and a bare LF", "0\r\n\n"),
        ("a last chunk and a bare CR", "0\r\n\r"),
        ("a last chunk in two", "0\r\r\n\r\n"),
        ("a request for a trailer", "0\r\n"),
        ("a length for a trailer", "0\r\nContent-Length: 5\r\n\r\n"),
        ("a coding for a trailer", "0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("a host for a trailer", "0\r\nHost: h\r\n\r\n"),
        ("a trailer that ends in a bare LF", "0\r\nX: y\n\r\n"),
        ("a trailer with a bare CR", "0\r\nX: y\rZ: z\r\n\r\n"),
        ("a trailer with a NUL", "0\r\nX: \0\r\n\r\n"),
        ("a trailer that is folded", "0\r\nX: y\r\n z\r\n\r\n"),
        ("a trailer with a space", "0\r\nX : y\r\n\r\n"),
    ] {
        corpus.refused(name, chunked(&format!("{rest}{SMUGGLED}")));
    }
}

/// What stands before and behind: answered in order, and never more than there is.
pub(super) fn sequences(corpus: &mut Corpus) {
    let (good, bad) = (signed("", ""), signed("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", SMUGGLED));
    let body = signed("Content-Length: 5\r\n", "hello");
    let chunks = chunked("5\r\nhello\r\n0\r\n\r\n");
    let unsigned = "GET / HTTP/1.1\r\nHost: g\r\n\r\n";
    corpus.add("two good ones", format!("{good}{body}"), &[200, 200], &["", "hello"]);
    corpus.add("a good one, then a bad one", format!("{good}{bad}"), &[200, 400], &[""]);
    corpus.add(
        "three good ones, then a bad one",
        format!("{good}{body}{chunks}{bad}"),
        &[200, 200, 200, 400],
        &["", "hello", "hello"],
    );
    corpus.add("a length, then a bad one", format!("{body}{bad}"), &[200, 400], &["hello"]);
    corpus.add("chunks, then a bad one", format!("{chunks}{bad}"), &[200, 400], &["hello"]);
    corpus.add(
        "chunks, then bad chunks",
        format!("{chunks}{}", chunked(&format!("5;\r\nhello\r\n0\r\n\r\n{SMUGGLED}"))),
        &[200, 400],
        &["hello"],
    );
    corpus.add("one unsigned, then a bad one", format!("{unsigned}{bad}"), &[401, 400], &[]);
    corpus.add("one unsigned, then a good one", format!("{unsigned}{good}"), &[401, 200], &[""]);
    corpus.add("a good one, then half a one", format!("{good}DELETE /SMUGGLED HT"), &[200, 400], &[""]);
    corpus.add("a good one, then nothing like HTTP", format!("{good}\0\0\0"), &[200, 400], &[""]);
    corpus.add(
        "a good one that closes, then another",
        format!("{}{SMUGGLED}", signed("Connection: close\r\n", "")),
        &[200],
        &[""],
    );
    corpus.add(
        "an upgrade, then a good one",
        format!("{}{good}", signed("Connection: Upgrade\r\nUpgrade: h2c\r\n", "")),
        &[200, 200],
        &["", ""],
    );
    corpus.add(
        "an upgrade, then a bad one",
        format!("{}{bad}", signed("Connection: Upgrade\r\nUpgrade: h2c\r\n", "")),
        &[200, 400],
        &[""],
    );
    corpus.add("a body that is too large", signed("Content-Length: 100000\r\n", SMUGGLED), &[413], &[]);
    corpus.add("a body that ends early", signed("Content-Length: 1000\r\n", SMUGGLED), &[400], &[]);
    corpus.add("chunks that end early", chunked(&format!("400\r\n{SMUGGLED}")), &[400], &[]);
    let waits = "GET / HTTP/1.1\r\nHost: g\r\nExpect: 100-continue\r\nContent-Length: 38\r\n\r\nDELETE /SMUGGLED HTTP/1.1\r\nHost: g\r\n\r\n";
    corpus.add("one unsigned that expects to continue, and does not wait", waits, &[401], &[]);
}
