//! W3C trace context: the fields `traceparent` and `tracestate`, read strictly.
//!
//! 1. One `traceparent` field: `00-` trace id `-` span id `-` flags, in lower-case hexadecimal digits; neither id is zero. A
//!    later version may have more behind another `-`, and version `ff` is none. Of the flags only `sampled` counts.
//! 2. `tracestate` is a list of at most 32 members in at most 512 bytes over all its lines, no key twice. A list that
//!    violates a rule is left out whole; the `traceparent` next to it stays valid.

use std::num::{NonZeroU64, NonZeroU128};

/// The position of a span in a trace, as `traceparent` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TraceParent {
    /// The id of the trace.
    pub(crate) trace: NonZeroU128,
    /// The id of the span.
    pub(crate) span: NonZeroU64,
    /// Whether the trace is being recorded.
    pub(crate) sampled: bool,
}

impl TraceParent {
    /// The length of a `traceparent` of version 00, in bytes.
    const LENGTH: usize = 55;

    /// Parses the value of a `traceparent` field.
    pub(crate) fn parse(value: &[u8]) -> Option<Self> {
        let (known, rest) = value.split_at_checked(Self::LENGTH)?;
        let [v1, v2, b'-', ..] = known else { return None };
        let version = hexadecimal(&[*v1, *v2])?;
        let ends = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => matches!(rest, [] | [b'-', ..]),
        };
        if !ends || known[35] != b'-' || known[52] != b'-' {
            return None;
        }
        Some(Self {
            trace: NonZeroU128::new(hexadecimal_128(&known[3..35])?)?,
            span: NonZeroU64::new(hexadecimal(&known[36..52])?)?,
            sampled: hexadecimal(&known[53..])? & 1 == 1,
        })
    }

    /// The value of the field.
    pub(crate) fn written(&self) -> TraceParentText {
        let mut text = *b"00-________________________________-________________-00";
        write_hexadecimal(&self.trace.get().to_be_bytes(), &mut text[3..35]);
        write_hexadecimal(&self.span.get().to_be_bytes(), &mut text[36..52]);
        text[54] += u8::from(self.sampled);
        TraceParentText(text)
    }
}

/// A `traceparent` as it is sent. It needs no memory of its own, because every deletion has one.
pub(crate) struct TraceParentText([u8; TraceParent::LENGTH]);

impl TraceParentText {
    pub(crate) fn as_str(&self) -> &str {
        // This cannot fail: digits and `-` are ASCII.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// The two digits of each byte.
const DIGITS: [[u8; 2]; 256] = {
    const EACH: &[u8; 16] = b"0123456789abcdef";
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [EACH[byte >> 4], EACH[byte & 15]];
        byte += 1;
    }
    pairs
};

/// What each lower-case digit stands for; 255 for everything else.
const VALUES: [u8; 256] = {
    let mut values = [255; 256];
    let mut value = 0;
    while value < 16 {
        values[DIGITS[value][1] as usize] = value as u8;
        value += 1;
    }
    values
};

/// Writes two digits for each byte.
fn write_hexadecimal(bytes: &[u8], text: &mut [u8]) {
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair.copy_from_slice(&DIGITS[usize::from(*byte)]);
    }
}

/// The number that 32 lower-case hexadecimal digits stand for.
pub(super) fn hexadecimal_128(digits: &[u8]) -> Option<u128> {
    let (high, low) = digits.split_at_checked(16).filter(|(_, low)| low.len() == 16)?;
    Some(u128::from(hexadecimal(high)?) << 64 | u128::from(hexadecimal(low)?))
}

/// The number that at most 16 of them stand for.
fn hexadecimal(digits: &[u8]) -> Option<u64> {
    let (mut number, mut all) = (0, 0);
    for digit in digits {
        let value = VALUES[usize::from(*digit)];
        all |= value;
        number = number << 4 | u64::from(value);
    }
    (all < 16).then_some(number)
}

/// What each system on the way of a trace noted about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TraceState(Box<str>);

impl TraceState {
    /// The most members, and the most bytes.
    const MEMBERS: usize = 32;
    const LENGTH: usize = 512;

