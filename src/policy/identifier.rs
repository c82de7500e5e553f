//! The form of account and member ids.

use std::ops::Deref;

/// An account or a member: 1 to 128 visible ASCII bytes (contract §4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identifier(Box<str>);

impl Identifier {
    /// The form, for messages that say what was expected.
    pub const FORM: &'static str = "1 to 128 visible ASCII characters";

    /// The identifier, if `text` has the right form.
    pub fn parse(text: &str) -> Option<Self> {
        Self::is_one(text).then(|| Self(text.into()))
    }

    /// Whether `text` has the right form.
    pub fn is_one(text: &str) -> bool {
        (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
    }
}

impl Deref for Identifier {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_visible_ascii_of_bounded_length_is_an_identifier() {
        for fits in ["a", "account-1", "!~", &"x".repeat(128)] {
            assert_eq!(&*Identifier::parse(fits).unwrap(), fits);
        }
        for odd in ["", " ", "a b", "a\n", "\u{7f}", "\u{202e}a", "세그먼트", &"x".repeat(129)] {
            assert_eq!(Identifier::parse(odd), None, "{odd:?}");
        }
    }
}
