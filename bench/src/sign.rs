//! Signed requests, each with its own salt, signed when it is sent.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use ring::hmac::{Context, HMAC_SHA256, Key, sign};
use ring::rand::{SecureRandom, SystemRandom};

/// The kinds of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A valid request.
    Good,
    /// One digit of the signature is wrong.
    BadSignature,
    /// The key does not exist.
    UnknownKey,
    /// The date is twenty minutes old.
    StaleDate,
    /// The header was used before.
    Replayed,
}

impl Kind {
    /// The kind with this name on the command line.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "good" => Self::Good,
            "bad-signature" => Self::BadSignature,
            "unknown-key" => Self::UnknownKey,
            "stale-date" => Self::StaleDate,
            "replayed" => Self::Replayed,
            _ => return None,
        })
    }
}

/// The holder of the keys.
pub struct Signer {
    keys: Vec<(String, Key)>,
    dice: Dice,
    /// The last date that was formatted, and its millisecond.
    date: (u128, String),
}

impl Signer {
    /// Parses lines of `apiKey,secret,…`.
    ///
    /// # Errors
    /// If a line is different, or there is none.
    pub fn new(csv: &str) -> Result<Self, String> {
        let keys = csv
            .lines()
            .map(|line| {
                let (id, rest) = line.split_once(',').ok_or("a line of the keys has no comma")?;
                let secret = rest.split(',').next().unwrap_or_default();
                Ok((id.to_owned(), Key::new(HMAC_SHA256, secret.as_bytes())))
            })
            .collect::<Result<Vec<_>, String>>()?;
        if keys.is_empty() {
            return Err("no keys".to_owned());
        }
        Ok(Self { keys, dice: Dice::thrown()?, date: (0, String::new()) })
    }

    /// A random number.
    pub fn random(&mut self) -> u64 {
        self.dice.next()
    }

    /// A random number from 0 to 1, without 1.
    pub fn fraction(&mut self) -> f64 {
        (self.dice.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Appends the value of `Authorization` to `out`.
    pub fn header(&mut self, kind: Kind, out: &mut String) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        let millisecond = if kind == Kind::StaleDate { now - 1_200_000 } else { now };
        if self.date.0 != millisecond {
            self.date = (millisecond, date(millisecond));
        }
        let salt = format!("{:016x}{:016x}", self.dice.next(), self.dice.next());
        let chosen = (self.dice.next() % self.keys.len() as u64) as usize;
        let (id, key) = &self.keys[chosen];
        let mut mac = Context::with_key(key);
        mac.update(self.date.1.as_bytes());
        mac.update(salt.as_bytes());
        let mut signature = hex(mac.sign().as_ref());
        if kind == Kind::BadSignature {
            let other = if signature.ends_with('0') { "1" } else { "0" };
            signature.replace_range(63.., other);
        }
        out.push_str("HMAC-SHA256 apiKey=");
        match kind {
            Kind::UnknownKey => write!(out, "NCX{:013X}", self.dice.next() >> 12).unwrap_or_default(),
            _ => out.push_str(id),
        }
        for part in [", date=", &self.date.1, ", salt=", &salt, ", signature=", &signature] {
            out.push_str(part);
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
        }
    }
    text
}

/// Formats milliseconds since 1970 as `2026-11-23T22:20:00.123Z`.
fn date(milliseconds: u128) -> String {
    let (seconds, milliseconds) = (milliseconds / 1000, milliseconds % 1000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Converts days to a civil date, by eras of 400 years that begin on the first of March.
    let z = days + 719_468;
    let (era, day) = (z / 146_097, z % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 { (year, month + 3) } else { (year + 1, month - 9) };
    let year = year + 400 * era;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milliseconds:03}Z")
}

/// Xorshift: cheap, and seeded differently each time.
struct Dice(u64, u64);

impl Dice {
    fn thrown() -> Result<Self, String> {
        let mut seed = [[0; 8]; 2];
        SystemRandom::new().fill(seed.as_flattened_mut()).map_err(|_| "the system has no random numbers")?;
        Ok(Self(u64::from_le_bytes(seed[0]) | 1, u64::from_le_bytes(seed[1])))
    }

    fn next(&mut self) -> u64 {
        let (mut a, b) = (self.0, self.1);
        a ^= a << 23;
        (self.0, self.1) = (b, a ^ b ^ (a >> 18) ^ (b >> 5));
        self.1.wrapping_add(b)
    }
}

/// The HMAC of one text, for other tests.
pub fn mac(secret: &[u8], text: &[u8]) -> String {
    hex(sign(&Key::new(HMAC_SHA256, secret), text).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(date(951_826_153_042), "2000-02-29T12:09:13.042Z");
        assert_eq!(date(1_767_225_599_999), "2025-12-31T23:59:59.999Z");
    }

    #[test]
    fn a_good_header_is_signed_over_date_and_salt_and_a_bad_one_is_not() {
        let mut signer = Signer::new("NCS1,a secret of some length,OWNER").expect("a key");
        for (kind, right) in [(Kind::Good, true), (Kind::BadSignature, false)] {
            let mut header = String::new();
            signer.header(kind, &mut header);
            let part = |name: &str| header.split(name).nth(1).and_then(|rest| rest.split(',').next()).expect(name);
            let signed = format!("{}{}", part("date="), part("salt="));
            let signature = mac(b"a secret of some length", signed.as_bytes());
            assert_eq!(part("signature=") == signature, right, "{header}");
        }
    }
}
