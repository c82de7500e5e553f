use std::fmt;

use super::{BadDate, Date, PhpDates, Signature};

/// The most bytes of an `Authorization` line.
pub const MAX_BYTES: usize = 512;

const SCHEME: &[u8] = b"HMAC-SHA256";

/// A parsed `Authorization` line: four values, byte for byte as they came. Proves nothing yet.
#[derive(Debug)]
pub struct Credentials<'h> {
    api_key: &'h str,
    date: Date<'h>,
    salt: &'h str,
    signature: Signature,
}

/// Which clause of contract §2 a line misses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Over [`MAX_BYTES`].
    TooLong,
    /// A byte that is neither visible ASCII nor a space.
    NotVisibleAscii,
    /// Another scheme than `HMAC-SHA256`.
    OtherScheme,
    /// The scheme without one space and parameters after it.
    NoParameters,
    /// A parameter that is not `name=value`, or more between two than `,` and one space.
    Separator,
    /// A parameter besides the four.
    UnknownParameter,
    /// A parameter twice.
    Repeated(&'static str),
    /// A parameter that is not there.
    Missing(&'static str),
    /// Not `[0-9A-Za-z]{1,64}`.
    ApiKey,
    /// Not `[0-9A-Za-z_-]{12,64}`.
    Salt,
    /// Not `[0-9a-f]{64}`.
    Signature,
    /// Not a date.
    Date(BadDate),
}

impl Malformed {
    /// Whether it is another scheme, rather than this one misspelled.
    pub fn is_other_scheme(self) -> bool {
        self == Self::OtherScheme
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "the header is longer than 512 bytes",
            Self::NotVisibleAscii => "the header holds a byte that is neither visible ASCII nor a space",
            Self::OtherScheme => "the scheme is not HMAC-SHA256",
            Self::NoParameters => "HMAC-SHA256 is not followed by one space and the parameters",
            Self::Separator => "the parameters are not name=value, separated by a comma and at most one space",
            Self::UnknownParameter => "there is a parameter besides apiKey, date, salt and signature",
            Self::Repeated(name) => return write!(f, "{name} is there twice"),
            Self::Missing(name) => return write!(f, "{name} is missing"),
            Self::ApiKey => "apiKey is not 1 to 64 letters and digits",
            Self::Salt => "salt is not 12 to 64 letters, digits, `_` and `-`",
            Self::Signature => "signature is not 64 lower-case hexadecimal digits",
            Self::Date(bad) => return bad.fmt(f),
        })
    }
}

