use std::ops::Deref;
use std::sync::Arc;
use std::time::SystemTime;

use http::header::AUTHORIZATION;

use super::{Gate, Head, Observation, Process};
use crate::credential::Credentials;
use crate::directory::{Caller, Identified, Unidentified};
use crate::refusal::Refused;
use crate::replay::{Floor, OutOfWindow, SaltId};

/// Whose signature is this, and is its date in the window (contract §2–§4)?
pub struct Authenticate(Arc<Process>);

/// A request whose signer is proven. Only [`Authenticate`] makes one.
pub struct Authenticated<B> {
    head: Head<B>,
    caller: Arc<Caller>,
    salt: SaltId,
    date: SystemTime,
}

impl Authenticate {
    /// Judges by the process's clock and floor.
    pub fn new(process: Arc<Process>) -> Self {
        Self(process)
    }
}

impl<B: Send> Gate<Head<B>> for Authenticate {
    type Out = Authenticated<B>;
    type Refusal = Refused;

    async fn decide(&self, head: Head<B>, seen: &mut Observation) -> Result<Authenticated<B>, Refused> {
        let generation = head.generation();
        let mut lines = head.headers().get_all(AUTHORIZATION).iter();
        let line = lines.next().ok_or(Refused::MissingCredentials)?;
        if lines.next().is_some() {
            return Err(Refused::RepeatedCredentials);
        }
        let credentials = Credentials::parse(line.as_bytes(), generation.php_dates).map_err(|malformed| {
            seen.detail = Some(malformed.to_string());
            if malformed.is_other_scheme() { Refused::UnsupportedScheme } else { Refused::MalformedCredentials }
        })?;
        let date = credentials.date().instant();
        let now = seen.arrived();
        let identified = generation.directory.identify(&credentials, now);
        let Identified { caller, salt_id } = identified.map_err(|unidentified| {
            seen.claims(credentials.api_key());
            seen.dated(date, false);
            let refused = match unidentified {
                Unidentified::Unknown => Refused::UnknownKey,
                Unidentified::Inactive(_) => Refused::InactiveKey,
                Unidentified::Mismatch(_) => Refused::SignatureMismatch,
            };
            // Only now is the address asked about: a valid signature never is.
            let address = head.client().address();
            let throttled = address.map_or(Ok(()), |it| self.0.failed_signatures.failed(it, self.0.clock.elapsed()));
            throttled.map_or_else(Refused::FailedTooOften, |()| refused)
        })?;
        seen.is_of(&caller);
        seen.dated(date, true);
        let floor = self.0.salts.floor_of(salt_id);
        generation.window.judge(date, now, floor).map_err(|out| match out {
            OutOfWindow::Past | OutOfWindow::Future => Refused::DateSkewed,
            OutOfWindow::BelowFloor => below_floor(floor, now),
        })?;
        Ok(Authenticated { salt: salt_id, date, caller, head })
    }
}

/// While the floor stands in the future, the memory is too new to judge; afterwards the date is
/// simply too old.
fn below_floor(Floor(floor): Floor, now: SystemTime) -> Refused {
    match floor.duration_since(now) {
        Ok(left) if !left.is_zero() => Refused::Fenced(left),
        _ => Refused::BelowFloor,
    }
}

impl<B> Authenticated<B> {
    /// Who signed.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// What the salt is remembered by.
    pub fn salt(&self) -> SaltId {
        self.salt
    }

    /// When it was signed, as the signer says.
    pub fn date(&self) -> SystemTime {
        self.date
    }

    pub(super) fn take_body(self) -> (Authenticated<()>, B) {
        let Self { head, caller, salt, date } = self;
        let (head, body) = head.take_body();
        (Authenticated { head, caller, salt, date }, body)
    }
}

impl<B> Deref for Authenticated<B> {
    type Target = Head<B>;

    fn deref(&self) -> &Head<B> {
        &self.head
    }
}
