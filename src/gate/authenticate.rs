//! The gate that checks the `Authorization` header.

use std::sync::Arc;
use std::time::SystemTime;

use http::header::{AUTHORIZATION, HeaderMap, HeaderValue};

use super::chain::Gate;
use super::inspect::Head;
use super::observation::Observation;
use super::state::WorkerState;
use crate::authentication::{self, Signed, Unauthentic, Unsigned};
use crate::clock::Clock;
use crate::credential::{SaltId, SecretSlot};
use crate::directory::Caller;
use crate::refusal::{Refused, Revoked};
use crate::replay::SpentSalts;
use crate::throttle::FailedSignatures;

/// Verifies the signature and checks that its date is in the window (contract §2–§4).
pub struct Authenticate {
    clock: Clock,
    salts: Arc<dyn SpentSalts>,
    failed_signatures: FailedSignatures,
}

/// A request with a verified signature. Only [`Authenticate`] makes one.
pub struct Authenticated<B> {
    head: Head<B>,
    signed: Signed,
}

impl Authenticate {
    /// Uses the floor of these salts, and throttles client addresses whose signatures fail.
    pub fn new(clock: &Clock, salts: &Arc<dyn SpentSalts>, failed_signatures: &FailedSignatures) -> Self {
        Self { clock: clock.clone(), salts: salts.clone(), failed_signatures: failed_signatures.clone() }
    }
}

impl<B: Send> Gate<Head<B>> for Authenticate {
    type Out = Authenticated<B>;
    type Refusal = Refused;
    const NAME: &'static str = "authenticate";

    async fn decide(&self, head: Head<B>, seen: &mut Observation) -> Result<Authenticated<B>, Refused> {
        // Nobody is judged by keys that the database may have revoked long ago (contract §4).
        if !head.generation().keys.is_usable(|| seen.started()) {
            return Err(Refused::KeysUnavailable);
        }
        let line = only_line(head.headers())?;
        let floor_of = |salt| self.salts.floor_of(salt);
        match authentication::judge(line.as_bytes(), head.generation().rules(), floor_of, seen.arrived()) {
            Ok(signed) => {
                seen.signed(&signed);
                signed.caller().note_use(signed.secret(), seen.arrived());
                Ok(Authenticated { head, signed })
            }
            Err(unauthentic) => Err(self.refuse(&head, unauthentic, seen)),
        }
    }
}

fn only_line(headers: &HeaderMap) -> Result<&HeaderValue, Refused> {
    let mut lines = headers.get_all(AUTHORIZATION).iter();
    let line = lines.next().ok_or(Refused::MissingCredentials)?;
    if lines.next().is_some() { Err(Refused::RepeatedCredentials) } else { Ok(line) }
}

impl Authenticate {
    /// Notes for the log what is known of the refused request. Looks up the client's address only if the signature
    /// failed.
    fn refuse<B>(&self, head: &Head<B>, unauthentic: Unauthentic<'_>, seen: &mut Observation) -> Refused {
        let refused = unauthentic.refused();
        match unauthentic {
            Unauthentic::Unsigned(Unsigned::Malformed(malformed)) => seen.detail = Some(malformed.to_string()),
            Unauthentic::Untimely(signed, _) => seen.signed(&signed),
            Unauthentic::Unsigned(Unsigned::Unidentified { api_key, date, .. }) => {
                seen.claims(api_key);
                seen.dated(date, false);
                let address = head.client().address();
                let throttled = address.map_or(Ok(()), |it| self.failed_signatures.failed(it, self.clock.elapsed()));
                return throttled.map_or_else(Refused::FailedTooOften, |()| refused);
            }
        }
        refused
    }
}

impl<B> Authenticated<B> {
    /// The message, with the generation that it is judged by.
    pub fn head(&self) -> &Head<B> {
        &self.head
    }

    /// Who signed it.
    pub fn caller(&self) -> &Caller {
        self.signed.caller()
    }

    /// With which secret of the key.
    pub(super) fn secret(&self) -> SecretSlot {
        self.signed.secret()
    }

    /// The id that the salt is stored under.
    pub fn salt(&self) -> SaltId {
        self.signed.salt()
    }

    /// The date in the header.
    pub fn date(&self) -> SystemTime {
        self.signed.date()
    }

    pub(super) fn body_mut(&mut self) -> &mut B {
        self.head.body_mut()
    }

    pub(super) fn take_body(self) -> (Authenticated<()>, B) {
        let Self { head, signed } = self;
        let (head, body) = head.take_body();
        (Authenticated { head, signed }, body)
    }
}

impl Authenticated<()> {
    /// Judges the same request by the generation that has come into force since: its key, its secret, the formats
    /// of its date. All later gates use that generation, too.
    #[cold]
    pub(super) fn again(
        mut self,
        worker_state: Arc<WorkerState>,
        seen: &mut Observation,
        now: SystemTime,
    ) -> Result<Self, Revoked> {
        let line = only_line(self.head.headers()).map_err(|_| Revoked::MalformedCredentials)?;
        let signed = authentication::signer(line.as_bytes(), worker_state.generation.rules(), now);
        self.signed = signed.map_err(|unsigned| unsigned.revoked())?;
        seen.is_of(self.signed.caller());
        self.head.move_to(worker_state);
        Ok(self)
    }
}
