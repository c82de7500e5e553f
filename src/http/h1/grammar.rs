//! The one grammar of HTTP/1.1, for requests and responses, and for HTTP/2 requests that are sent on as HTTP/1.1.
//! Each reader decides how strict it is beyond the grammar: the request reader refuses what is ambiguous, and the
//! response reader accepts what every client accepts.

use memchr::memchr;

use crate::bytewise;
use crate::http::fault::MessageFault;

/// The most fields of a head. hyper and httparse read no more either.
pub(super) const MAX_FIELDS: usize = 100;
/// The most digits of a chunk size: as many as a `u64` has.
const MAX_SIZE_DIGITS: usize = 16;

/// Whether a method or a field name may contain this byte.
pub(super) fn is_token(byte: u8) -> bool {
    TABLE[usize::from(byte)] & TOKEN != 0
}

/// Whether the name or IPv4 address of a host may contain this byte.
fn is_in_host_name(byte: u8) -> bool {
    TABLE[usize::from(byte)] & HOST != 0
}

/// Whether a path may contain these bytes. hyper accepts all of them.
fn are_path(bytes: &[u8]) -> bool {
    bytewise::all(bytes, |b| {
        matches!(b, b'!' | b'"') | matches!(b, b'$'..=b';') | (b == b'=') | matches!(b, b'@'..=b'_' | b'a'..=b'~')
    })
}

/// Whether a query may contain these bytes; its question mark is one of them. hyper accepts all of them.
pub(super) fn are_query(bytes: &[u8]) -> bool {
    bytewise::all(bytes, |b| (b == b'!') | matches!(b, b'$'..=b';') | (b == b'=') | matches!(b, b'?'..=b'~'))
}

const TOKEN: u8 = 1;
const HOST: u8 = 2;

/// The classes of each byte.
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

/// Whether the value of a field may contain this byte.
fn is_in_value(byte: u8) -> bool {
    ((byte >= b' ') | (byte == b'\t')) & (byte != 0x7F)
}

/// Whether a line may contain this byte. Only the whole line shows whether a CR is its end.
fn stands_in_line(byte: u8) -> bool {
    is_in_value(byte) | (byte == b'\r')
}

/// Whether these bytes are the value of a field. Bytes beyond ASCII are allowed, because real clients and services
/// send them.
pub(super) fn is_value(bytes: &[u8]) -> bool {
    bytewise::all(bytes, is_in_value)
}

/// Whether they contain a CR.
pub(super) fn has_cr(bytes: &[u8]) -> bool {
    !bytewise::all(bytes, |byte| byte != b'\r')
}

/// The position of the first byte that ends a line or that no line may contain.
pub(super) fn find_stop(bytes: &[u8]) -> Option<usize> {
    let end = memchr(b'\n', bytes);
    let line = &bytes[..end.unwrap_or(bytes.len())];
    if bytewise::all(line, stands_in_line) { end } else { line.iter().position(|byte| !stands_in_line(*byte)) }
}

/// Splits a complete line into name and value.
pub(super) fn field(line: &[u8]) -> Result<(&[u8], &[u8]), MessageFault> {
    let end = line.iter().position(|byte| !is_token(*byte)).ok_or(MessageFault::FieldName)?;
    let (name, rest) = line.split_at(end);
    match (name, rest) {
        ([], [b' ' | b'\t', ..]) => Err(MessageFault::FoldedField),
        (_, [b'\r', ..]) => Err(MessageFault::BareCr),
        ([_, ..], [b' ' | b'\t', ..]) => Err(MessageFault::SpaceBeforeColon),
        // The search for the end of the line has already found other control bytes.
        ([_, ..], [b':', value @ ..]) if !has_cr(value) => Ok((name, value)),
        ([_, ..], [b':', ..]) => Err(MessageFault::BareCr),
        _ => Err(MessageFault::FieldName),
    }
}

/// Whether the path and query of a parsed target contain only bytes that a target may contain.
pub(crate) fn are_in_target(path: &[u8], query: Option<&[u8]>) -> bool {
    are_path(path) && query.is_none_or(are_query)
}

/// Whether it is a path, with or without a query.
pub(super) fn is_path(target: &[u8]) -> bool {
    let (path, query) = target.split_at(memchr(b'?', target).unwrap_or(target.len()));
    path.starts_with(b"/") && are_path(path) && are_query(query)
}

/// Whether it is a host: a name, an IPv4 address or an IPv6 address in brackets, with or without a port.
pub(crate) fn is_host(host: &[u8]) -> bool {
    let port = match host {
        [b'[', rest @ ..] => {
            let Some(end) = memchr(b']', rest) else { return false };
            let address = std::str::from_utf8(&rest[..end]).ok().map(str::parse::<std::net::Ipv6Addr>);
            if !matches!(address, Some(Ok(_))) {
                return false;
            }
            &rest[end + 1..]
        }
        _ => {
            let end = host.iter().position(|byte| !is_in_host_name(*byte)).unwrap_or(host.len());
            if end == 0 {
                return false;
            }
            &host[end..]
        }
    };
    match port {
        [] => true,
        [b':', port @ ..] => port.len() <= 5 && number(port).is_some_and(|port| port <= 65535),
        _ => false,
    }
}

/// The number with these digits; `None` if there is anything else, or nothing, or it does not fit into a `u64`.
pub(super) fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| number.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
}

/// Appends a number in decimal digits. `write!` would take several times as long.
pub(super) fn write_number(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return out.extend_from_slice(&digits[first..]);
        }
    }
}

/// The size at the start of a chunk line, and how many digits it has; `None` if it has no digits or more than 16.
pub(super) fn chunk_size(line: &[u8]) -> Option<(u64, usize)> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    if !(1..=MAX_SIZE_DIGITS).contains(&digits) {
        return None;
    }
    let value = |digit: &u8| u64::from((*digit as char).to_digit(16).unwrap_or_default());
    Some((line[..digits].iter().fold(0, |size, digit| (size << 4) | value(digit)), digits))
}

/// Whether a transfer coding is `chunked`, the only one that is supported.
pub(crate) fn is_chunked(coding: &[u8]) -> bool {
    coding.eq_ignore_ascii_case(b"chunked")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_numbers_are_read_as_they_were() {
        for value in [0, 7, 10, 99, 100, 4096, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut out = Vec::new();
            write_number(value, &mut out);
            assert_eq!(number(&out), Some(value));
            assert_eq!(out, value.to_string().as_bytes());
        }
    }
}
