//! The service behind the gate: connections, and what is sent on them (contract §6, §7).
//!
//! 1. A deletion is sent at most once. It is sent again only if it is certain that no byte of it was sent: no connection
//!    was established, or the kernel took nothing.
//! 2. After a later failure the outcome is unknown: [`SendError::AnswerLost`],
//!    [`SendError::AnswerTimeout`].
//! 3. A look-up ([`Upstream::ask`]) changes nothing and may be retried once.
//! 4. A connection is never switched to another protocol.
//! 5. Look-ups and deletions, requests that pass without a gate, and health checks use separate connections
//!    ([`traffic`]).
//! 6. A request that is sent at most once uses a new connection, or one whose last answer is no older than
//!    `upstream.fresh`.
//! 7. The answer to a deletion is relayed once its whole body or [`HELD`] bytes of it were received. If it ends early before
//!    that, the caller is told that the outcome is unknown.
//! 8. A second server is tried only if no connection to the first could be established. An answer says nothing about the
//!    health of a server; only failed connections and the checks of `[upstream.health]` do.

mod checks;
mod choice;
mod connect;
mod exchange;
pub(crate) mod headers;
mod names;
mod pool;
mod probe;
mod relay;
mod resolve;
mod rng;
mod server;
mod settings;
mod stream;
mod tls;
pub(crate) mod traffic;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Limited};

use crate::audit::OpenIntent;
use crate::clock::Lease;
use crate::event_loop::timeout_at;
pub(crate) use crate::http::h1::{Broken, InvalidRequestHead, MalformedResponse};
pub use crate::http::h1::{Outgoing, RequestHead};
use choice::Choice;
use exchange::{Answered, Message, Sending, Unsent};
use pool::{Pool, Reuse};
use relay::Times;
use rng::Rng;

pub(crate) use checks::Checks;
pub(crate) use headers::Identity;
pub(crate) use relay::{Relay, RelayError};
pub use resolve::{Resolve, Resolving};
pub(crate) use server::MAX_SERVERS;
pub use server::Servers;
pub(crate) use settings::{HealthSettings, MAX_IDLE, UpstreamTls};
pub use settings::{ServerAddress, UpstreamSettings};
pub(crate) use traffic::Traffic;
pub use traffic::{Judged, Unjudged};

/// The most bytes of the answer to a look-up.
const MAX_ANSWER: usize = 1 << 20;
/// How many dead connections of the pool are skipped before a new one is opened.
const MAX_DEAD: usize = 8;

/// A setting that cannot be used.
#[derive(Debug)]
pub struct InvalidSetting {
    /// The key of the setting, such as `upstream.tls.ca`.
    pub key: &'static str,
    /// Why it cannot be used.
    pub why: String,
}

impl InvalidSetting {
    fn new(key: &'static str, why: impl Into<String>) -> Self {
        Self { key, why: why.into() }
    }
}

/// How many bytes of a body are received before any of it is relayed. The same amount of an answer is kept for a repeated
/// request.
pub(crate) const HELD: usize = 4 << 10;

/// One worker's client of the service, for one kind of traffic.
pub struct Upstream<T: Traffic = Judged> {
    servers: Arc<Servers>,
    pools: Box<[Pool<T>]>,
    rng: Rng,
    response_timeout: Duration,
    answer_timeout: Duration,
}

/// One worker's clients of the service. They share no connections.
pub struct Upstreams {
    /// For look-ups and deletions.
    pub judged: Upstream<Judged>,
    /// For requests that pass without a gate.
    pub unjudged: Upstream<Unjudged>,
}

impl Upstreams {
    /// Clients with no connections yet.
    pub fn new(servers: &Arc<Servers>) -> Self {
        Self { judged: Upstream::new(servers), unjudged: Upstream::new(servers) }
    }

    /// Closes connections that have been idle for too long, and those to servers that are not in use.
    pub fn sweep(&self) {
        self.judged.sweep();
        self.unjudged.sweep();
    }
}

