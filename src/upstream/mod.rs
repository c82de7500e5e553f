//! The service behind the gate: connections, and what is sent on them (contract §6, §7).
//!
//! 1. A deletion is sent at most once. It is sent again only where it is certain that no byte of
//!    it left: no connection was established, or its kernel took nothing.
//! 2. Whatever fails after that is an outcome nobody knows: [`SendError::AnswerLost`],
//!    [`SendError::AnswerTimeout`].
//! 3. A question ([`Upstream::ask`]) changes nothing and may be asked again, once.
//! 4. Nothing is ever switched to another protocol.
//! 5. Of several servers a second one is tried only where no connection to the first was ever
//!    established. What a server answers says nothing about its health: only connections that
//!    cannot be made, and the checks of `[upstream.health]`.

#[cfg(test)]
mod agreement;
mod answer;
mod checks;
mod choice;
mod connect;
mod dice;
mod exchange;
mod framing;
pub mod hygiene;
mod outgoing;
mod pool;
mod probe;
mod relay;
mod request;
mod resolve;
mod server;
mod settings;
mod stream;
mod tls;
mod wire;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use tokio::time::timeout_at;

use crate::audit::OpenIntent;
use choice::Choice;
use dice::Dice;
use exchange::{Answered, Message, Sending, Unsent};
use pool::Pool;

pub use checks::Checks;
pub use hygiene::Identity;
pub use outgoing::{Broken, Outgoing, Streamed};
pub use relay::{Relay, RelayError};
pub use request::{RequestHead, Unsayable};
pub use resolve::{Resolve, Resolving};
pub use server::{MAX_SERVERS, Servers};
pub use settings::{Address, Health, Settings, Tls};

/// The most bytes of an answer to a question.
const MAX_ANSWER: usize = 1 << 20;
/// Dead connections of the pool that are passed over before a fresh one is made.
const MAX_DEAD: usize = 8;

/// A setting that cannot be used.
#[derive(Debug)]
pub struct Unfit {
    /// Which one, such as `upstream.tls.ca`.
    pub key: &'static str,
    /// Why not.
    pub why: String,
}

impl Unfit {
    fn new(key: &'static str, why: impl Into<String>) -> Self {
        Self { key, why: why.into() }
    }
}

/// One worker's way to the service.
pub struct Upstream {
    servers: Arc<Servers>,
    pools: Box<[Pool]>,
    dice: Dice,
    response_timeout: Duration,
}

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AskError {
    /// No connection could be made, and why: for the log.
    Unreachable(String),
    /// No connection was made in time.
    ConnectTimeout(String),
    /// The connection broke, or what came is not HTTP.
    Broken,
    /// No answer came in time.
    Timeout,
    /// The answer is over 1 MiB.
    TooLarge,
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreachable(why) | Self::ConnectTimeout(why) => why,
            Self::Broken => "the upstream's answer broke off or is not HTTP",
            Self::Timeout => "the upstream did not answer in time",
            Self::TooLarge => "the upstream's answer is over 1 MiB",
        })
    }
}

/// Why a deletion has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendError {
    /// Nothing left: no connection could be made, and why: for the log.
    Unreachable(String),
    /// Nothing left: no connection was made in time.
    ConnectTimeout(String),
    /// It may have happened: the connection broke, or what came is not HTTP.
    AnswerLost,
    /// It may have happened: no answer came in time.
    AnswerTimeout,
}

impl From<AskError> for SendError {
    /// As far as a connection goes.
    fn from(error: AskError) -> Self {
        match error {
            AskError::ConnectTimeout(why) => Self::ConnectTimeout(why),
            AskError::Unreachable(why) => Self::Unreachable(why),
            AskError::Timeout => Self::AnswerTimeout,
            AskError::Broken | AskError::TooLarge => Self::AnswerLost,
        }
    }
}

impl Upstream {
    /// A way with no connections yet.
    pub fn new(servers: &Arc<Servers>) -> Self {
        Self {
            pools: (0..servers.list.len()).map(|at| Pool::new(servers, at)).collect(),
            dice: Dice::new(),
            response_timeout: servers.settings.response_timeout,
            servers: servers.clone(),
        }
    }

    /// Asks a question that changes nothing, and waits for the whole answer.
    ///
    /// # Errors
    /// If there is no whole answer in time.
    pub async fn ask(&self, question: RequestHead) -> Result<Response<Bytes>, AskError> {
        match self.ask_once(question.clone()).await {
            // A connection of the pool may have died of old age while the question was on its
            // way; a fresh one decides.
            Err((AskError::Broken, true)) => self.ask_once(question).await.map_err(|(error, _)| error),
            answer => answer.map_err(|(error, _)| error),
        }
    }

