//! The warnings of `check` and of a running gateway about expired certificates.

use std::time::SystemTime;

use super::Config;
use crate::certificate::Expiry;

impl Config {
    /// A line for each of these certificates that has expired.
    pub(crate) fn expired(&self, expiries: impl IntoIterator<Item = Expiry>, now: SystemTime) -> Vec<String> {
        let expired = expiries.into_iter().filter(|expiry| expiry.at <= now);
        let line = |Expiry { part, name, .. }: Expiry| {
            let file = self.file.display();
            format!("{file}: {}: the certificate for {name} has expired; replace its file", part.setting())
        };
        expired.map(line).collect()
    }
}
