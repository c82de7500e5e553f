//! The roles of members.

use std::fmt;

/// The role of a key's member in its account, weakest first (contract §4).
///
/// A key with any other role has no role: its `Option<Role>` is `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// May delete the segments that it created.
    Member,
    /// Between the two others; by default like a member.
    Developer,
    /// May delete any segment in the account.
    Owner,
}

impl Role {
    /// All roles, weakest first.
    pub const ALL: [Self; 3] = [Self::Member, Self::Developer, Self::Owner];

    /// The role with exactly this name, or `None`.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }

    /// The name in configuration and in `X-Saltgate-Role`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Member => "MEMBER",
            Self::Developer => "DEVELOPER",
            Self::Owner => "OWNER",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_names_are_roles() {
        for role in Role::ALL {
            assert_eq!(Role::parse(role.as_str()), Some(role));
        }
        for not_a_role in ["", "member", "Owner", "ADMIN", "OWNER ", "OWNER\0"] {
            assert_eq!(Role::parse(not_a_role), None, "{not_a_role:?}");
        }
    }

    #[test]
    fn roles_are_ordered_weakest_first() {
        assert!(Role::Member < Role::Developer && Role::Developer < Role::Owner);
    }
}
