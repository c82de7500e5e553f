//! The keys as bytes. What holds them is overwritten when dropped, and never grows, so that no copy is left behind.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use zeroize::Zeroizing;

use crate::credential::Secret;
use crate::directory::KeyEntry;
use crate::policy::{Identifier, Owner, Role};

/// The keys as bytes, with room for `more` behind them.
pub(super) fn encode(entries: &[KeyEntry], more: usize) -> Zeroizing<Vec<u8>> {
    let mut length = Length(0);
    write(entries, &mut length);
    let mut bytes = Zeroizing::new(Vec::with_capacity(length.0 + more));
    write(entries, &mut *bytes);
    bytes
}

/// Where bytes go: first they are only counted.
trait Sink {
    fn put(&mut self, bytes: &[u8]);

    /// A text with its length, so that no byte can move from one to the next.
    fn put_text(&mut self, bytes: &[u8]) {
        // No field is longer than a secret.
        self.put(&(bytes.len() as u16).to_be_bytes());
        self.put(bytes);
    }

    fn put_time(&mut self, time: Option<SystemTime>) {
        self.put(&[u8::from(time.is_some())]);
        if let Some(time) = time {
            let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
            self.put(&since.as_secs().to_be_bytes());
            self.put(&since.subsec_nanos().to_be_bytes());
        }
    }
}

struct Length(usize);

impl Sink for Length {
    fn put(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

fn write(entries: &[KeyEntry], into: &mut impl Sink) {
    for entry in entries {
        into.put_text(entry.api_key.as_bytes());
        into.put_text(entry.owner.account.as_bytes());
        into.put_text(entry.owner.member.as_bytes());
        into.put_text(entry.role.map_or("", Role::as_str).as_bytes());
        into.put(&[u8::from(entry.active)]);
        into.put_time(entry.expires);
        into.put_time(entry.secret_1_expires);
        into.put(&[entry.secrets.len() as u8]);
        for secret in &entry.secrets {
            into.put_text(secret.expose());
        }
    }
}

/// The keys in these bytes; `None` if they are anything that [`encode`] does not write.
pub(super) fn decode(bytes: &[u8]) -> Option<Vec<KeyEntry>> {
    let mut rest = Rest(bytes);
    let mut entries = Vec::new();
    while !rest.0.is_empty() {
        entries.push(entry(&mut rest, entries.len() + 1)?);
    }
    Some(entries)
}

fn entry(rest: &mut Rest<'_>, number: usize) -> Option<KeyEntry> {
    let api_key = rest.text()?;
    if !(1..=64).contains(&api_key.len()) || !api_key.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    let mut identifier = || rest.text().filter(|text| Identifier::is_one(text));
    let owner = Owner { account: identifier()?.into(), member: identifier()?.into() };
    let role = match rest.text()? {
        "" => None,
        role => Some(Role::parse(role)?),
    };
    let (active, expires, secret_1_expires, secrets) = (rest.flag()?, rest.time()?, rest.time()?, rest.byte()?);
    let secrets = (0..secrets).map(|_| Secret::new(rest.field()?).ok()).collect::<Option<Vec<_>>>()?;
    let is_complete = (1..=2).contains(&secrets.len());
    is_complete.then(|| KeyEntry {
        api_key: api_key.into(),
        secrets,
        owner,
        role,
        active,
        expires,
        secret_1_expires,
        line: number,
    })
}

/// Bytes that are not read yet.
struct Rest<'b>(&'b [u8]);

impl<'b> Rest<'b> {
    fn array<const N: usize>(&mut self) -> Option<&'b [u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(array)
    }

    fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| *byte)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn time(&mut self) -> Option<Option<SystemTime>> {
        if !self.flag()? {
            return Some(None);
        }
        let seconds = u64::from_be_bytes(*self.array()?);
        let nanos = u32::from_be_bytes(*self.array()?);
        let since = (nanos < 1_000_000_000).then(|| Duration::new(seconds, nanos))?;
        UNIX_EPOCH.checked_add(since).map(Some)
    }

    fn field(&mut self) -> Option<&'b [u8]> {
        let length = usize::from(u16::from_be_bytes(*self.array()?));
        let (field, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(field)
    }

    fn text(&mut self) -> Option<&'b str> {
        std::str::from_utf8(self.field()?).ok()
    }
}
