//! The sample data: two accounts, a member of every role, and segments of each of them.
//!
//! Deletions use up segments, so every member has more of them than one walk through the decision table (contract §5)
//! needs; the rest is left for the commands to paste.

use rusqlite::{Transaction, params};

/// A member of the sample data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SampleMember {
    /// Its id.
    pub id: &'static str,
    /// The account it belongs to.
    pub account: &'static str,
    /// Its role there, if any.
    pub role: Option<&'static str>,
}

/// A segment of the sample data, before any deletion.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Its id, in the format of the real service.
    pub id: &'static str,
    /// Its creator, to whose account it belongs.
    pub creator: SampleMember,
    /// Its name.
    pub name: &'static str,
    /// How many cached members it has.
    pub contacts: u32,
    /// The names of the automations that it triggers.
    pub automations: &'static [&'static str],
}

const OWNER: SampleMember = member("member-owner", "account-1", Some("OWNER"));
const DEVELOPER: SampleMember = member("member-developer", "account-1", Some("DEVELOPER"));
const MAKER: SampleMember = member("member-maker", "account-1", Some("MEMBER"));
/// Has no role any more, but still has segments: without a role a member may not even delete their own.
const VIEWER: SampleMember = member("member-viewer", "account-1", None);
const STRANGER: SampleMember = member("member-stranger", "account-2", Some("OWNER"));

const fn member(id: &'static str, account: &'static str, role: Option<&'static str>) -> SampleMember {
    SampleMember { id, account, role }
}

/// Every member.
pub(crate) const MEMBERS: [SampleMember; 5] = [OWNER, DEVELOPER, MAKER, VIEWER, STRANGER];

/// Every segment, including the example of the API documentation.
#[rustfmt::skip]
pub(crate) const SAMPLES: &[Sample] = &[
    Sample { id: "CRMSG1260428165459799SGM77893287", creator: OWNER, name: "Everybody", contacts: 2, automations: &["Greet: Everybody"] },
    Sample { id: "CRMSG1260204151909092SGM80967929", creator: OWNER, name: "Newsletter", contacts: 3, automations: &[] },
    Sample { id: "CRMSG1260127160403036SGM33907579", creator: OWNER, name: "Opened the last mail", contacts: 4, automations: &["Remind: Opened the last mail", "Follow up: Opened the last mail"] },
    Sample { id: "CRMSG1260217114018511SGM01746814", creator: OWNER, name: "Came back", contacts: 5, automations: &["Greet: Came back"] },
    Sample { id: "CRMSG1260325113218030SGM19161461", creator: OWNER, name: "Birthday this month", contacts: 2, automations: &[] },
    Sample { id: "CRMSG1260128180013214SGM07666193", creator: DEVELOPER, name: "Trial users", contacts: 3, automations: &["Remind: Trial users", "Follow up: Trial users"] },
    Sample { id: "CRMSG1260311091921015SGM61231007", creator: DEVELOPER, name: "Beta testers", contacts: 4, automations: &["Greet: Beta testers"] },
    Sample { id: "CRMSG1260406183512458SGM83266166", creator: DEVELOPER, name: "API customers", contacts: 5, automations: &[] },
    Sample { id: "CRMSG1260201125551606SGM40326991", creator: DEVELOPER, name: "Webhook failures", contacts: 2, automations: &["Remind: Webhook failures", "Follow up: Webhook failures"] },
    Sample { id: "CRMSG1260105112816009SGM95461113", creator: DEVELOPER, name: "Staging", contacts: 3, automations: &["Greet: Staging"] },
    Sample { id: "CRMSG1260423081530123SGM11122233", creator: MAKER, name: "VIP customers", contacts: 4, automations: &["Welcome message", "Coupon after a week"] },
    Sample { id: "CRMSG1260201172323637SGM72979262", creator: MAKER, name: "Abandoned carts", contacts: 5, automations: &["Remind: Abandoned carts", "Follow up: Abandoned carts"] },
    Sample { id: "CRMSG1260210115239255SGM32836791", creator: MAKER, name: "First purchase", contacts: 2, automations: &["Greet: First purchase"] },
    Sample { id: "CRMSG1260402090602524SGM43646974", creator: MAKER, name: "Seoul", contacts: 3, automations: &[] },
    Sample { id: "CRMSG1260224090814490SGM89914330", creator: MAKER, name: "Busan", contacts: 4, automations: &["Remind: Busan", "Follow up: Busan"] },
    Sample { id: "CRMSG1260109142815061SGM02458921", creator: MAKER, name: "Asked for a call", contacts: 5, automations: &["Greet: Asked for a call"] },
    Sample { id: "CRMSG1260305152142750SGM89290075", creator: VIEWER, name: "Old campaign", contacts: 2, automations: &[] },
    Sample { id: "CRMSG1260302083840076SGM71452117", creator: VIEWER, name: "Imported list", contacts: 3, automations: &["Remind: Imported list", "Follow up: Imported list"] },
    Sample { id: "CRMSG1260324085759754SGM25517160", creator: STRANGER, name: "Partners", contacts: 4, automations: &["Greet: Partners"] },
    Sample { id: "CRMSG1260419083942391SGM69091111", creator: STRANGER, name: "Wholesale", contacts: 5, automations: &[] },
    Sample { id: "CRMSG1260314132459752SGM97778188", creator: STRANGER, name: "Resellers", contacts: 2, automations: &["Remind: Resellers", "Follow up: Resellers"] },
];

