//! What real clients sent, recorded.

use super::*;

#[test]
fn every_recorded_header_verifies() {
    let vectors: serde_json::Value = serde_json::from_str(include_str!("../../tests/vectors.json")).unwrap();
    let vectors = vectors.as_array().unwrap();
    assert_eq!(vectors.len(), 33);
    let from = Date::parse("2026-11-23T22:36Z", PhpDates::Refuse).unwrap().instant();
    let until = Date::parse("2026-11-23T22:39Z", PhpDates::Refuse).unwrap().instant();
    for vector in vectors {
        let field = |name: &str| vector[name].as_str().unwrap();
        let name = format!("{} in {}: {}", field("client"), field("tz"), field("header"));
        let credentials = Credentials::parse(field("header").as_bytes(), PhpDates::Accept).expect(&name);
        let (date, salt) = (credentials.date(), credentials.salt());
        assert_eq!(
            (credentials.api_key(), date.text(), salt),
            (field("apiKey"), field("date"), field("salt")),
            "{name}"
        );
        let key = SigningKey::new(&Secret::new(field("apiSecret").as_bytes()).unwrap());
        assert!(bool::from(key.verify(&date, salt, credentials.signature())), "{name}");
        assert_eq!(key.sign(date.text(), salt), field("signature"), "{name}");
        assert!((from..until).contains(&date.instant()), "{name}");
        assert_eq!(date.is_php_sdk(), field("client") == "php-solapi", "{name}");
    }
}
