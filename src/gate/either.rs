//! Joins the paths of deletions and dry runs where nothing is sent (observe mode).

use super::chain::Gate;
use super::observation::Observation;
use super::route::{Deletion, Directed, DryRun, Routed};
use crate::refusal::RefusedAfterSpend;

/// One gate for both deletions and dry runs, then another for deletions only. The proofs of both are dropped here.
pub(crate) struct Either<G, D>(pub G, pub D);

impl<G, D> Gate<Directed> for Either<G, D>
where
    G: Gate<Routed<Deletion>, Refusal = RefusedAfterSpend> + Gate<Routed<DryRun>, Refusal = RefusedAfterSpend>,
    D: Gate<<G as Gate<Routed<Deletion>>>::Out, Out = (), Refusal = RefusedAfterSpend>,
{
    type Out = ();
    type Refusal = RefusedAfterSpend;
    const NAME: &'static str = "";

    async fn decide(&self, directed: Directed, seen: &mut Observation) -> Result<(), RefusedAfterSpend> {
        match directed {
            Directed::Deletion(routed) => {
                let permitted = self.0.decide(routed, seen).await?;
                seen.gate_passed(<G as Gate<Routed<Deletion>>>::NAME);
                self.1.decide(permitted, seen).await
            }
            Directed::DryRun(routed) => self.0.decide(routed, seen).await.map(drop),
        }
    }
}
