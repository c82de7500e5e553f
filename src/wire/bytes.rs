//! What a byte may be: one table for all of it.

/// A method or a field name is made of it.
pub(super) const TOKEN: u8 = 1;
/// A path is made of it. No more than the HTTP reader takes.
pub(super) const PATH: u8 = 2;
/// A query is made of it. Likewise.
pub(super) const QUERY: u8 = 4;
/// The name or IPv4 address of a host is made of it.
pub(super) const HOST: u8 = 8;

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
        if matches!(b, b'!' | b'"' | b'$'..=b';' | b'=' | b'@'..=b'_' | b'a'..=b'~') {
            class |= PATH;
        }
        if matches!(b, b'!' | b'$'..=b';' | b'=' | b'?'..=b'~') {
            class |= QUERY;
        }
        if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~') {
            class |= HOST;
        }
        table[byte] = class;
        byte += 1;
    }
    table
};

pub(super) fn is(byte: u8, class: u8) -> bool {
    TABLE[byte as usize] & class != 0
}

pub(super) fn all(bytes: &[u8], class: u8) -> bool {
    // Without a way out: most often there is none to take.
    bytes.iter().fold(class, |common, byte| common & TABLE[*byte as usize]) != 0
}

/// Whether it ends a line, or stands in no line. A CR is for who has the whole line to judge.
fn stops(byte: u8) -> bool {
    (byte < b' ' && byte != b'\t' && byte != b'\r') || byte == 0x7F
}

/// Where the first byte is that ends a line, or stands in no line.
pub(super) fn find_stop(bytes: &[u8]) -> Option<usize> {
    // Sixteen at once are one comparison of the processor's.
    let (pieces, rest) = bytes.as_chunks::<16>();
    for (n, piece) in pieces.iter().enumerate() {
        if piece.iter().fold(false, |any, byte| any | stops(*byte)) {
            return piece.iter().position(|byte| stops(*byte)).map(|at| 16 * n + at);
        }
    }
    rest.iter().position(|byte| stops(*byte)).map(|at| 16 * pieces.len() + at)
}
