//! Whom a message is for.

use super::{Corpus, SMUGGLED, begun, path, signed};

pub(super) fn hosts_and_targets(corpus: &mut Corpus) {
    let line = format!("DELETE {} HTTP/1.1\r\n", path());
    for host in [
        "",
        " ",
        "g g",
        "g,h",
        "g, h",
        "g/h",
        "g?x",
        "g#x",
        "u@g",
        "u:p@g",
        "g:",
        "g:x",
        "g:80x",
        "g:-1",
        "g:99999",
        "g:123456",
        "g\\h",
        "http://g",
        "[::1",
        "::1",
        "[::1]x",
        "[zz]",
        "[::1%25lo]",
        "g%00",
        "g;h",
        "g\t",
        "g ",
        "(g)",
        "g\0",
        "göttingen",
        "*",
        "\"g\"",
    ] {
        corpus.refused(format!("host {host:?}"), begun(&format!("{line}Host: {host}\r\n"), SMUGGLED));
    }
    for (name, hosts) in [
        ("no host", ""),
        ("two hosts", "Host: g\r\nHost: h\r\n"),
        ("the same host twice", "Host: g\r\nHost: g\r\n"),
        ("two hosts in two cases", "Host: g\r\nHOST: h\r\n"),
        ("two hosts, far apart", "Host: g\r\nX: y\r\nY: z\r\nhost: h\r\n"),
        ("a host that is folded", "Host: g\r\n h\r\n"),
        ("a host with a space", "Host : g\r\n"),
    ] {
        corpus.refused(name, begun(&format!("{line}{hosts}"), SMUGGLED));
    }
    corpus.refused("no host in HTTP/1.0", begun(&line.replace("1.1", "1.0"), SMUGGLED));
    for (name, target) in [
        ("another host", "http://h{path}"),
        ("another port", "http://g:81{path}"),
        ("the user before the host", "http://u@g{path}"),
        ("another scheme", "ftp://g{path}"),
        ("a scheme in upper case", "HTTP://g{path}"),
        ("no host in the target", "http://{path}"),
        ("a query without a path", "http://g?x"),
        ("a fragment", "{path}#SMUGGLED"),
        ("a fragment in absolute form", "http://g{path}#SMUGGLED"),
        ("everything", "*"),
        ("an authority", "g:80"),
        ("a path that does not begin with a slash", "SMUGGLED"),
        ("nothing", ""),
        ("a space", "{path} SMUGGLED"),
        ("a tab", "{path}\tSMUGGLED"),
        ("a NUL", "{path}\0"),
        ("a byte beyond ASCII", "{path}é"),
        ("a bare CR", "{path}\rSMUGGLED"),
        ("a bare LF", "{path}\nSMUGGLED"),
        ("angle brackets", "{path}<SMUGGLED>"),
    ] {
        let target = target.replace("{path}", &path());
        corpus.refused(format!("target: {name}"), begun(&format!("DELETE {target} HTTP/1.1\r\nHost: g\r\n"), SMUGGLED));
    }
    corpus.refused("a tunnel", begun("CONNECT g:80 HTTP/1.1\r\nHost: g:80\r\n", SMUGGLED));
    corpus.refused("a tunnel to a path", begun(&format!("CONNECT {} HTTP/1.1\r\nHost: g\r\n", path()), SMUGGLED));
    let long = format!("DELETE {}?{} HTTP/1.1\r\nHost: g\r\n", path(), "x".repeat(4 << 10));
    corpus.add("a long target", begun(&long, SMUGGLED), &[414], &[]);
    corpus.add("an endless target", format!("DELETE /{}", "x".repeat(8 << 10)), &[414], &[]);
    corpus.add("a large header section", signed(&format!("X: {}\r\n", "x".repeat(16 << 10)), SMUGGLED), &[431], &[]);
    corpus.add("a hundred and one fields", signed(&"X:\r\n".repeat(99), SMUGGLED), &[431], &[]);
}
