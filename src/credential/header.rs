//! The value of an `Authorization` header (contract §2).
//!
//! 1. `HMAC-SHA256`, one space, then `name=value` parameters separated by a comma and at most one space.
//! 2. Exactly `apiKey`, `date`, `salt` and `signature`, each once, in any order, so that no two readers can read it
//!    differently.
//! 3. Scheme and names ignore ASCII case. Values are taken byte by byte: no quoting, no escapes, no trimming.
//! 4. At most 512 bytes, all of them visible ASCII or single spaces.
//! 5. Another scheme is reported before anything else that is wrong, because it belongs to another kind of client.

use memchr::memchr;

use super::{Date, MalformedHeader, PhpDates, Signature};
use crate::bytewise;

/// Who a client claims to be, and what it claims to have signed. Well formed, but not verified.
#[derive(Debug)]
pub struct Credentials<'h> {
    api_key: &'h str,
    date: Date<'h>,
    salt: &'h str,
    signature: Signature,
}

impl<'h> Credentials<'h> {
    /// The longest value, in bytes.
    pub const MAX: usize = 512;

    /// Parses the value of the one `Authorization` field. Allocates nothing.
    ///
    /// # Errors
    /// The first violation of contract §2.
    pub fn parse(value: &'h [u8], php: PhpDates) -> Result<Self, MalformedHeader> {
        let parameters = after_scheme(value)?;
        if value.len() > Self::MAX {
            return Err(MalformedHeader::TooLong);
        }
        let parameters = visible_ascii(parameters).ok_or(MalformedHeader::NotVisibleAscii)?;
        // A valid value never has two spaces in a row, so they are reported first.
        Self::of(parameters, php)
            .map_err(|why| if parameters.contains("  ") { MalformedHeader::NotVisibleAscii } else { why })
    }

    fn of(parameters: &'h str, php: PhpDates) -> Result<Self, MalformedHeader> {
        let [api_key, date, salt, signature] = four_values(parameters)?;
        if !consists_of(api_key, 1..=64, |byte| byte.is_ascii_alphanumeric()) {
            return Err(MalformedHeader::ApiKey);
        }
        if !consists_of(salt, 12..=64, |byte| byte.is_ascii_alphanumeric() | matches!(byte, b'_' | b'-')) {
            return Err(MalformedHeader::Salt);
        }
        let signature = Signature::parse(signature.as_bytes()).ok_or(MalformedHeader::Signature)?;
        let date = Date::parse(date, php).map_err(MalformedHeader::Date)?;
        Ok(Self { api_key, date, salt, signature })
    }

    /// The name of the key, 1 to 64 ASCII letters and digits.
    pub fn api_key(&self) -> &'h str {
        self.api_key
    }

    /// The date that was signed.
    pub fn date(&self) -> Date<'h> {
        self.date
    }

    /// The salt that was signed, 12 to 64 bytes.
    pub fn salt(&self) -> &'h str {
        self.salt
    }

    /// The claimed MAC of date and salt.
    pub fn signature(&self) -> &Signature {
        &self.signature
    }
}

/// A header value with these four parameters, in the usual spelling. Checks none of them.
pub fn header_value(api_key: &str, date: &str, salt: &str, signature: &str) -> String {
    format!("{SCHEME} apiKey={api_key}, date={date}, salt={salt}, signature={signature}")
}

const SCHEME: &str = "HMAC-SHA256";
const NAMES: [&str; 4] = ["apiKey", "date", "salt", "signature"];

fn after_scheme(value: &[u8]) -> Result<&[u8], MalformedHeader> {
    let (scheme, rest) = value.split_at_checked(SCHEME.len()).ok_or(MalformedHeader::Scheme)?;
    if !scheme.eq_ignore_ascii_case(SCHEME.as_bytes()) {
        return Err(MalformedHeader::Scheme);
    }
    match rest {
        [] | [b' '] => Err(MalformedHeader::NoParameters),
        // Two spaces: the scheme is right, but not the spacing.
        [b' ', b' ', ..] => Err(MalformedHeader::NotVisibleAscii),
        [b' ', parameters @ ..] => Ok(parameters),
        _ => Err(MalformedHeader::Scheme),
    }
}

fn visible_ascii(bytes: &[u8]) -> Option<&str> {
    let visible = bytewise::all(bytes, |byte| (b' '..=b'~').contains(&byte));
    if visible { std::str::from_utf8(bytes).ok() } else { None }
}

