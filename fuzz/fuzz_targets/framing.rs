//! Any bytes as the messages of a connection: where the strict reader accepts, hyper reads the same messages with the
//! same ends, however the bytes are cut.
#![no_main]

use libfuzzer_sys::fuzz_target;

// The check is the tests' own; it finds the reader one level up.
use saltgate::wire::{Part, Reader, Sizes};

#[path = "../../src/wire/agreement.rs"]
mod agreement;

fuzz_target!(|bytes: &[u8]| {
    // The first byte says how the rest is cut.
    let Some((cut, bytes)) = bytes.split_first() else { return };
    let whole = agreement::check(bytes, bytes.len());
    let cut = agreement::check(bytes, 1 + usize::from(*cut));
    assert_eq!((whole.messages, whole.refused), (cut.messages, cut.refused), "the cut matters");
});