/// Why a look-up has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// No connection could be established. The text says why, for the log.
    #[error("{0}")]
    Unreachable(String),
    /// No connection was established within `connect_timeout`.
    #[error("{0}")]
    ConnectTimeout(String),
    /// The connection broke, or the answer is not HTTP or ambiguous.
    #[error("{}", broken(.0.as_ref()))]
    Broken(Option<MalformedResponse>),
    /// No answer was received in time.
    #[error("the upstream did not answer in time")]
    Timeout,
    /// Nothing was sent: the right to send ended before.
    #[error("the lease ended before anything was sent")]
    Lapsed,
    /// The answer is over 1 MiB.
    #[error("the upstream's answer is over 1 MiB")]
    TooLarge,
}

fn broken(malformed: Option<&MalformedResponse>) -> String {
    match malformed {
        None => "the upstream closed the connection before its answer was complete".into(),
        Some(malformed) => format!("the upstream's answer {malformed}"),
    }
}

/// An exchange without an answer, and whether a question may be asked again.
enum Unanswered {
    /// The connection had been used before, and may have been closed while the question was on its way. A fresh one
    /// decides.
    Stale(AskError),
    /// Asking again would not help.
    Decided(AskError),
}

impl Unanswered {
    fn into_error(self) -> AskError {
        let (Self::Stale(error) | Self::Decided(error)) = self;
        error
    }
}

/// Why a deletion has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendError {
    /// Nothing was sent: no connection could be established. The text says why, for the log.
    Unreachable(String),
    /// Nothing was sent: no connection was established within `connect_timeout`.
    ConnectTimeout(String),
    /// Nothing was sent: the right to send ended before.
    Lapsed,
    /// The deletion may have happened: the connection broke, or the answer is not HTTP. With the status, if it was
    /// received, and with what is wrong with the answer, if something is.
    AnswerLost(Option<StatusCode>, Option<MalformedResponse>),
    /// The deletion may have happened: no whole answer was received in time. With the status, if it was received.
    AnswerTimeout(Option<StatusCode>),
}

impl From<AskError> for SendError {
    /// The same error, of a request that is sent at most once.
    fn from(error: AskError) -> Self {
        match error {
            AskError::ConnectTimeout(why) => Self::ConnectTimeout(why),
            AskError::Unreachable(why) => Self::Unreachable(why),
            AskError::Lapsed => Self::Lapsed,
            AskError::Timeout => Self::AnswerTimeout(None),
            AskError::Broken(malformed) => Self::AnswerLost(None, malformed),
            AskError::TooLarge => Self::AnswerLost(None, None),
        }
    }
}

impl SendError {
    /// The body of an answer with this status ended early.
    fn broken_off(status: StatusCode, error: &RelayError) -> Self {
        match error {
            RelayError::Broken(_) => Self::AnswerLost(Some(status), error.malformed()),
            RelayError::Paused | RelayError::Late => Self::AnswerTimeout(Some(status)),
        }
    }
}

impl<T: Traffic> Upstream<T> {
    /// A client with no connections yet.
    pub fn new(servers: &Arc<Servers>) -> Self {
        Self {
            pools: (0..servers.list.len()).map(|at| Pool::new(servers, at)).collect(),
            rng: Rng::new(),
            response_timeout: servers.settings.response_timeout,
            answer_timeout: servers.settings.answer_timeout,
            servers: servers.clone(),
        }
    }

    /// How long the whole answer to a deletion may take (`upstream.answer_timeout`).
    pub fn answer_timeout(&self) -> Duration {
        self.answer_timeout
    }

    /// Closes connections that have been idle for too long, and those to servers that are not in use.
    pub fn sweep(&self) {
        self.pools.iter().for_each(Pool::sweep);
    }
}

impl Upstream<Judged> {
    /// Sends a request that changes nothing, and waits for the whole answer.
    ///
    /// # Errors
    /// If no whole answer was received in time.
    pub async fn ask(&self, question: RequestHead) -> Result<Response<Bytes>, AskError> {
        match self.ask_once(question.clone()).await {
            Err(Unanswered::Stale(AskError::Broken(_))) => {
                self.ask_once(question).await.map_err(Unanswered::into_error)
            }
            answer => answer.map_err(Unanswered::into_error),
        }
    }