/// Writes all sample data.
pub(super) fn write(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    for member in MEMBERS {
        transaction.execute("INSERT OR IGNORE INTO accounts VALUES (?1)", [member.account])?;
        transaction.execute(
            "INSERT INTO members (member_id, account_id, role) VALUES (?1, ?2, ?3)",
            params![member.id, member.account, member.role],
        )?;
    }
    let mut automations = 0;
    for sample in SAMPLES {
        let created_at = created_at(sample.id);
        transaction.execute(
            "INSERT INTO segments (segment_id, account_id, owner_id, name, created_at) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![sample.id, sample.creator.account, sample.creator.id, sample.name, created_at],
        )?;
        for contact in 1..=sample.contacts {
            transaction.execute(
                "INSERT INTO segment_members (segment_id, contact, cached_at) VALUES (?1, ?2, ?3)",
                params![sample.id, format!("contact-{contact}@example.com"), created_at],
            )?;
        }
        for name in sample.automations {
            automations += 1;
            transaction.execute(
                "INSERT INTO automations (automation_id, account_id, segment_id, name, triggering)
                 VALUES (?1, ?2, ?3, ?4, 1)",
                params![format!("automation-{automations}"), sample.creator.account, sample.id, name],
            )?;
        }
    }
    Ok(())
}

/// The time encoded in an id: `CRMSG1` and `yymmddHHMMSSmmm`.
fn created_at(id: &str) -> String {
    let part = |from: usize, len: usize| id.get(from..from + len).unwrap_or_default();
    let (date, time) =
        ([part(6, 2), part(8, 2), part(10, 2)].join("-"), [part(12, 2), part(14, 2), part(16, 2)].join(":"));
    format!("20{date}T{time}.{}Z", part(18, 3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_the_form_of_the_service() {
        for Sample { id, .. } in SAMPLES {
            let rest = id.strip_prefix("CRMSG1").unwrap();
            let (digits, letters) = rest.split_at(15);
            assert!(digits.bytes().all(|b| b.is_ascii_digit()), "{id}");
            assert!(letters.len() == 11 && letters.bytes().all(|b| b.is_ascii_alphanumeric()), "{id}");
        }
    }

    #[test]
    fn every_member_has_more_segments_than_one_walk_deletes() {
        for member in MEMBERS {
            assert!(SAMPLES.iter().filter(|s| s.creator == member).count() >= 2, "{}", member.id);
        }
    }

    #[test]
    fn the_creation_time_is_part_of_the_id() {
        assert_eq!(created_at("CRMSG1260423081530123SGM11122233"), "2026-04-23T08:15:30.123Z");
    }
}
