//! The cost of authentication before anything is looked up.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use saltgate::parts::{Credentials, PhpDates, Secret, SigningKey, header_value};

const DATE: &str = "2026-11-24T07:38:08.560570510+09:00";
const SALT: &str = "a560759b65a74ae2b38717abaf6bef6f";

fn credential(c: &mut Criterion) {
    let secret = Secret::new(b"THROWAWAYSECRET0123456789ABCDEFG").expect("long enough");
    let key = SigningKey::new(&secret);
    let decoy = SigningKey::decoy().expect("random bytes");
    let header = header_value("NCSTESTKEY000001", DATE, SALT, &key.sign(DATE, SALT));
    let parse = || Credentials::parse(black_box(header.as_bytes()), PhpDates::Accept).expect("well formed");

    c.bench_function("header_parse", |b| b.iter(parse));
    let parsed = parse();
    // Every request costs two MACs, however many secrets its key has.
    c.bench_function("verify", |b| {
        b.iter(|| {
            let (date, salt, signature) = black_box((parsed.date(), parsed.salt(), parsed.signature()));
            key.verify(&date, salt, signature) | decoy.verify(&date, salt, signature)
        });
    });
    c.bench_function("salt_id", |b| b.iter(|| key.salt_id(black_box(SALT))));
}

criterion_group!(benches, credential);
criterion_main!(benches);