    /// Parses the values of all `tracestate` fields. `None` if there is nothing in them, or if they violate a rule.
    pub(crate) fn parse<'v>(lines: impl Iterator<Item = &'v [u8]>) -> Option<Self> {
        let mut text = String::new();
        let mut keys: Vec<&[u8]> = Vec::new();
        for member in lines.flat_map(|line| line.split(|byte| *byte == b',')) {
            let member = member.trim_ascii();
            if member.is_empty() {
                continue;
            }
            let equals = member.iter().position(|byte| *byte == b'=')?;
            let (key, value) = (&member[..equals], &member[equals + 1..]);
            if !is_key(key) || !is_value(value) || keys.contains(&key) || keys.len() == Self::MEMBERS {
                return None;
            }
            keys.push(key);
            if !text.is_empty() {
                text.push(',');
            }
            text.push_str(std::str::from_utf8(member).ok()?);
            if text.len() > Self::LENGTH {
                return None;
            }
        }
        (!text.is_empty()).then(|| Self(text.into()))
    }

    /// The members, separated by commas.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// `key` or `tenant@system`.
fn is_key(key: &[u8]) -> bool {
    let plain = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/');
    let begins = |part: &[u8], digits: bool| match part.first() {
        Some(b'a'..=b'z') => true,
        Some(b'0'..=b'9') => digits,
        _ => false,
    };
    match key.iter().position(|byte| *byte == b'@') {
        None => begins(key, false) && key.len() <= 256 && key.iter().all(plain),
        Some(at) => {
            let (tenant, system) = (&key[..at], &key[at + 1..]);
            begins(tenant, true)
                && begins(system, false)
                && tenant.len() <= 241
                && system.len() <= 14
                && tenant.iter().chain(system).all(plain)
        }
    }
}

fn is_value(value: &[u8]) -> bool {
    let in_value = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b',' | b'=');
    (1..=256).contains(&value.len()) && value.iter().all(in_value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_traceparent_is_read_and_written() {
        let parent = TraceParent::parse(VALID.as_bytes()).unwrap();
        assert_eq!(parent.trace.get(), 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
        assert_eq!((parent.span.get(), parent.sampled), (0xb7ad_6b71_6920_3331, true));
        assert_eq!(parent.written().as_str(), VALID);
        let unsampled = TraceParent { sampled: false, ..parent };
        assert_eq!(unsampled.written().as_str(), format!("{}0", &VALID[..54]));
        for (text, sampled) in [
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", false),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-fe", false),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03", true),
            ("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", true),
            ("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what the future brings", true),
        ] {
            assert_eq!(TraceParent::parse(text.as_bytes()), Some(TraceParent { sampled, ..parent }), "{text}");
        }
    }

    #[test]
    fn anything_else_is_no_traceparent() {
        for text in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01 ",
            " 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-B7AD6B7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0A",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00_0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331_01",
            "00-0af7651916cd43dd8448eb211c80319cb-7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "0x-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01.",
        ] {
            assert_eq!(TraceParent::parse(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn a_tracestate_is_taken_whole_or_not_at_all() {
        let read = |lines: &[&str]| {
            let state = TraceState::parse(lines.iter().map(|line| line.as_bytes()));
            state.map(|state| state.as_str().to_owned())
        };
        assert_eq!(read(&["rojo=00f067aa0ba902b7", " congo=t61rcWkgMzE ,,a@b=1"]).unwrap(), {
            "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE,a@b=1"
        });
        assert_eq!(read(&["1-a_*/@s=x y", "\ta=!"]).unwrap(), "1-a_*/@s=x y,a=!");
        let members = |count: usize| (0..count).map(|n| format!("k{n}=v")).collect::<Vec<_>>().join(",");
        assert!(read(&[&members(32)]).is_some());
        let long = |length: usize| format!("a={},b={}", "x".repeat(256), "y".repeat(length));
        assert_eq!(read(&[&long(512 - 261)]).map(|text| text.len()), Some(512));
        for wrong in [
            "",
            " , ",
            "a",
            "=1",
            "a=",
            "A=1",
            "1a=1",
            "a b=1",
            "a=1=2",
            "a=\u{e9}",
            "a=1,a=2",
            "@a=1",
            "a@=1",
            "a@1=1",
            "a@b@c=1",
            "a=1\u{7f}",
            &members(33),
            &long(512 - 260),
            &format!("a={}", "x".repeat(257)),
            &format!("{}=1", "a".repeat(257)),
            &format!("a@{}=1", "b".repeat(15)),
        ] {
            assert_eq!(read(&[wrong]), None, "{wrong:?}");
        }
    }
}
