//! Answers requests whose salt is spent (contract §3, "A request that comes again").

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::authenticate::Authenticated;
use super::observation::Observation;
use crate::credential::SaltId;
use crate::event_loop::timeout;
use crate::refusal::{RefusedAfterSpend, Repeated};
use crate::repeats::{Asked, Became, Earlier, First, KeptAnswer, Repeats, Shared};
use crate::replay::{Mark, SpentSalts};

/// How long a refusal waits for a body to find out whether the request is a repeat. Clients send a small body right
/// after its head, but often in a packet of its own.
const BODY_FOLLOWS: Duration = Duration::from_millis(100);

/// Notes that a request, refused before its body was read, is a repeat. To find out, it reads at most as many body
/// bytes as the first request had, and waits for them for at most [`BODY_FOLLOWS`].
pub(super) async fn tell<B>(first: &First, authenticated: &mut Authenticated<B>, seen: &mut Observation)
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let most = usize::try_from(first.body_length).unwrap_or(usize::MAX);
    if let Ok(Some(body)) = timeout(BODY_FOLLOWS, whole(authenticated.body_mut(), most)).await
        && first.asked == asked(authenticated, &body)
    {
        seen.repeats(first);
    }
}

/// Reads a body; `None` if it is longer than `most` or does not arrive whole.
async fn whole<B>(body: &mut B, most: usize) -> Option<BytesMut>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let mut whole = BytesMut::new();
    while !body.is_end_stream() {
        match poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
            Some(frame) => whole.extend(frame.ok()?.into_data().ok()),
            None => break,
        }
        if whole.len() > most {
            return None;
        }
    }
    Some(whole)
}

/// Fingerprints what a request asks for.
pub(super) fn asked<B>(authenticated: &Authenticated<B>, body: &[u8]) -> Asked {
    let (api_key, head) = (&authenticated.caller().api_key, authenticated.head());
    Asked::new(&authenticated.salt(), api_key, head.method().as_str(), head.raw_target(), body)
}

/// What is known of the requests that spent their salts.
pub(super) struct Again {
    pub(super) salts: Arc<dyn SpentSalts>,
    pub(super) repeats: Repeats,
}

impl Again {
    /// Refuses a replay. Refuses a repeat, too, unless repeats are answered: then the repeat waits for the end of
    /// the first request and gets its answer. It holds no slot meanwhile.
    pub(super) async fn met(
        &self,
        authenticated: &Authenticated<()>,
        asked: Asked,
        mark: Option<Mark>,
        seen: &mut Observation,
    ) -> RefusedAfterSpend {
        let salt = authenticated.salt();
        let first = match self.repeats.first(salt).await {
            Some(first) if first.asked == asked => first,
            None if let Some(mark) = mark.filter(|mark| mark.print() == asked.print(&salt).bytes()) => {
                return self.met_elsewhere(authenticated, &mark.id(), seen).await;
            }
            None => match self.repeats.earlier(asked.print(&salt)) {
                Some(Earlier { id, became, kept }) => {
                    seen.repeats_elsewhere(&id, became);
                    if seen.is_in_shadow() {
                        return RefusedAfterSpend::SaltReused;
                    }
                    return answered(id.into(), Some(kept));
                }
                None => return RefusedAfterSpend::SaltReused,
            },
            Some(_) => return RefusedAfterSpend::SaltReused,
        };
        seen.repeats(&first);
        if !self.repeats.answers() || seen.is_in_shadow() {
            return RefusedAfterSpend::SaltReused;
        }
        let Some(_waiting) = self.repeats.queue(salt) else { return RefusedAfterSpend::RepeatsWait };
        let kept = timeout(authenticated.head().upstream().answer_timeout(), first.ended()).await.ok().flatten();
        seen.repeats(&first);
        answered(first.id().into(), kept)
    }

    /// Does the same if the first request reached another gateway, or this one before it was restarted.
    async fn met_elsewhere(
        &self,
        authenticated: &Authenticated<()>,
        of: &str,
        seen: &mut Observation,
    ) -> RefusedAfterSpend {
        seen.repeats_elsewhere(of, Became::Elsewhere);
        if !self.repeats.answers() || seen.is_in_shadow() {
            return RefusedAfterSpend::SaltReused;
        }
        let Some(_waiting) = self.repeats.queue(authenticated.salt()) else {
            return RefusedAfterSpend::RepeatsWait;
        };
        let asked = self.ask_until_it_ended(authenticated.salt(), of);
        let kept = match timeout(authenticated.head().upstream().answer_timeout(), asked).await {
            Ok(Some((became, kept))) => {
                seen.repeats_elsewhere(of, became);
                Some(kept)
            }
            Ok(None) | Err(_) => None,
        };
        answered(of.into(), kept)
    }

    /// Waits until the answer of the first request is stored; `None` if no gateway stores it.
    async fn ask_until_it_ended(&self, salt: SaltId, id: &str) -> Option<(Became, KeptAnswer)> {
        const LONGEST: Duration = Duration::from_millis(500);
        let mut pause = Duration::from_millis(5);
        loop {
            let text = self.salts.stored_answer(salt)?.await;
            if let Some(ended) = text.and_then(|text| Shared::read(&text, id)) {
                return Some(ended);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST);
        }
    }
}

fn answered(of: Box<str>, kept: Option<KeptAnswer>) -> RefusedAfterSpend {
    RefusedAfterSpend::Repeated(Box::new(match kept {
        Some(kept) => Repeated { of, kept },
        None => Repeated::of_unknown(of),
    }))
}

#[cfg(test)]
mod tests {
    use super::super::read::tests::Chunked;
    use super::*;

    #[tokio::test]
    async fn a_body_that_arrives_in_pieces_is_read_up_to_the_length_of_the_first_one() {
        assert_eq!(whole(&mut Chunked(3), 3).await.as_deref(), Some(&b"xxx"[..]));
        assert_eq!(whole(&mut Chunked(4), 3).await, None);
    }
}