    async fn ask_once(&self, question: RequestHead) -> Result<Response<Bytes>, Unanswered> {
        let asked = Message { head: question, body: Outgoing::default(), lease: None };
        let Answered { answer, rest, asked } = *self.exchange(asked, self.response_timeout, Reuse::Idle).await?;
        let unanswered = if rest.is_on_reused() { Unanswered::Stale } else { Unanswered::Decided };
        let broken = |error: &RelayError| unanswered(AskError::Broken(error.malformed()));
        let times = Times { pause: self.response_timeout, until: None };
        let relay = Relay::new(rest, times).map_err(|error| broken(&error))?;
        let due = asked + self.response_timeout;
        let whole = timeout_at(due, Limited::new(relay, MAX_ANSWER).collect()).await;
        let body = whole.map_err(|_| Unanswered::Decided(AskError::Timeout))?.map_err(|error| {
            match error.downcast::<RelayError>() {
                Ok(error) => broken(&error),
                // The error of `Limited`.
                Err(_) => Unanswered::Decided(AskError::TooLarge),
            }
        })?;
        Ok(answer.map(|()| body.to_bytes()))
    }

    /// Sends a deletion whose intent is on record, at most once. Returns once the whole answer or [`HELD`] bytes of its body
    /// were received.
    ///
    /// With a `lease`, it must hold when the first byte leaves.
    ///
    /// # Errors
    /// If no answer was received. The error says whether the deletion may have happened.
    pub async fn send_once(
        &self,
        deletion: RequestHead,
        body: Bytes,
        _: &OpenIntent,
        lease: Option<&Arc<Lease>>,
    ) -> Result<Response<Relay<Judged>>, SendError> {
        let message = Message { head: deletion, body: Outgoing::Whole(body), lease: lease.cloned() };
        let within = self.response_timeout.min(self.answer_timeout);
        let answered = self.exchange(message, within, Reuse::Fresh).await.map_err(Unanswered::into_error)?;
        let times = Times { pause: self.response_timeout, until: Some(answered.asked + self.answer_timeout) };
        let answer = relayed(answered, times)?;
        // Boxed because it is rare: most answers arrive in one piece.
        if answer.body().is_whole() { Ok(answer) } else { Box::pin(held(answer)).await }
    }
}

impl Upstream<Unjudged> {
    /// Forwards a request that no gate judges, at most once. Its body is streamed.
    ///
    /// # Errors
    /// If no answer was received. The error says whether the request may have had an effect.
    pub async fn forward(&self, head: RequestHead, body: Outgoing) -> Result<Response<Relay<Unjudged>>, SendError> {
        let message = Message { head, body, lease: None };
        let answered =
            self.exchange(message, self.response_timeout, Reuse::Fresh).await.map_err(Unanswered::into_error)?;
        let answer = relayed(answered, Times { pause: self.response_timeout, until: None })?;
        // An answer without a length may be a stream, which the client reads as it arrives.
        let is_small = answer.body().length().is_some_and(|length| length <= HELD as u64);
        if answer.body().is_whole() || !is_small { Ok(answer) } else { Box::pin(held(answer)).await }
    }
}

/// An answer whose head has come.
fn relayed<T: Traffic>(answered: Box<Answered<T>>, times: Times) -> Result<Response<Relay<T>>, SendError> {
    let Answered { answer, rest, .. } = *answered;
    let status = answer.status();
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(SendError::AnswerLost(None, None));
    }
    let relay = Relay::new(rest, times).map_err(|error| SendError::broken_off(status, &error))?;
    Ok(answer.map(|()| relay))
}

/// Waits until [`HELD`] bytes of the body, or all of it, were received.
async fn held<T: Traffic>(answer: Response<Relay<T>>) -> Result<Response<Relay<T>>, SendError> {
    let (parts, relay) = answer.into_parts();
    match relay.held(HELD).await {
        Ok(relay) => Ok(Response::from_parts(parts, relay)),
        Err(error) => Err(SendError::broken_off(parts.status, &error)),
    }
}

