//! The decision table of contract §5: which caller may delete which segment.

use super::{Condition, Identifier, Role, Route};

/// Which segments a role can reach on a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleReach {
    /// None, so no look-up is needed.
    Nothing,
    /// Those that the caller created.
    Own,
    /// All segments of the caller's account.
    Anybodys,
}

/// An account and a member of it: the caller, or the creator of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The account.
    pub account: Box<str>,
    /// The member of that account.
    pub member: Box<str>,
}

impl Route {
    /// Which segments a role can reach on this route, before the segment is known.
    pub fn reach(&self, role: Option<Role>) -> RoleReach {
        match role {
            Some(role) if role >= self.others() && role >= self.own() => RoleReach::Anybodys,
            Some(role) if role >= self.own() => RoleReach::Own,
            // The configuration refuses a route where others' segments need a lower role than own ones; should it
            // exist all the same, the role reaches nothing.
            _ => RoleReach::Nothing,
        }
    }

    /// The first half of the decision table of contract §5: is the segment in the caller's account?
    ///
    /// # Errors
    /// The [`PermitRefusal`] that the table names. A segment of another account does not exist for the caller.
    pub fn judge_account<'c>(
        &self,
        role: Option<Role>,
        caller: &'c Owner,
        account: &Identifier,
    ) -> Result<InAccount<'c>, PermitRefusal> {
        match self.reach(role) {
            RoleReach::Nothing => Err(PermitRefusal::RoleInsufficient),
            _ if **account != *caller.account => Err(PermitRefusal::NotFound),
            reach => Ok(InAccount { reach, member: &caller.member }),
        }
    }

    /// The decision by the role alone, when the service checks account and creator (`delegate`).
    ///
    /// # Errors
    /// If the role permits nothing on this route.
    pub fn judge_role(&self, role: Option<Role>) -> Result<Permitted, PermitRefusal> {
        match self.reach(role) {
            RoleReach::Nothing => Err(PermitRefusal::RoleInsufficient),
            RoleReach::Own | RoleReach::Anybodys => Ok(Permitted(())),
        }
    }
}

/// Proof that the segment is in the caller's account, and that the caller may delete at least its own segments.
#[derive(Debug)]
pub struct InAccount<'c> {
    reach: RoleReach,
    member: &'c str,
}

impl InAccount<'_> {
    /// The second half of the decision table: who created the segment?
    ///
    /// # Errors
    /// If somebody else did, and the caller's role permits only own segments.
    pub fn judge_creator(self, creator: &Identifier) -> Result<Permitted, PermitRefusal> {
        match self.reach {
            RoleReach::Anybodys => Ok(Permitted(())),
            RoleReach::Own if **creator == *self.member => Ok(Permitted(())),
            RoleReach::Own | RoleReach::Nothing => Err(PermitRefusal::NotCreator),
        }
    }
}

/// Proof that the decision table permits the deletion. Only [`InAccount::judge_creator`] and [`Route::judge_role`]
/// make one.
#[derive(Debug)]
pub struct Permitted(());

impl Permitted {
    /// The permit to delete, under this condition.
    pub fn on(self, condition: Condition) -> Permit {
        Permit { condition, _permitted: self }
    }
}

/// Permission to delete: the decision table permits it, and the client's own conditions are met.
#[derive(Debug)]
pub struct Permit {
    condition: Condition,
    _permitted: Permitted,
}

impl Permit {
    /// The condition of the deletion, the only one that is forwarded.
    pub fn condition(&self) -> &Condition {
        &self.condition
    }
}

/// Why the decision table refuses a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PermitRefusal {
    /// The role permits nothing on this route.
    RoleInsufficient,
    /// Somebody else created the segment, and the role permits only own ones.
    NotCreator,
    /// The segment belongs to another account, so it does not exist for the caller.
    NotFound,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Routes;

    fn owner(account: &str, member: &str) -> Owner {
        Owner { account: account.into(), member: member.into() }
    }

    /// The table as printed in contract §5.
    #[test]
    fn the_decision_table() {
        use PermitRefusal::{NotCreator, NotFound, RoleInsufficient};
        let routes = Routes::default();
        let route = routes.iter().next().unwrap();
        let caller = owner("ours", "me");
        let columns = [owner("ours", "me"), owner("ours", "you"), owner("theirs", "me"), owner("theirs", "you")];
        let rows = [
            (Some(Role::Owner), [Ok(()), Ok(()), Err(NotFound), Err(NotFound)]),
            (Some(Role::Developer), [Ok(()), Err(NotCreator), Err(NotFound), Err(NotFound)]),
            (Some(Role::Member), [Ok(()), Err(NotCreator), Err(NotFound), Err(NotFound)]),
            (None, [Err(RoleInsufficient); 4]),
        ];
        for (role, verdicts) in rows {
            for (segment, verdict) in columns.iter().zip(verdicts) {
                let [account, member] = [&segment.account, &segment.member].map(|it| Identifier::parse(it).unwrap());
                let in_account = route.judge_account(role, &caller, &account);
                let judged = in_account.and_then(|in_account| in_account.judge_creator(&member)).map(drop);
                assert_eq!(judged, verdict, "{role:?} and a segment of {segment:?}");
            }
        }
    }

    #[test]
    fn with_delegate_the_role_is_still_checked() {
        let routes = Routes::new(vec![Route::new("/a/{b}", Role::Developer, Role::Owner).unwrap()]);
        let route = routes.iter().next().unwrap();
        for (role, verdict) in [
            (Some(Role::Owner), Ok(())),
            (Some(Role::Developer), Ok(())),
            (Some(Role::Member), Err(PermitRefusal::RoleInsufficient)),
            (None, Err(PermitRefusal::RoleInsufficient)),
        ] {
            assert_eq!(route.judge_role(role).map(drop), verdict, "{role:?}");
        }
    }

    #[test]
    fn a_role_that_suffices_only_for_others_segments_reaches_nothing() {
        let route = Route::new("/a/{b}", Role::Owner, Role::Member).unwrap();
        assert_eq!(route.reach(Some(Role::Member)), RoleReach::Nothing);
        assert_eq!(route.reach(Some(Role::Owner)), RoleReach::Anybodys);
    }
}
