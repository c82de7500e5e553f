//! Reads the names and the expiry date of a certificate, with a small DER reader for these fields only.

use std::time::{Duration, SystemTime};

/// The names and the expiry date of a certificate.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// DNS names, in lower case; the first label may be `*`.
    pub names: Vec<String>,
    /// The common name of its subject.
    pub subject: Option<String>,
    /// When it expires.
    pub expires: SystemTime,
}

impl Facts {
    /// A name to show: the first DNS name, else the subject, else its number; `n` is its index in its file, from 0.
    pub(crate) fn name(&self, n: usize) -> String {
        let named = self.names.first().or(self.subject.as_ref());
        named.cloned().unwrap_or_else(|| format!("certificate {}", n + 1))
    }
}

pub(super) const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xA0;
const EXTENSIONS: u8 = 0xA3;
pub(super) const OBJECT: u8 = 0x06;
const OCTETS: u8 = 0x04;
const DNS_NAME: u8 = 0x82;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// `commonName`, 2.5.4.3.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
/// `subjectAltName`, 2.5.29.17.
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1D, 0x11];

/// Parses a DER certificate; `None` if it is malformed.
pub(crate) fn facts(der: &[u8]) -> Option<Facts> {
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
    let subject = common_name(body.inside(SEQUENCE)?);
    let mut names = Vec::new();
    while let Some((tag, content)) = body.next() {
        if tag == EXTENSIONS {
            names = alternative_names(content)?;
        }
    }
    Some(Facts { names, subject, expires })
}

fn common_name(subject: &[u8]) -> Option<String> {
    let mut subject = Der(subject);
    while let Some(attributes) = subject.inside(SET) {
        let mut attribute = Der(Der(attributes).inside(SEQUENCE)?);
        if attribute.inside(OBJECT)? == COMMON_NAME {
            return attribute.next().map(|(_, text)| String::from_utf8_lossy(text).into_owned());
        }
    }
    None
}

fn alternative_names(extensions: &[u8]) -> Option<Vec<String>> {
    let mut extensions = Der(Der(extensions).inside(SEQUENCE)?);
    while let Some((SEQUENCE, extension)) = extensions.next() {
        let mut extension = Der(extension);
        if extension.inside(OBJECT)? != ALTERNATIVE_NAMES {
            continue;
        }
        while let Some((tag, value)) = extension.next() {
            // The value may be preceded by the `critical` flag.
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
    // Let years begin in March, so that the leap day comes last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day;
    let seconds = days.checked_sub(719_469)? * 86_400 + hour * 3600 + minute * 60 + second;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

/// The unread rest of some DER.
pub(super) struct Der<'d>(pub(super) &'d [u8]);

impl<'d> Der<'d> {
    /// The next element: its tag and its content.
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

    /// The content of the next element, which must have this tag.
    pub(super) fn inside(&mut self, tag: u8) -> Option<&'d [u8]> {
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
    fn names_and_expiry_are_read_from_a_certificate() {
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
        let facts = facts(nameless.der()).unwrap();
        assert_eq!((facts.names.len(), facts.subject.as_deref()), (0, Some("rcgen self signed cert")));
        assert_eq!(facts.name(4), "rcgen self signed cert");
        assert_eq!(Facts { subject: None, ..facts }.name(4), "certificate 5");
    }
}