impl<'h> Credentials<'h> {
    /// Reads the value of an `Authorization` line. Allocates nothing.
    ///
    /// # Errors
    /// The first clause of the grammar that it misses.
    pub fn parse(value: &'h [u8], php: PhpDates) -> Result<Self, Malformed> {
        if value.len() > MAX_BYTES {
            return Err(Malformed::TooLong);
        }
        if !value.iter().all(|b| matches!(b, b' '..=b'~')) {
            return Err(Malformed::NotVisibleAscii);
        }
        let (scheme, rest) = value.split_at_checked(SCHEME.len()).ok_or(Malformed::OtherScheme)?;
        if !scheme.eq_ignore_ascii_case(SCHEME) || rest.first().is_some_and(|b| *b != b' ') {
            return Err(Malformed::OtherScheme);
        }
        let parameters = rest.strip_prefix(b" ").filter(|p| !p.is_empty()).ok_or(Malformed::NoParameters)?;

        let [mut api_key, mut date, mut salt, mut signature] = [None; 4];
        for (nth, parameter) in parameters.split(|b| *b == b',').enumerate() {
            let parameter = if nth == 0 { parameter } else { parameter.strip_prefix(b" ").unwrap_or(parameter) };
            let equals = parameter.iter().position(|b| *b == b'=').ok_or(Malformed::Separator)?;
            let (name, value) = (&parameter[..equals], &parameter[equals + 1..]);
            let (slot, name) = match name {
                name if name.eq_ignore_ascii_case(b"apiKey") => (&mut api_key, "apiKey"),
                name if name.eq_ignore_ascii_case(b"date") => (&mut date, "date"),
                name if name.eq_ignore_ascii_case(b"salt") => (&mut salt, "salt"),
                name if name.eq_ignore_ascii_case(b"signature") => (&mut signature, "signature"),
                name if name.contains(&b' ') => return Err(Malformed::Separator),
                _ => return Err(Malformed::UnknownParameter),
            };
            if slot.replace(value).is_some() {
                return Err(Malformed::Repeated(name));
            }
        }
        let api_key = api_key.ok_or(Malformed::Missing("apiKey"))?;
        let date = date.ok_or(Malformed::Missing("date"))?;
        let salt = salt.ok_or(Malformed::Missing("salt"))?;
        let signature = signature.ok_or(Malformed::Missing("signature"))?;
        Ok(Self {
            api_key: text(api_key, 1..=64, |b| b.is_ascii_alphanumeric()).ok_or(Malformed::ApiKey)?,
            date: Date::parse(date, php).map_err(Malformed::Date)?,
            salt: text(salt, 12..=64, |b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
                .ok_or(Malformed::Salt)?,
            signature: Signature::parse(signature).ok_or(Malformed::Signature)?,
        })
    }

    /// The apiKey that is claimed.
    pub fn api_key(&self) -> &'h str {
        self.api_key
    }

    /// The date that was signed.
    pub fn date(&self) -> Date<'h> {
        self.date
    }

    /// The salt that was signed.
    pub fn salt(&self) -> &'h str {
        self.salt
    }

    /// The signature that is claimed.
    pub fn signature(&self) -> &Signature {
        &self.signature
    }
}

fn text(bytes: &[u8], length: std::ops::RangeInclusive<usize>, of: impl Fn(u8) -> bool) -> Option<&str> {
    let fits = length.contains(&bytes.len()) && bytes.iter().all(|b| of(*b));
    fits.then(|| std::str::from_utf8(bytes).ok()).flatten()
}

