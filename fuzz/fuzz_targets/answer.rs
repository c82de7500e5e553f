//! Any bytes as the answer of a service: one that is taken to its end hyper reads the same, however the bytes are cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
// The check is the tests' own, and so is what it checks, which nobody outside sees; both find this one level up.
use saltgate::upstream::hygiene;

#[path = "../../src/upstream/agreement.rs"]
mod agreement;
#[allow(dead_code, reason = "the gateway uses more of it")]
#[path = "../../src/upstream/answer.rs"]
mod answer;
#[allow(dead_code, reason = "likewise")]
#[path = "../../src/upstream/framing.rs"]
mod framing;

fuzz_target!(|bytes: &[u8]| {
    // The first byte says how the rest is cut.
    if let Some((cut, bytes)) = bytes.split_first() {
        agreement::check(bytes, 1 + usize::from(*cut));
    }
});