impl<T: Traffic> Upstream<T> {
    /// One exchange with some server.
    ///
    /// Usually an idle connection is there and the request is sent at once. The other case is boxed to keep the future
    /// small.
    async fn exchange(&self, message: Message, within: Duration, reuse: Reuse) -> Result<Box<Answered<T>>, Unanswered> {
        let first = self.servers.choose(&self.rng, 0);
        let pool = first.as_ref().map(|choice| &self.pools[choice.at]);
        let unsent = match pool.map(|pool| pool.take(pool.busy(), reuse)) {
            Some(Ok(connection)) => match Sending::new(connection, message, within).await {
                Ok(answered) => return Ok(answered),
                Err((_, Some(unsent))) => unsent,
                Err((error, None)) => return Err(Unanswered::Stale(error)),
            },
            Some(Err(_)) | None => Box::new(message),
        };
        Box::pin(self.exchange_at_length(first, unsent, within, reuse)).await
    }

    async fn exchange_at_length(
        &self,
        first: Option<Choice>,
        mut message: Unsent,
        within: Duration,
        reuse: Reuse,
    ) -> Result<Box<Answered<T>>, Unanswered> {
        let (mut next, mut tried, mut unmade) = (first, 0_u64, None);
        while let Some(choice) = next {
            tried |= 1 << choice.at;
            let pool = &self.pools[choice.at];
            let mut busy = pool.busy();
            for _ in 0..MAX_DEAD {
                let connection = match pool.take(busy, reuse) {
                    Ok(connection) => connection,
                    Err(not) => {
                        busy = not;
                        break;
                    }
                };
                match Sending::new(connection, *message, within).await {
                    Ok(answered) => return Ok(answered),
                    Err((_, Some(unsent))) => message = unsent,
                    Err((error, None)) => return Err(Unanswered::Stale(error)),
                }
                busy = pool.busy();
            }
            match pool.connect(busy, choice.trial).await {
                Ok(connection) => {
                    let sending = Sending::new(connection, *message, within);
                    return sending.await.map_err(|(error, unsent)| match unsent {
                        // The new connection closed before anything was sent.
                        Some(_) => {
                            let why = "a fresh connection was closed at once";
                            Unanswered::Decided(AskError::Unreachable(why.into()))
                        }
                        None => Unanswered::Decided(error),
                    });
                }
                // No connection was established, so the next server may get the request.
                Err(error) => unmade = Some(error),
            }
            next = self.servers.choose(&self.rng, tried);
        }
        let none = || AskError::Unreachable("no server of the upstream is healthy".into());
        Err(Unanswered::Decided(unmade.unwrap_or_else(none)))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::time::UNIX_EPOCH;

    use http::Method;

    use super::*;
    use crate::clock::Clock;
    use crate::net::Authority;

    /// Answers one request, and keeps its connection.
    fn answer_one(listener: &TcpListener) -> TcpStream {
        let stream = listener.accept().unwrap().0;
        let head = BufReader::new(&stream).lines().map(Result::unwrap).take_while(|line| !line.is_empty());
        assert!(head.count() > 1);
        (&stream).write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
        stream
    }

    fn is_open(stream: &TcpStream) -> bool {
        stream.set_nonblocking(true).unwrap();
        stream.peek(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    #[tokio::test]
    async fn connections_that_were_idle_for_too_long_are_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = Authority::new("127.0.0.1", listener.local_addr().unwrap().port()).unwrap();
        let settings = UpstreamSettings::new(vec![ServerAddress::Network { at, tls: false }]);
        let idle_timeout = settings.idle_timeout;
        let (clock, hands) = Clock::manual(UNIX_EPOCH);
        let upstreams = Upstreams::new(&Arc::new(Servers::new(settings, clock, None).unwrap()));
        let service = std::thread::spawn(move || [answer_one(&listener), answer_one(&listener)]);
        let question = RequestHead::new(&Method::GET, "/x", None).unwrap();
        upstreams.judged.ask(question.clone()).await.unwrap();
        drop(upstreams.unjudged.forward(question, Outgoing::default()).await.unwrap());
        let connections = service.join().unwrap();
        upstreams.sweep();
        assert!(connections.iter().all(is_open), "they may be used again");
        hands.advance(idle_timeout);
        upstreams.sweep();
        assert!(!connections.iter().any(is_open));
    }
}
