//! What a byte may be.

use memchr::memchr;

use crate::bytewise;

/// A method or a field name is made of it.
pub(super) fn is_token(byte: u8) -> bool {
    TABLE[usize::from(byte)] & TOKEN != 0
}

/// The name or IPv4 address of a host is made of it.
pub(super) fn is_host(byte: u8) -> bool {
    TABLE[usize::from(byte)] & HOST != 0
}

/// Whether a path is made of these. No more than the HTTP reader takes.
pub(super) fn are_path(bytes: &[u8]) -> bool {
    bytewise::all(bytes, |b| {
        matches!(b, b'!' | b'"') | matches!(b, b'$'..=b';') | (b == b'=') | matches!(b, b'@'..=b'_' | b'a'..=b'~')
    })
}

/// Whether a query is made of these, its question mark included. Likewise.
pub(super) fn are_query(bytes: &[u8]) -> bool {
    bytewise::all(bytes, |b| (b == b'!') | matches!(b, b'$'..=b';') | (b == b'=') | matches!(b, b'?'..=b'~'))
}

const TOKEN: u8 = 1;
const HOST: u8 = 2;

/// One look tells what is asked byte by byte.
const TABLE: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        let mut class = 0;
        if b.is_ascii_alphanumeric()
            || matches!(b, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
        {
            class |= TOKEN;
        }
        if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~') {
            class |= HOST;
        }
        table[byte] = class;
        byte += 1;
    }
    table
};

/// Whether it may stand in a line. A CR is for who has the whole line to judge.
fn stands_in_line(byte: u8) -> bool {
    ((byte >= b' ') | (byte == b'\t') | (byte == b'\r')) & (byte != 0x7F)
}

/// Where the first byte is that ends a line, or stands in no line.
pub(super) fn find_stop(bytes: &[u8]) -> Option<usize> {
    let end = memchr(b'\n', bytes);
    let line = &bytes[..end.unwrap_or(bytes.len())];
    if bytewise::all(line, stands_in_line) { end } else { line.iter().position(|byte| !stands_in_line(*byte)) }
}