/// The values in the order of [`NAMES`].
fn four_values(parameters: &str) -> Result<[&str; 4], MalformedHeader> {
    let mut values = [None; 4];
    let mut rest = Some(parameters);
    while let Some(parameters) = rest {
        let end = memchr(b',', parameters.as_bytes()).unwrap_or(parameters.len());
        let parameter = &parameters[..end];
        let equals = memchr(b'=', parameter.as_bytes()).ok_or(MalformedHeader::Separator)?;
        let (name, value) = (&parameter[..equals], &parameter[equals + 1..]);
        let place = NAMES.iter().position(|known| known.eq_ignore_ascii_case(name));
        let place = place.ok_or(MalformedHeader::UnknownParameter)?;
        if values[place].replace(value).is_some() {
            return Err(MalformedHeader::RepeatedParameter);
        }
        // At most one space after a comma. The space before the first parameter belongs to the scheme.
        rest = parameters.get(end + 1..).map(|next| next.strip_prefix(' ').unwrap_or(next));
    }
    let present = |place: usize| values[place].ok_or(MalformedHeader::MissingParameter(NAMES[place]));
    Ok([present(0)?, present(1)?, present(2)?, present(3)?])
}

fn consists_of(value: &str, length: std::ops::RangeInclusive<usize>, allowed: impl Fn(u8) -> bool) -> bool {
    length.contains(&value.len()) && bytewise::all(value.as_bytes(), allowed)
}

#[cfg(test)]
mod tests {
    use super::super::BadDate;
    use super::*;
    use MalformedHeader::{
        ApiKey, MissingParameter, NoParameters, NotVisibleAscii, RepeatedParameter, Salt, Scheme, Separator, TooLong,
        UnknownParameter,
    };

    const GOOD: &str = "HMAC-SHA256 apiKey=NCSTESTKEY000001, date=2026-11-23T22:38:08Z, salt=cAhvtSQ1pU4NANjoBjRj, \
                        signature=69f8adbe49c8658112ba2f6a8a5c4175d28823a006c7f3f766b1e234e0f4cd1e";

