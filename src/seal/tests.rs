//! Tests of sealed secrets.

use super::*;

fn kek(byte: u8) -> Kek {
    Kek::of_file(&[byte; 32]).unwrap()
}

fn secret(text: &[u8]) -> Secret {
    Secret::new(text).unwrap()
}

const HERE: Place<'_> = Place { api_key: "K", slot: SecretSlot::First };
const TEXT: &[u8] = b"a secret, long enough";

/// Made by another implementation: HKDF and AESGCM of the Python package cryptography.
#[test]
fn known_answers() {
    let counting: Vec<u8> = (0..64).collect();
    let (first, second) = counting.split_at(32);
    let rows: [(&[u8], &[u8], &str, Place<'_>, &[u8], &str); 2] = [
        (
            first,
            second,
            "2026-12",
            Place { api_key: "NCSEXAMPLE000001", slot: SecretSlot::First },
            b"the secret of a known answer",
            "sg1:2026-12:202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f:644847ef35202dfe15ffa6d7920ba8f0e0\
             20364f9dcd7ed0fbbd3173c015f2a042ff19db849230dc454cfa18",
        ),
        (
            &[0xff; 32],
            &[0; 32],
            "a",
            Place { api_key: "K", slot: SecretSlot::Second },
            b"0123456789abcdef",
            "sg1:a:0000000000000000000000000000000000000000000000000000000000000000:bd4262ee0232f969f0301539109e3155704fcc0695\
             e1cfec13807ac82d7c59fd",
        ),
    ];
    for (key, salt, id, place, text, sealed) in rows {
        let ring = KeyRing::new(vec![(id.into(), Kek::of_file(key).unwrap())]);
        assert_eq!(ring.seal_with(salt.try_into().unwrap(), place, &secret(text)).unwrap(), sealed);
        assert_eq!(ring.open(place, sealed).unwrap().expose(), text);
    }
}

#[test]
fn the_first_key_seals_and_all_open() {
    let old = KeyRing::new(vec![("old".into(), kek(1))]);
    let both = KeyRing::new(vec![("new".into(), kek(2)), ("old".into(), kek(1))]);
    let by_old = old.seal(HERE, &secret(TEXT)).unwrap();
    let by_new = both.seal(HERE, &secret(TEXT)).unwrap();
    assert_eq!((id_of(&by_old), id_of(&by_new)), (Ok("old"), Ok("new")));
    assert_ne!(both.seal(HERE, &secret(TEXT)).unwrap(), by_new, "the same secret has another text each time");
    for text in [&by_old, &by_new] {
        assert_eq!(both.open(HERE, text).unwrap().expose(), TEXT);
    }
    assert_eq!(old.open(HERE, &by_new).unwrap_err(), OpenError::UnknownId("new".into()));
    assert_eq!(KeyRing::default().open(HERE, &by_new).unwrap_err(), OpenError::NoKeys);
    assert_eq!(KeyRing::default().seal(HERE, &secret(TEXT)).unwrap_err(), SealError::NoKeys);
    // An id does not say which key it is.
    let other = KeyRing::new(vec![("new".into(), kek(3))]);
    assert_eq!(other.open(HERE, &by_new).unwrap_err(), OpenError::Changed("new".into()));
}

#[test]
fn a_text_opens_only_at_its_place_and_unchanged() {
    let ring = KeyRing::new(vec![("k".into(), kek(1)), ("l".into(), kek(1))]);
    let sealed = ring.seal(HERE, &secret(TEXT)).unwrap();
    for place in
        [Place { api_key: "L", ..HERE }, Place { api_key: "k", ..HERE }, Place { slot: SecretSlot::Second, ..HERE }]
    {
        assert_eq!(ring.open(place, &sealed).unwrap_err(), OpenError::Changed("k".into()), "{place:?}");
    }
    // Also under the same key by another id.
    assert!(ring.open(HERE, &sealed.replacen(":k:", ":l:", 1)).is_err());
    for at in 0..sealed.len() {
        let mut changed = sealed.clone().into_bytes();
        changed[at] = if changed[at] == b'1' { b'2' } else { b'1' };
        assert!(ring.open(HERE, std::str::from_utf8(&changed).unwrap()).is_err(), "byte {at}");
    }
    for cut in 0..sealed.len() {
        assert!(ring.open(HERE, &sealed[..cut]).is_err(), "cut after {cut}");
    }
}

#[test]
fn only_one_spelling_is_read() {
    let ring = KeyRing::new(vec![("k".into(), kek(1))]);
    let sealed = ring.seal(HERE, &secret(TEXT)).unwrap();
    let wrong = [
        String::new(),
        sealed.to_uppercase(),
        format!("{sealed} "),
        format!(" {sealed}"),
        format!("{sealed}00:"),
        sealed.replacen("sg1", "sg2", 1),
        sealed.replacen(":k:", "::", 1),
        sealed.replacen(":k:", ":a b:", 1),
        format!("sg1:k:{}", "0".repeat(64)),
        format!("sg1:k:{}:{}", "0".repeat(64), "0".repeat(62)),
        format!("sg1:k:{}:{}", "0".repeat(64), "0".repeat(546)),
    ];
    for text in wrong {
        assert_eq!(ring.open(HERE, &text).unwrap_err(), OpenError::Form(NotSealed), "{text}");
    }
}

#[test]
fn a_sealing_key_is_32_bytes_or_64_digits() {
    let digits = "0f".repeat(32);
    for content in [digits.clone(), format!("{digits}\n"), format!("{}\r\n", digits.to_uppercase())] {
        assert_eq!(Kek::of_file(content.as_bytes()).unwrap().expose(), [15; 32]);
    }
    assert_eq!(Kek::of_file(&[b'\n'; 32]).unwrap().expose(), [b'\n'; 32]);
    for content in ["", "0f", &"0g".repeat(32), &format!("{digits}\n\n"), &"x".repeat(33)] {
        assert!(Kek::of_file(content.as_bytes()).is_err(), "{content:?}");
    }
    assert_eq!(format!("{:?}", kek(1)), "Kek(redacted)");
}
