//! Fuzzing of the trace context that proxies send.

use super::context::{TraceParent, TraceState};

/// Any bytes as the value of `traceparent`, and as the lines of `tracestate`: what is accepted has one written form, which is
/// accepted again, and no shorter part of a `traceparent` of version 00 is one.
pub(crate) fn fuzz(bytes: &[u8]) {
    if let Some(parent) = TraceParent::parse(bytes) {
        let written = parent.written();
        let written = written.as_str();
        assert_eq!(TraceParent::parse(written.as_bytes()), Some(parent), "it is written as it was read");
        assert_eq!(&written.as_bytes()[2..53], &bytes[2..53], "the ids stay byte for byte");
        assert!((0..bytes.len().min(55)).all(|end| TraceParent::parse(&bytes[..end]).is_none()));
        assert!(bytes.len() == 55 || !bytes.starts_with(b"00"));
    }
    let Some(state) = TraceState::parse(bytes.split(|byte| *byte == b'\n')) else { return };
    let text = state.as_str();
    assert!(text.len() <= 512 && text.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{text:?}");
    assert!(text.split(',').all(|member| member.contains('=')), "{text:?}");
    assert_eq!(TraceState::parse(std::iter::once(text.as_bytes())), Some(state.clone()), "it is read as it is written");
}
