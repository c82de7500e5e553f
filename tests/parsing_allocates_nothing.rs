//! Parsing a header allocates nothing, whether it is accepted or refused: the gateway does this first, and for
//! every stranger.

// Counting allocations needs a `GlobalAlloc`, which is an unsafe trait. It is sound: every call is passed unchanged
// to the system's allocator, so its contract is the caller's. The only addition is a thread-local counter without a
// destructor, which never allocates. It is part of this test binary only, and never shipped.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;
use std::time::SystemTime;

use saltgate::parts::Owner;
use saltgate::parts::{Credentials, PhpDates, Secret};
use saltgate::parts::{Directory, KeyEntry};
use saltgate::parts::{Floor, Window};
use saltgate::parts::{RequestReader, Sizes};
use saltgate::parts::{Rules, judge};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: `System` fulfils the contract of `GlobalAlloc`, and gets exactly the arguments of the call.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise about `layout` is the one that `System` requires.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: by the caller's promise, `pointer` came from `System` with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.with(Cell::get);
    work();
    ALLOCATIONS.with(Cell::get) - before
}

#[test]
fn parsing_allocates_nothing() {
    let vectors: serde_json::Value = serde_json::from_str(include_str!("vectors.json")).unwrap();
    for vector in vectors.as_array().unwrap() {
        let good = vector["header"].as_str().unwrap().as_bytes();
        assert_eq!(allocations(|| assert!(black_box(Credentials::parse(good, PhpDates::Accept)).is_ok())), 0);
        for end in 0..good.len() {
            let cut = &good[..end];
            assert_eq!(allocations(|| assert!(black_box(Credentials::parse(cut, PhpDates::Accept)).is_err())), 0);
        }
    }
    assert_eq!(allocations(|| drop(black_box(Box::new(1)))), 1, "the counter counts");
}

#[test]
fn the_verdict_on_a_header_allocates_nothing() {
    let vectors: serde_json::Value = serde_json::from_str(include_str!("vectors.json")).unwrap();
    let directory = |api_key: &str, secret: &str| {
        let secrets = vec![Secret::new(secret.as_bytes()).unwrap()];
        let owner = Owner { account: "a".into(), member: "m".into() };
        Directory::new([KeyEntry {
            api_key: api_key.into(),
            secrets,
            owner,
            role: None,
            active: true,
            expires: None,
            secret_1_expires: None,
            line: 1,
        }])
    };
    for vector in vectors.as_array().unwrap() {
        let text = |name: &str| vector[name].as_str().unwrap();
        let (header, key, secret) = (text("header").as_bytes(), text("apiKey"), text("apiSecret"));
        let (right, unknown, wrong) =
            (directory(key, secret), directory("OTHER", secret), directory(key, "another secret of theirs"));
        let window = Window::default();
        let signed = Credentials::parse(header, PhpDates::Accept).unwrap().date().instant();
        for (name, directory, now, good) in [
            ("good", &right, signed, true),
            ("late", &right, signed + window.past, false),
            ("unknown", &unknown, signed, false),
            ("wrong", &wrong, signed, false),
        ] {
            let rules = Rules { directory: directory.as_ref().unwrap(), php_dates: PhpDates::Accept, window };
            let floor = |_| Floor(SystemTime::UNIX_EPOCH);
            let judged = || assert_eq!(black_box(judge(header, rules, floor, now)).is_ok(), good, "{name}");
            assert_eq!(allocations(judged), 0, "{name}");
        }
    }
}

#[test]
fn judging_a_message_on_the_wire_allocates_nothing() {
    let sizes = Sizes { max_header_bytes: 1 << 10, max_target_bytes: 1 << 10 };
    let messages = "DELETE http://a/x?y HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nT: u\r\n\r\n\
                    DELETE /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhiDELETE /x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n";
    let (mut reader, mut ended) = (RequestReader::default(), 0);
    // The positions of the fields are stored in memory that a connection allocates once.
    for _ in 0..2 {
        reader.accept(b"DELETE /x HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n", &sizes).unwrap();
    }
    let mut rest = messages.as_bytes();
    let judged = || {
        while let Ok(Some(accepted)) = black_box(reader.accept(rest, &sizes)) {
            rest = &rest[accepted.bytes..];
            ended += usize::from(accepted.ends);
        }
    };
    assert_eq!(allocations(judged), 0);
    assert_eq!(ended, 2, "two are accepted, one is refused");
}
