//! What a certificate of our own says: for which names it is, and until when. Whether it is
//! genuine is its clients' to judge; here it only has to be read.

use std::time::{Duration, SystemTime};

/// What a certificate says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// DNS names, in lower case; the first label may be `*`.
    pub(super) names: Vec<String>,
    pub(super) expires: SystemTime,
}

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xA0;
const EXTENSIONS: u8 = 0xA3;
const OBJECT: u8 = 0x06;
const OCTETS: u8 = 0x04;
const DNS_NAME: u8 = 0x82;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// `subjectAltName`, 2.5.29.17.
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1D, 0x11];

pub(super) fn facts(der: &[u8]) -> Option<Facts> {
    let mut certificate = Der(Der(der).inside(SEQUENCE)?);
    let mut body = Der(certificate.inside(SEQUENCE)?);
    body.optional(VERSION);
    // Serial number, algorithm, issuer.
    for _ in 0..3 {
        body.next()?;
    }
    let mut validity = Der(body.inside(SEQUENCE)?);
    validity.next()?;
    let expires = time(validity.next()?)?;
    let mut names = Vec::new();
    while let Some((tag, content)) = body.next() {
        if tag == EXTENSIONS {
            names = alternative_names(content)?;
        }
    }
    Some(Facts { names, expires })
}

fn alternative_names(extensions: &[u8]) -> Option<Vec<String>> {
    let mut extensions = Der(Der(extensions).inside(SEQUENCE)?);
    while let Some((SEQUENCE, extension)) = extensions.next() {
        let mut extension = Der(extension);
        if extension.inside(OBJECT)? != ALTERNATIVE_NAMES {
            continue;
        }
        while let Some((tag, value)) = extension.next() {
            // Before it may stand whether it is critical.
            if tag == OCTETS {
                let mut names = Der(Der(value).inside(SEQUENCE)?);
                let names = std::iter::from_fn(|| names.next()).filter(|(tag, _)| *tag == DNS_NAME);
                let text = |name: &[u8]| std::str::from_utf8(name).ok().map(str::to_ascii_lowercase);
                return names.map(|(_, name)| text(name)).collect();
            }
        }
    }
    Some(Vec::new())
}

fn time((tag, text): (u8, &[u8])) -> Option<SystemTime> {
    let digits = text.strip_suffix(b"Z").filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    let number = |part: &[u8]| part.iter().fold(0_u64, |n, digit| n * 10 + u64::from(digit - b'0'));
    let (year, rest) = match (tag, digits.len()) {
        (UTC_TIME, 12) => {
            let year = number(&digits[..2]);
            (if year < 50 { 2000 + year } else { 1900 + year }, &digits[2..])
        }
        (GENERALIZED_TIME, 14) => (number(&digits[..4]), &digits[4..]),
        _ => return None,
    };
    let [month, day, hour, minute, second] = [0, 2, 4, 6, 8].map(|at| number(&rest[at..at + 2]));
    if !(1..=12).contains(&month) || year < 1970 {
        return None;
    }
    // Years begin in March, so that the leap day is the last one.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day;
    let seconds = days.checked_sub(719_469)? * 86_400 + hour * 3600 + minute * 60 + second;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

/// What is left of some DER.
struct Der<'d>(&'d [u8]);

impl<'d> Der<'d> {
    /// The next element: its tag and what is in it.
    fn next(&mut self) -> Option<(u8, &'d [u8])> {
        let (&[tag, first], rest) = self.0.split_first_chunk::<2>()?;
        let (length, rest) = match first {
            0..=0x7F => (usize::from(first), rest),
            0x81..=0x84 => {
                let (length, rest) = rest.split_at_checked(usize::from(first & 0x7F))?;
                (length.iter().fold(0, |n, byte| n << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    /// What is in the next element, which must have this tag.
    fn inside(&mut self, tag: u8) -> Option<&'d [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }

    /// Skips the next element if it has this tag.
    fn optional(&mut self, tag: u8) {
        if self.0.first() == Some(&tag) {
            self.next();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_tells_its_names_and_its_end() {
        let key = rcgen::KeyPair::generate().unwrap();
        for (year, month, day, seconds) in
            [(2031, 2, 28, 1_930_003_200_u64), (2048, 2, 29, 2_466_547_200), (2051, 12, 31, 2_587_593_600)]
        {
            let mut wanted = rcgen::CertificateParams::new(["Gate.example".into(), "*.gate.example".into()]).unwrap();
            wanted.not_after = rcgen::date_time_ymd(year, month, day);
            let made = wanted.self_signed(&key).unwrap();
            let facts = facts(made.der()).unwrap();
            assert_eq!(facts.names, ["gate.example", "*.gate.example"]);
            assert_eq!(facts.expires.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs(), seconds);
            for cut in 0..made.der().len() {
                assert!(super::facts(&made.der()[..cut]).is_none(), "{cut}");
            }
        }
        let nameless = rcgen::CertificateParams::new([]).unwrap().self_signed(&key).unwrap();
        assert_eq!(facts(nameless.der()).unwrap().names, [""; 0]);
    }
}
