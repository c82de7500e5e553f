//! Any bytes as a header: what is accepted is what the contract spells, and means the same when it is written anew.
#![no_main]

use libfuzzer_sys::fuzz_target;
use saltgate::credential::{Credentials, Malformed, PhpDates, header_value};

fuzz_target!(|bytes: &[u8]| {
    let parsed = match Credentials::parse(bytes, PhpDates::Accept) {
        Ok(parsed) => parsed,
        Err(malformed) => {
            assert!(!malformed.to_string().is_empty());
            assert_eq!(malformed.is_other_scheme(), malformed == Malformed::Scheme);
            assert_eq!(Credentials::parse(bytes, PhpDates::Refuse).err(), Some(malformed), "the switch admits nothing");
            return;
        }
    };

    assert!(bytes.len() <= 512);
    let text = std::str::from_utf8(bytes).expect("visible ASCII");
    assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
    assert!(!text.contains("  "));
    assert!(text[..12].eq_ignore_ascii_case("HMAC-SHA256 "));
    assert_eq!(text.matches(',').count(), 3);
    assert_eq!(text.matches('=').count(), 4);
    assert!((1..=64).contains(&parsed.api_key().len()));
    assert!((12..=64).contains(&parsed.salt().len()));

    // The signature shows itself to nobody; it is the only run of 64 bytes behind its name.
    let at = text.to_ascii_lowercase().find("signature=").expect("there is one") + "signature=".len();
    let signature = &text[at..at + 64];
    assert!(signature.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')));

    // Nothing was left out and nothing made up: written anew it is as long as it was, but for spaces behind commas.
    let again = header_value(parsed.api_key(), parsed.date().text(), parsed.salt(), signature);
    let without_spaces = |text: &str| text.bytes().filter(|byte| *byte != b' ').count();
    assert_eq!(without_spaces(&again), without_spaces(text));
    let reparsed = Credentials::parse(again.as_bytes(), PhpDates::Accept).expect("what was accepted is accepted");
    assert_eq!(reparsed.api_key(), parsed.api_key());
    assert_eq!(reparsed.date().text(), parsed.date().text());
    assert_eq!(reparsed.date().instant(), parsed.date().instant());
    assert_eq!(reparsed.salt(), parsed.salt());

    // No value can be cut short or made longer by one byte of another's: the same header less any one byte of its
    // punctuation is refused.
    for (at, _) in text.match_indices([',', '=']) {
        let less = [&bytes[..at], &bytes[at + 1..]].concat();
        assert!(Credentials::parse(&less, PhpDates::Accept).is_err(), "{text:?} less byte {at}");
    }
});
