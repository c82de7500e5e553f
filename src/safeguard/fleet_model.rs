//! A model of a freeze for a fleet, in which everything that can happen does, in every order: one gateway, the store, and
//! the command. Gateways do not depend on each other, so one stands for all.

use std::collections::HashSet;

/// How long a reading is good for, in steps of time.
const LEASE: u8 = 2;
/// The last moment that is looked at.
const END: u8 = 8;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Moment {
    now: u8,
    /// Whether the store says that it is frozen.
    frozen: bool,
    written: Option<u8>,
    returned: bool,
    /// Whether the process is stopped, as by SIGSTOP.
    stopped: bool,
    knows: bool,
    /// The end of the lease of the state in which nothing is frozen.
    lease_until: u8,
    /// A reading whose answer is on its way: when it was asked for, and what it says.
    reading: Option<(u8, bool)>,
    /// A deletion that was permitted while nothing was known to be frozen.
    permitted: bool,
    /// What the store knows: whether none such is left, and when that was said.
    cleared: bool,
    reported: u8,
    /// A deletion left after the command had returned.
    broken: bool,
}

/// What the gateway and the command leave out, to show that the model notices.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LeftOut {
    Nothing,
    /// The lease is judged when it is permitted, and not again when it leaves.
    JudgedAgain,
    /// The lease counts from the answer, not from the question.
    FromTheQuestion,
    /// A reading of a later state renews what an earlier one permitted.
    OwnLease,
    /// The command does not wait for the lease of a gateway that is silent.
    Silence,
}

impl Moment {
    fn holds(&self) -> bool {
        self.now < self.lease_until
    }

    fn next(self, out: LeftOut) -> Vec<Self> {
        let mut next = Vec::new();
        if self.now < END {
            next.push(Self { now: self.now + 1, ..self });
        }
        next.push(Self { stopped: !self.stopped, ..self });
        if !self.frozen {
            next.push(Self { frozen: true, written: Some(self.now), ..self });
        }
        if let (Some(written), false) = (self.written, self.returned) {
            let is_silent = self.now > self.reported + LEASE || out == LeftOut::Silence;
            let is_settled = self.now > written + LEASE || out == LeftOut::Silence;
            if is_settled && (self.cleared || is_silent) {
                next.push(Self { returned: true, ..self });
            }
        }
        if self.stopped {
            return next;
        }
        if self.reading.is_none() {
            let cleared = self.knows && !self.permitted;
            next.push(Self { reading: Some((self.now, self.frozen)), cleared, reported: self.now, ..self });
        }
        if let Some((asked, frozen)) = self.reading {
            let from = if out == LeftOut::FromTheQuestion { self.now } else { asked };
            let renews = !frozen || out == LeftOut::OwnLease;
            let lease_until = if renews { self.lease_until.max(from + LEASE) } else { self.lease_until };
            next.push(Self { reading: None, knows: self.knows || frozen, lease_until, ..self });
        }
        if !self.knows && !self.permitted && self.holds() {
            next.push(Self { permitted: true, ..self });
        }
        if self.permitted {
            let leaves = self.holds() || out == LeftOut::JudgedAgain;
            next.push(Self { permitted: false, broken: leaves && self.returned, ..self });
        }
        next
    }
}

/// Whether a deletion can leave after the command has returned, and how many moments were looked at.
fn is_broken(out: LeftOut) -> (bool, usize) {
    let (mut seen, mut open) = (HashSet::from([Moment::default()]), vec![Moment::default()]);
    while let Some(moment) = open.pop() {
        if moment.broken {
            return (true, seen.len());
        }
        open.extend(moment.next(out).into_iter().filter(|next| seen.insert(*next)));
    }
    (false, seen.len())
}

#[test]
fn no_deletion_that_was_permitted_before_leaves_after_a_freeze_of_the_fleet_has_returned() {
    let (broken, moments) = is_broken(LeftOut::Nothing);
    assert!(!broken && moments > 1000, "{broken}, {moments}");
    for (name, out) in [
        ("judged once", LeftOut::JudgedAgain),
        ("from the answer", LeftOut::FromTheQuestion),
        ("one lease", LeftOut::OwnLease),
        ("no wait", LeftOut::Silence),
    ] {
        assert!(is_broken(out).0, "{name}");
    }
}
