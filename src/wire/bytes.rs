//! What a byte may be: one table for all of it.

/// A method or a field name is made of it.
pub(super) const TOKEN: u8 = 1;
/// A field value is made of it: visible ASCII, space, tab, and 0x80 to 0xFF, which real clients send.
pub(super) const VALUE: u8 = 2;
/// A path is made of it. No more than the HTTP reader takes.
pub(super) const PATH: u8 = 4;
/// A query is made of it. Likewise.
pub(super) const QUERY: u8 = 8;
/// The name or IPv4 address of a host is made of it.
pub(super) const HOST: u8 = 16;
/// It ends a line, or stands in no message.
pub(super) const STOP: u8 = 32;

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
        if matches!(b, b'\t' | b' '..=b'~' | 0x80..) {
            class |= VALUE;
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
        if matches!(b, 0x7F | 0..b' ') && !matches!(b, b'\t' | b'\r') {
            class |= STOP;
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
    bytes.iter().all(|byte| is(*byte, class))
}

/// Where the first of this class is.
pub(super) fn find(bytes: &[u8], class: u8) -> Option<usize> {
    bytes.iter().position(|byte| is(*byte, class))
}