    fn parse(value: &str) -> Result<Credentials<'_>, MalformedHeader> {
        Credentials::parse(value.as_bytes(), PhpDates::Accept)
    }

    #[test]
    fn a_header_of_the_greatest_length_is_read_and_a_longer_one_is_not() {
        let of_length = |length: usize| GOOD.to_owned() + &"a".repeat(length - GOOD.len());
        assert_ne!(parse(&of_length(Credentials::MAX)).err(), Some(TooLong));
        assert_eq!(parse(&of_length(Credentials::MAX + 1)).err(), Some(TooLong));
    }

    #[test]
    fn different_spellings_have_the_same_meaning() {
        let reversed = GOOD.strip_prefix("HMAC-SHA256 ").unwrap().rsplit(", ").collect::<Vec<_>>().join(",");
        let cases = [
            ("as it is", GOOD.to_owned()),
            ("no spaces", GOOD.replace(", ", ",")),
            ("lower-case scheme", GOOD.replace("HMAC-SHA256", "hmac-sha256")),
            ("names as the Kotlin client spells them", GOOD.replace("apiKey", "Apikey").replace("date", "Date")),
            ("another order", format!("HMAC-SHA256 {reversed}")),
        ];
        for (name, value) in cases {
            let credentials = parse(&value).expect(name);
            assert_eq!(credentials.api_key(), "NCSTESTKEY000001", "{name}");
            assert_eq!(credentials.date().text(), "2026-11-23T22:38:08Z", "{name}");
            assert_eq!(credentials.salt(), "cAhvtSQ1pU4NANjoBjRj", "{name}");
            assert_eq!(credentials.signature().bytes()[..2], [0x69, 0xf8], "{name}");
        }
    }

    #[test]
    fn invalid_headers_are_refused() {
        let cases = [
            ("nothing", String::new(), Scheme),
            ("another scheme", "Bearer abc".into(), Scheme),
            ("another scheme, however long", format!("Bearer {}", "a".repeat(600)), Scheme),
            ("another MAC", GOOD.replace("SHA256", "MD5"), Scheme),
            ("another MAC of as many letters", GOOD.replace("SHA256", "SHA512"), Scheme),
            ("a longer scheme", GOOD.replace("SHA256", "SHA2567"), Scheme),
            ("a tab for the space", GOOD.replace("SHA256 ", "SHA256\t"), Scheme),
            ("a space first", format!(" {GOOD}"), Scheme),
            ("the scheme alone", "HMAC-SHA256".into(), NoParameters),
            ("the scheme and its space", "HMAC-SHA256 ".into(), NoParameters),
            ("513 bytes", format!("{GOOD}{}", "a".repeat(513 - GOOD.len())), TooLong),
            ("two spaces after the scheme", GOOD.replace("256 ", "256  "), NotVisibleAscii),
            ("two spaces after a comma", GOOD.replace(", salt", ",  salt"), NotVisibleAscii),
            ("a tab", GOOD.replace(", salt", ",\tsalt"), NotVisibleAscii),
            ("not ASCII", GOOD.replace("NCS", "é"), NotVisibleAscii),
            ("a comma at the end", format!("{GOOD},"), Separator),
            ("two commas", GOOD.replace(", salt", ",,salt"), Separator),
            ("a comma first", GOOD.replace("256 ", "256 ,"), Separator),
            ("no value", GOOD.replace("salt=", "salt"), Separator),
            ("another parameter", format!("{GOOD}, v=1"), UnknownParameter),
            ("a space before =", GOOD.replace("salt=", "salt ="), UnknownParameter),
            ("an empty name", format!("{GOOD}, =1"), UnknownParameter),
            ("a parameter again", format!("{GOOD}, salt=cAhvtSQ1pU4NANjoBjRj"), RepeatedParameter),
            ("a parameter again in another case", format!("{GOOD}, SALT=cAhvtSQ1pU4NANjoBjRj"), RepeatedParameter),
            ("no salt", GOOD.replace("salt=cAhvtSQ1pU4NANjoBjRj, ", ""), MissingParameter("salt")),
            ("no apiKey", GOOD.replace("apiKey=NCSTESTKEY000001, ", ""), MissingParameter("apiKey")),
            ("an empty apiKey", GOOD.replace("NCSTESTKEY000001", ""), ApiKey),
            ("65 bytes of apiKey", GOOD.replace("NCSTESTKEY000001", &"A".repeat(65)), ApiKey),
            ("an apiKey of other bytes", GOOD.replace("NCSTEST", "NCS-TEST"), ApiKey),
            ("a space before the comma", GOOD.replace("01, ", "01 , "), ApiKey),
            ("a quoted value", GOOD.replace("NCSTESTKEY000001", "\"NCSTESTKEY000001\""), ApiKey),
            ("11 bytes of salt", GOOD.replace("cAhvtSQ1pU4NANjoBjRj", "cAhvtSQ1pU4"), Salt),
            ("65 bytes of salt", GOOD.replace("cAhvtSQ1pU4NANjoBjRj", &"a".repeat(65)), Salt),
            ("a salt of other bytes", GOOD.replace("cAhvtSQ1pU4NANjoBjRj", "cAhvtSQ1pU4NANjo+jRj"), Salt),
            ("an upper-case signature", GOOD.replace("69f8ad", "69F8AD"), MalformedHeader::Signature),
            ("a space at the end", format!("{GOOD} "), MalformedHeader::Signature),
            ("no zone", GOOD.replace("08Z", "08"), MalformedHeader::Date(BadDate::Zone)),
        ];
        for (name, value, malformed) in cases {
            assert_eq!(parse(&value).map(|_| ()), Err(malformed), "{name}");
        }
    }

    #[test]
    fn the_shortest_and_longest_salts_and_keys_are_accepted() {
        for (api_key, salt) in [(1, 12), (64, 64)] {
            let value = header_value(&"k".repeat(api_key), "2026-11-23T22:38Z", &"_".repeat(salt), &"0".repeat(64));
            assert!(parse(&value).is_ok(), "{value}");
        }
    }

    #[test]
    fn php_dates_can_be_switched_off() {
        let value = GOOD.replace("08Z", "08.32400Z");
        assert!(parse(&value).is_ok_and(|credentials| credentials.date().is_php_sdk()));
        let refused = Credentials::parse(value.as_bytes(), PhpDates::Refuse).map(|_| ());
        assert_eq!(refused, Err(MalformedHeader::Date(BadDate::PhpSdk)));
    }
}
