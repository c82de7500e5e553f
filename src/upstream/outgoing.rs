use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use tokio::time::Instant;

/// Why the body of a message that passes ended before its end.
pub type Broken = Box<dyn std::error::Error + Send + Sync>;

/// The one type of body that goes upstream: whole, or as it streams in from a client.
pub enum Outgoing {
    /// In memory: it can be sent again where nothing of it left.
    Whole(Full<Bytes>),
    /// As it comes.
    Streamed(Streamed),
}

/// A body that comes bit by bit.
pub struct Streamed {
    body: UnsyncBoxBody<Bytes, Broken>,
    progress: Arc<Progress>,
}

/// When the last bit of a body was taken to be sent: what is taken next must wait until there is
/// room for it.
pub(super) struct Progress {
    began: Instant,
    /// Nanoseconds since then.
    last: AtomicU64,
}

impl Progress {
    fn step(&self) {
        let since = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.last.store(since, Ordering::Relaxed);
    }

    pub(super) fn last(&self) -> Instant {
        self.began + Duration::from_nanos(self.last.load(Ordering::Relaxed))
    }
}

impl Outgoing {
    /// A body that is sent as it comes.
    pub fn streamed<B>(body: B) -> Self
    where
        B: Body<Data = Bytes, Error: Into<Broken>> + Send + 'static,
    {
        let progress = Arc::new(Progress { began: Instant::now(), last: AtomicU64::new(0) });
        Self::Streamed(Streamed { body: body.map_err(Into::into).boxed_unsync(), progress })
    }

    /// How far it is, where it may take long.
    pub(super) fn progress(&self) -> Option<Arc<Progress>> {
        match self {
            Self::Whole(_) => None,
            Self::Streamed(streamed) => Some(streamed.progress.clone()),
        }
    }
}

impl From<Full<Bytes>> for Outgoing {
    fn from(body: Full<Bytes>) -> Self {
        Self::Whole(body)
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
            Self::Streamed(Streamed { body, progress }) => {
                let frame = Pin::new(body).poll_frame(cx);
                if frame.is_ready() {
                    progress.step();
                }
                frame
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Streamed(streamed) => streamed.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Streamed(streamed) => streamed.body.size_hint(),
        }
    }
}