    async fn ask_once(&self, question: RequestHead) -> Result<Response<Bytes>, (AskError, bool)> {
        let asked = Message { head: question, body: Outgoing::default() };
        let Answered { answer, rest, deadline } = self.exchange(asked).await?;
        let was_reused = rest.is_on_reused();
        let broken = || (AskError::Broken, was_reused);
        let relay = Relay::new(rest, self.response_timeout).map_err(|_| broken())?;
        let whole = timeout_at(deadline, Limited::new(relay, MAX_ANSWER).collect()).await;
        let body = whole.map_err(|_| (AskError::Timeout, false))?.map_err(|error| {
            if error.is::<http_body_util::LengthLimitError>() { (AskError::TooLarge, false) } else { broken() }
        })?;
        Ok(answer.map(|()| body.to_bytes()))
    }

    /// Sends a deletion whose intent is on record, at most once.
    ///
    /// # Errors
    /// If no answer came, and whether the deletion may have happened all the same.
    pub fn send_once(
        &self,
        deletion: RequestHead,
        body: Bytes,
        _: &OpenIntent,
    ) -> impl Future<Output = Result<Response<Relay>, SendError>> + Send {
        self.relayed(Message { head: deletion, body: Outgoing::Whole(body) })
    }

    /// Passes on a message that is none of ours to judge, once. Its body is sent as it comes.
    ///
    /// # Errors
    /// If no answer came, and whether the message may have had its effect all the same.
    pub fn forward(
        &self,
        head: RequestHead,
        body: Outgoing,
    ) -> impl Future<Output = Result<Response<Relay>, SendError>> + Send {
        self.relayed(Message { head, body })
    }

    async fn relayed(&self, message: Message) -> Result<Response<Relay>, SendError> {
        let Answered { answer, rest, .. } =
            self.exchange(message).await.map_err(|(error, _)| SendError::from(error))?;
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(SendError::AnswerLost);
        }
        let relay = Relay::new(rest, self.response_timeout).map_err(|_| SendError::AnswerLost)?;
        Ok(answer.map(|()| relay))
    }

    /// One exchange on some connection to some server. The error says whether the connection had
    /// been used before.
    ///
    /// Most often a connection waits, and the request leaves at once. What is needed where none
    /// does is in a box: nobody else carries its room about.
    async fn exchange(&self, message: Message) -> Result<Answered, (AskError, bool)> {
        let first = self.servers.choose(&self.dice, 0);
        let pool = first.as_ref().map(|choice| &self.pools[choice.at]);
        let unsent = match pool.map(|pool| pool.take(pool.busy())) {
            Some(Ok(connection)) => match Sending::new(connection, message, self.response_timeout).await {
                Ok(answered) => return Ok(answered),
                Err((_, Some(unsent))) => unsent,
                Err((error, None)) => return Err((error, true)),
            },
            Some(Err(_)) | None => Box::new(message),
        };
        Box::pin(self.exchange_at_length(first, unsent)).await
    }

    async fn exchange_at_length(
        &self,
        first: Option<Choice>,
        mut message: Unsent,
    ) -> Result<Answered, (AskError, bool)> {
        let (mut next, mut tried, mut unmade) = (first, 0_u64, None);
        while let Some(choice) = next {
            tried |= 1 << choice.at;
            let pool = &self.pools[choice.at];
            let mut busy = pool.busy();
            for _ in 0..MAX_DEAD {
                let connection = match pool.take(busy) {
                    Ok(connection) => connection,
                    Err(not) => {
                        busy = not;
                        break;
                    }
                };
                match Sending::new(connection, *message, self.response_timeout).await {
                    Ok(answered) => return Ok(answered),
                    Err((_, Some(unsent))) => message = unsent,
                    Err((error, None)) => return Err((error, true)),
                }
                busy = pool.busy();
            }
            match pool.connect(busy, choice.trial).await {
                Ok(connection) => {
                    let sending = Sending::new(connection, *message, self.response_timeout);
                    return sending.await.map_err(|(error, unsent)| match unsent {
                        // Handed back by a connection that was just made: it is gone, and nothing
                        // left.
                        Some(_) => (AskError::Unreachable("a fresh connection was closed at once".into()), false),
                        None => (error, false),
                    });
                }
                // Never established: the next server may have it.
                Err(error) => unmade = Some(error),
            }
            next = self.servers.choose(&self.dice, tried);
        }
        Err((unmade.unwrap_or_else(|| AskError::Unreachable("no server of the upstream is healthy".into())), false))
    }

    /// Drops connections that have waited too long, and those to servers that are not used.
    pub fn sweep(&self) {
        self.pools.iter().for_each(Pool::sweep);
    }
}
