//! The verdict on an `Authorization` header (contract §2–§4): who signed it, and whether its date is admitted.
//!
//! 1. The gate and `explain` both use [`judge`], so an explanation always agrees with what happened.
//! 2. It is pure: header, keys, floor and time go in, the verdict comes out. It spends nothing and waits for nothing.
//! 3. The checks run in the contract's order (form, key and signature, date), and the first that fails decides.
//! 4. An unknown key costs the same work as a known one, and nothing is allocated: see [`Directory::identify`].

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::credential::{Credentials, MalformedHeader, PhpDates, SaltId, SecretSlot};
use crate::directory::{Caller, Directory, Identified, Unidentified};
use crate::refusal::{Refused, Revoked};
use crate::replay::{Floor, OutOfWindow, Window};

/// What a header is checked against. A reload replaces all of it at once.
#[derive(Clone, Copy)]
pub struct Rules<'r> {
    /// The known keys.
    pub directory: &'r Directory,
    /// Whether the PHP SDK's dates are accepted.
    pub php_dates: PhpDates,
    /// How far a date may lie from now.
    pub window: Window,
}

/// Who signed a header, and when. Only this module makes one, from a valid signature.
pub struct Signed {
    caller: Arc<Caller>,
    secret: SecretSlot,
    salt: SaltId,
    date: SystemTime,
}

/// Why a header is not admitted, with what is known about it.
pub enum Unauthentic<'h> {
    /// It has no valid signature of an active key.
    Unsigned(Unsigned<'h>),
    /// Its signature is valid, but its date is not admitted.
    Untimely(Signed, Untimely),
}

/// Why a header has no valid signature of an active key.
pub enum Unsigned<'h> {
    /// It violates the grammar (contract §2).
    Malformed(MalformedHeader),
    /// It is well formed, but no active key signed it.
    Unidentified {
        /// The apiKey that it claims.
        api_key: &'h str,
        /// The date that it claims.
        date: SystemTime,
        /// What is wrong.
        why: Unidentified,
    },
}

/// Why a date is not admitted (contract §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untimely {
    /// Outside the window.
    Skewed,
    /// At or below the floor.
    BelowFloor,
    /// At or below a floor that lies this far in the future, because the store of spent salts is too new to know.
    Fenced(Duration),
}

/// Judges the value of the one `Authorization` field as of `now`. `floor_of` is called only if the signature is
/// valid.
///
/// # Errors
/// The first check that fails.
pub fn judge<'h>(
    header: &'h [u8],
    rules: Rules<'_>,
    floor_of: impl FnOnce(SaltId) -> Floor,
    now: SystemTime,
) -> Result<Signed, Unauthentic<'h>> {
    let signed = signer(header, rules, now).map_err(Unauthentic::Unsigned)?;
    let floor = floor_of(signed.salt);
    match rules.window.judge(signed.date, now, floor) {
        Ok(()) => Ok(signed),
        Err(OutOfWindow::Past | OutOfWindow::Future) => Err(Unauthentic::Untimely(signed, Untimely::Skewed)),
        Err(OutOfWindow::BelowFloor) => Err(Unauthentic::Untimely(signed, below(floor, now))),
    }
}

/// The part of [`judge`] that does not check the date, for a header whose date is checked elsewhere.
///
/// # Errors
/// If no active key signed it.
pub(crate) fn signer<'h>(header: &'h [u8], rules: Rules<'_>, now: SystemTime) -> Result<Signed, Unsigned<'h>> {
    let credentials = Credentials::parse(header, rules.php_dates).map_err(Unsigned::Malformed)?;
    let date = credentials.date().instant();
    match rules.directory.identify(&credentials, now) {
        Ok(Identified { caller, secret, salt_id }) => Ok(Signed { caller, secret, salt: salt_id, date }),
        Err(why) => Err(Unsigned::Unidentified { api_key: credentials.api_key(), date, why }),
    }
}

/// If the floor lies in the future, a new header will pass later; if it lies in the past, waiting does not help.
fn below(Floor(floor): Floor, now: SystemTime) -> Untimely {
    match floor.duration_since(now) {
        Ok(left) if !left.is_zero() => Untimely::Fenced(left),
        _ => Untimely::BelowFloor,
    }
}

impl Signed {
    /// Who signed.
    pub fn caller(&self) -> &Arc<Caller> {
        &self.caller
    }

    /// With which secret.
    pub(crate) fn secret(&self) -> SecretSlot {
        self.secret
    }

    /// The id under which the stores remember the salt.
    pub fn salt(&self) -> SaltId {
        self.salt
    }

    /// The date in the header.
    pub fn date(&self) -> SystemTime {
        self.date
    }
}

impl Unauthentic<'_> {
    /// The refusal of the request.
    pub fn refused(&self) -> Refused {
        match self {
            Self::Unsigned(unsigned) => unsigned.refused(),
            Self::Untimely(_, Untimely::Skewed) => Refused::DateSkewed,
            Self::Untimely(_, Untimely::BelowFloor) => Refused::BelowFloor,
            Self::Untimely(_, Untimely::Fenced(left)) => Refused::Fenced(*left),
        }
    }
}

impl Unsigned<'_> {
    /// The refusal of the request.
    pub fn refused(&self) -> Refused {
        match self {
            Self::Malformed(malformed) if malformed.is_other_scheme() => Refused::UnsupportedScheme,
            Self::Malformed(_) => Refused::MalformedCredentials,
            Self::Unidentified { why, .. } => match why {
                Unidentified::Unknown => Refused::UnknownKey,
                Unidentified::Inactive => Refused::InactiveKey,
                Unidentified::Mismatch => Refused::SignatureMismatch,
            },
        }
    }

    /// The same for a header that was valid under the keys before a reload.
    pub fn revoked(&self) -> Revoked {
        match self {
            Self::Malformed(_) => Revoked::MalformedCredentials,
            Self::Unidentified { why, .. } => match why {
                Unidentified::Unknown => Revoked::UnknownKey,
                Unidentified::Inactive => Revoked::InactiveKey,
                Unidentified::Mismatch => Revoked::SignatureMismatch,
            },
        }
    }
}