/// The value of a header with these four values, as the API page writes it.
pub fn header_value(api_key: &str, date: &str, salt: &str, signature: &str) -> String {
    format!("HMAC-SHA256 apiKey={api_key}, date={date}, salt={salt}, signature={signature}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SIGNATURE: &str = "69f8adbe49c8658112ba2f6a8a5c4175d28823a006c7f3f766b1e234e0f4cd1e";

    fn parse(value: &str) -> Result<(), Malformed> {
        Credentials::parse(value.as_bytes(), PhpDates::Accept).map(drop)
    }

    #[test]
    fn what_is_a_header_and_what_is_not() {
        let (k, d, s, g) =
            ("apiKey=NCS1", "date=2026-11-23T22:38:08Z", "salt=0123456789ab", &format!("signature={SIGNATURE}"));
        let upper = format!("signature={}", SIGNATURE.to_uppercase());
        use Malformed as M;
        let rows: Vec<(&str, String, Result<(), Malformed>)> = vec![
            ("as the page writes it", format!("HMAC-SHA256 {k}, {d}, {s}, {g}"), Ok(())),
            ("any order, no spaces", format!("HMAC-SHA256 {g},{s},{d},{k}"), Ok(())),
            ("scheme in lower case", format!("hmac-sha256 {k}, {d}, {s}, {g}"), Ok(())),
            ("names in any case", format!("HMAC-SHA256 APIKEY=NCS1, Date=2026-11-23T22:38:08Z, {s}, {g}"), Ok(())),
            ("empty", String::new(), Err(M::OtherScheme)),
            ("bearer", "Bearer abcdefghijklmnop".into(), Err(M::OtherScheme)),
            ("hmac-md5", format!("HMAC-MD5 {k}, {d}, {s}, {g}"), Err(M::OtherScheme)),
            ("longer scheme", format!("HMAC-SHA2567 {k}, {d}, {s}, {g}"), Err(M::OtherScheme)),
            ("scheme only", "HMAC-SHA256".into(), Err(M::NoParameters)),
            ("scheme and a space", "HMAC-SHA256 ".into(), Err(M::NoParameters)),
            ("two spaces after the scheme", format!("HMAC-SHA256  {k}, {d}, {s}, {g}"), Err(M::Separator)),
            ("two spaces between", format!("HMAC-SHA256 {k},  {d}, {s}, {g}"), Err(M::Separator)),
            ("space before comma", format!("HMAC-SHA256 {k} , {d}, {s}, {g}"), Err(M::ApiKey)),
            ("space at the end", format!("HMAC-SHA256 {k}, {d}, {s}, {g} "), Err(M::Signature)),
            ("comma at the end", format!("HMAC-SHA256 {k}, {d}, {s}, {g},"), Err(M::Separator)),
            ("a tab", format!("HMAC-SHA256 {k},\t{d}, {s}, {g}"), Err(M::NotVisibleAscii)),
            ("not ASCII", format!("HMAC-SHA256 {k}, {d}, {s}, {g}é"), Err(M::NotVisibleAscii)),
            ("quoted", format!("HMAC-SHA256 apiKey=\"NCS1\", {d}, {s}, {g}"), Err(M::ApiKey)),
            ("one more", format!("HMAC-SHA256 {k}, {d}, {s}, {g}, x=y"), Err(M::UnknownParameter)),
            ("twice", format!("HMAC-SHA256 {k}, {k}, {d}, {s}, {g}"), Err(M::Repeated("apiKey"))),
            (
                "twice in another case",
                format!("HMAC-SHA256 {k}, {d}, {s}, SALT=0123456789ab, {g}"),
                Err(M::Repeated("salt")),
            ),
            ("no salt", format!("HMAC-SHA256 {k}, {d}, {g}"), Err(M::Missing("salt"))),
            ("no key", format!("HMAC-SHA256 {d}, {s}, {g}"), Err(M::Missing("apiKey"))),
            ("empty key", format!("HMAC-SHA256 apiKey=, {d}, {s}, {g}"), Err(M::ApiKey)),
            ("short salt", format!("HMAC-SHA256 {k}, {d}, salt=0123456789a, {g}"), Err(M::Salt)),
            ("long salt", format!("HMAC-SHA256 {k}, {d}, salt={}, {g}", "a".repeat(65)), Err(M::Salt)),
            ("salt with a dot", format!("HMAC-SHA256 {k}, {d}, salt=0123456789a.b, {g}"), Err(M::Salt)),
            ("upper-case signature", format!("HMAC-SHA256 {k}, {d}, {s}, {upper}"), Err(M::Signature)),
            ("short signature", format!("HMAC-SHA256 {k}, {d}, {s}, signature=abc"), Err(M::Signature)),
            ("bad date", format!("HMAC-SHA256 {k}, date=now, {s}, {g}"), Err(M::Date(BadDate::Form))),
            ("too long", format!("HMAC-SHA256 {k}, {d}, {s}, {g}{}", "a".repeat(400)), Err(M::TooLong)),
        ];
        for (name, value, result) in rows {
            assert_eq!(parse(&value), result, "{name}: {value}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_header_or_not_and_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = Credentials::parse(&bytes, PhpDates::Accept);
        }

        #[test]
        fn what_is_put_in_comes_out(key in "[0-9A-Za-z]{1,64}", salt in "[0-9A-Za-z_-]{12,64}", sign in "[0-9a-f]{64}") {
            let value = header_value(&key, "2026-11-23T22:38:08Z", &salt, &sign);
            let read = Credentials::parse(value.as_bytes(), PhpDates::Accept).unwrap();
            prop_assert_eq!((read.api_key(), read.date().text(), read.salt()), (&*key, "2026-11-23T22:38:08Z", &*salt));
        }
    }
}
