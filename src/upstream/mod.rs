//! The service behind the gate: connections, and what is sent on them (contract §6, §7).
//!
//! 1. A deletion is sent at most once. It is sent again only where it is certain that no byte of
//!    it left: the connection was never established, or handed the request back unsent.
//! 2. Whatever fails after that is an outcome nobody knows: [`SendError::AnswerLost`],
//!    [`SendError::AnswerTimeout`].
//! 3. A question ([`Upstream::ask`]) changes nothing and may be asked again, once.
//! 4. Nothing is ever switched to another protocol.

pub mod hygiene;
mod outgoing;
mod pool;
mod relay;

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use tokio::time::timeout;

use crate::audit::OpenIntent;
use crate::clock::Clock;
use pool::{Connection, Pool};

pub use hygiene::Identity;
pub use outgoing::{Broken, Outgoing};
pub use relay::{Relay, RelayError};

/// The most bytes of an answer to a question.
const MAX_ANSWER: usize = 1 << 20;
/// Dead connections of the pool that are passed over before a fresh one is made.
const MAX_DEAD: usize = 8;

/// Where the service is, and how long to wait for it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// For a connection, the look-up of the name included.
    pub connect_timeout: Duration,
    /// For the head of an answer, and between two parts of its body.
    pub response_timeout: Duration,
    /// How long a connection waits to be used again; below the service's own.
    pub idle_timeout: Duration,
}

/// One worker's way to the service.
pub struct Upstream {
    pool: Pool,
    response_timeout: Duration,
}

/// Why a question has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskError {
    /// No connection could be made.
    Unreachable,
    /// No connection was made in time.
    ConnectTimeout,
    /// The connection broke, or what came is not HTTP.
    Broken,
    /// No answer came in time.
    Timeout,
    /// The answer is over 1 MiB.
    TooLarge,
}

/// Why a deletion has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// Nothing left: no connection could be made.
    Unreachable,
    /// Nothing left: no connection was made in time.
    ConnectTimeout,
    /// It may have happened: the connection broke, or what came is not HTTP.
    AnswerLost,
    /// It may have happened: no answer came in time.
    AnswerTimeout,
}

impl From<AskError> for SendError {
    /// As far as a connection goes.
    fn from(error: AskError) -> Self {
        match error {
            AskError::ConnectTimeout => Self::ConnectTimeout,
            AskError::Unreachable => Self::Unreachable,
            AskError::Timeout => Self::AnswerTimeout,
            AskError::Broken | AskError::TooLarge => Self::AnswerLost,
        }
    }
}

impl Upstream {
    /// A way with no connections yet.
    pub fn new(settings: Settings, clock: Clock) -> Self {
        Self { response_timeout: settings.response_timeout, pool: Pool::new(settings, clock) }
    }

    /// Asks a question that changes nothing, and waits for the whole answer.
    ///
    /// # Errors
    /// If there is no whole answer in time.
    pub async fn ask(&self, question: Request<Full<Bytes>>) -> Result<Response<Bytes>, AskError> {
        match timeout(self.response_timeout, self.ask_once(question.clone())).await {
            // A connection of the pool may have died of old age while the question was on its
            // way; a fresh one decides.
            Ok(Err((AskError::Broken, true))) => {
                self.pool.clear();
                let again = timeout(self.response_timeout, self.ask_once(question)).await;
                again.map_err(|_| AskError::Timeout)?.map_err(|(error, _)| error)
            }
            Ok(answer) => answer.map_err(|(error, _)| error),
            Err(_) => Err(AskError::Timeout),
        }
    }

    async fn ask_once(&self, question: Request<Full<Bytes>>) -> Result<Response<Bytes>, (AskError, bool)> {
        let (answer, connection) = self.exchange(question.map(Outgoing::Whole)).await?;
        let reused = connection.is_reused();
        let (parts, body) = answer.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|error| {
            if error.is::<http_body_util::LengthLimitError>() {
                (AskError::TooLarge, false)
            } else {
                (AskError::Broken, reused)
            }
        })?;
        self.pool.put(connection);
        Ok(Response::from_parts(parts, body.to_bytes()))
    }

    /// Sends a deletion whose intent is on record, at most once.
    ///
    /// # Errors
    /// If no answer came, and whether the deletion may have happened all the same.
    pub async fn send_once(
        &self,
        deletion: Request<Full<Bytes>>,
        _: &OpenIntent,
    ) -> Result<Response<Relay>, SendError> {
        self.relayed(deletion.map(Outgoing::Whole)).await
    }

    /// Passes on a message that is none of ours to judge, once. Its body is sent as it comes.
    ///
    /// # Errors
    /// If no answer came, and whether the message may have had its effect all the same.
    pub async fn forward(&self, message: Request<Outgoing>) -> Result<Response<Relay>, SendError> {
        self.relayed(message).await
    }

    async fn relayed(&self, request: Request<Outgoing>) -> Result<Response<Relay>, SendError> {
        let (answer, connection) = self.exchange(request).await.map_err(|(error, _)| SendError::from(error))?;
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(SendError::AnswerLost);
        }
        Ok(answer.map(|body| Relay::new(body, self.response_timeout, connection, self.pool.clone())))
    }

    /// One exchange on some connection. The error says whether the connection had been used
    /// before.
    async fn exchange(
        &self,
        mut request: Request<Outgoing>,
    ) -> Result<(Response<hyper::body::Incoming>, Connection), (AskError, bool)> {
        for _ in 0..MAX_DEAD {
            let Some(mut connection) = self.pool.take() else { break };
            match self.answered(&mut connection, request).await {
                Ok(answer) => return Ok((answer, connection)),
                Err((_, Some(unsent))) => request = unsent,
                Err((error, None)) => return Err((error, true)),
            }
        }
        let mut connection = self.pool.connect().await.map_err(|error| (error, false))?;
        let answer = self.answered(&mut connection, request).await;
        answer.map(|answer| (answer, connection)).map_err(|(error, unsent)| {
            // Handed back by a connection that was just made: it is gone, and nothing left.
            (if unsent.is_some() { AskError::Unreachable } else { error }, false)
        })
    }

    async fn answered(
        &self,
        connection: &mut Connection,
        request: Request<Outgoing>,
    ) -> Result<Response<hyper::body::Incoming>, (AskError, Option<Request<Outgoing>>)> {
        match timeout(self.response_timeout, connection.sender.try_send_request(request)).await {
            Err(_) => Err((AskError::Timeout, None)),
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(mut error)) => Err((AskError::Broken, error.take_message())),
        }
    }

    /// Drops connections that have waited too long.
    pub fn sweep(&self) {
        self.pool.sweep();
    }
}
