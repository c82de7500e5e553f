//! How one snapshot of the keys differs from another, and a digest that tells snapshots apart. For the record: neither
//! reveals a secret.

use std::time::UNIX_EPOCH;

use super::{Caller, Directory};
use crate::credential::FieldDigest;
use crate::policy::Role;

/// How a snapshot differs from the one before it. Each list is in the order of the file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct KeyChanges {
    /// The apiKeys that were not there before.
    pub added: Vec<String>,
    /// Those that are no longer there.
    pub removed: Vec<String>,
    /// Those that were there before, and the names of the fields that differ.
    pub changed: Vec<(String, Vec<&'static str>)>,
}

impl KeyChanges {
    /// Whether the snapshots are equal.
    pub fn is_none(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

impl Directory {
    /// How this snapshot differs from `before`, or from one without keys.
    pub fn changes_since(&self, before: Option<&Self>) -> KeyChanges {
        let mut changes = KeyChanges::default();
        for caller in self.callers() {
            let name = || caller.api_key.to_string();
            match before.and_then(|before| before.caller(&caller.api_key)) {
                None => changes.added.push(name()),
                Some(old) => {
                    let fields = caller.differs(old);
                    if !fields.is_empty() {
                        changes.changed.push((name(), fields));
                    }
                }
            }
        }
        let before = before.into_iter().flat_map(Self::callers);
        let gone = before.filter(|caller| self.caller(&caller.api_key).is_none());
        changes.removed.extend(gone.map(|caller| caller.api_key.to_string()));
        changes
    }

    /// A digest of everything that the keys say, in hexadecimal digits: two snapshots have the same one exactly if they
    /// are equal, whatever the order of their keys. Secrets are in it by their tags.
    pub fn digest(&self) -> String {
        let mut callers: Vec<_> = self.callers().collect();
        callers.sort_by(|a, b| a.api_key.cmp(&b.api_key));
        let mut digest = FieldDigest::new("saltgate keys 1");
        for caller in callers {
            digest.field(caller.api_key.as_bytes());
            digest.field(caller.owner.account.as_bytes());
            digest.field(caller.owner.member.as_bytes());
            digest.field(caller.role.map_or("", Role::as_str).as_bytes());
            digest.field(&[u8::from(caller.active)]);
            let expires = caller.expires.map(|at| at.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos());
            digest.field(expires.map(u128::to_be_bytes).as_ref().map_or(&[], <[u8; 16]>::as_slice));
            digest.field(&caller.signing.tag());
            digest.field(caller.second.as_ref().map(|second| second.tag()).as_ref().map_or(&[], <[u8; 32]>::as_slice));
            // Only where there is one, so that digests without it stay what they were. No apiKey looks like it.
            if let Some(at) = caller.secret_1_expires {
                digest.field(&at.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_be_bytes());
            }
        }
        digest.end()
    }
}

impl Caller {
    /// The names of the fields in which this entry differs from `other`.
    fn differs(&self, other: &Self) -> Vec<&'static str> {
        let secrets =
            |caller: &Self| (caller.signing.block_digest(), caller.second.as_ref().map(|second| second.block_digest()));
        let fields = [
            ("secrets", secrets(self) != secrets(other)),
            ("account", self.owner.account != other.owner.account),
            ("member", self.owner.member != other.owner.member),
            ("role", self.role != other.role),
            ("active", self.active != other.active),
            ("expires", self.expires != other.expires),
            ("secret_1_expires", self.secret_1_expires != other.secret_1_expires),
        ];
        fields.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::credential::Secret;
    use crate::directory::KeyEntry;
    use crate::policy::Owner;

    const ONE: &[u8] = b"the first secret, long enough";
    const TWO: &[u8] = b"the second secret, long enough";

    fn entry(api_key: &str, secrets: &[&[u8]]) -> KeyEntry {
        KeyEntry {
            api_key: api_key.into(),
            secrets: secrets.iter().map(|secret| Secret::new(secret).unwrap()).collect(),
            owner: Owner { account: "account-1".into(), member: "member-1".into() },
            role: Some(Role::Member),
            active: true,
            expires: None,
            secret_1_expires: None,
            line: 1,
        }
    }

    #[test]
    fn each_field_that_differs_is_named_and_changes_the_digest() {
        let of = |entry| Directory::new([entry]).unwrap();
        let before = of(entry("K", &[ONE]));
        let owner = |account: &str, member: &str| Owner { account: account.into(), member: member.into() };
        let expires = Some(UNIX_EPOCH + Duration::from_secs(1));
        let cases = [
            (entry("K", &[ONE]), vec![]),
            (KeyEntry { line: 7, ..entry("K", &[ONE]) }, vec![]),
            (entry("K", &[TWO]), vec!["secrets"]),
            (entry("K", &[ONE, TWO]), vec!["secrets"]),
            (KeyEntry { owner: owner("account-2", "member-1"), ..entry("K", &[ONE]) }, vec!["account"]),
            (KeyEntry { owner: owner("account-1", "member-2"), ..entry("K", &[ONE]) }, vec!["member"]),
            // The same bytes, divided differently.
            (KeyEntry { owner: owner("account-1m", "ember-1"), ..entry("K", &[ONE]) }, vec!["account", "member"]),
            (KeyEntry { role: None, ..entry("K", &[ONE]) }, vec!["role"]),
            (KeyEntry { secret_1_expires: expires, ..entry("K", &[ONE]) }, vec!["secret_1_expires"]),
            (KeyEntry { active: false, expires, ..entry("K", &[ONE]) }, vec!["active", "expires"]),
        ];
        for (entry, fields) in cases {
            let after = of(entry);
            let changes = after.changes_since(Some(&before));
            assert_eq!(after.digest() == before.digest(), fields.is_empty(), "{fields:?}");
            assert_eq!(changes.is_none(), fields.is_empty());
            let changed = if fields.is_empty() { vec![] } else { vec![("K".to_owned(), fields)] };
            assert_eq!(changes, KeyChanges { changed, ..KeyChanges::default() });
        }
    }

    #[test]
    fn keys_that_came_and_went_are_named_and_their_order_does_not_count() {
        let before = Directory::new([entry("A", &[ONE]), entry("B", &[TWO])]).unwrap();
        let turned = Directory::new([entry("B", &[TWO]), entry("A", &[ONE])]).unwrap();
        let after = Directory::new([entry("C", &[TWO]), entry("A", &[ONE])]).unwrap();
        assert_eq!(turned.digest(), before.digest());
        assert!(turned.changes_since(Some(&before)).is_none());
        let changes = after.changes_since(Some(&before));
        assert!(!changes.is_none());
        assert_eq!((changes.added, changes.removed), (vec!["C".to_owned()], vec!["B".to_owned()]));
        assert_eq!(after.changes_since(None).added, ["C", "A"]);
        let fewer = Directory::new([entry("A", &[ONE])]).unwrap();
        assert!(!before.changes_since(Some(&fewer)).is_none(), "only added");
        assert!(!fewer.changes_since(Some(&before)).is_none(), "only removed");
        assert_ne!(after.digest(), before.digest());
    }

    #[test]
    fn the_two_secrets_of_a_key_are_not_alike() {
        let [one, other] = [[ONE, TWO], [TWO, ONE]].map(|both| Directory::new([entry("K", &both)]).unwrap());
        assert_ne!(one.digest(), other.digest());
    }
}
