//! What a connection to the service carries, as a type.
//!
//! HTTP/1.1 matches answers to requests only by their order on the connection. Bytes that a service sends after the end of an
//! answer become the answer to the next request. Whoever controls those bytes must not control a decision. Therefore there
//! are three kinds of traffic, and each pool, connection, TLS session and body belongs to one kind: using one for another
//! does not compile.
//!
//! Look-ups and judged deletions share one kind of connection:
//!
//! ```
//! use saltgate::parts::OpenIntent;
//! use saltgate::parts::{Judged, RequestHead, Upstream};
//! async fn delete(upstream: &Upstream<Judged>, look_up: RequestHead, deletion: RequestHead, intent: &OpenIntent) {
//!     drop(upstream.ask(look_up).await);
//!     drop(upstream.send_once(deletion, bytes::Bytes::new(), intent, None).await);
//! }
//! ```
//!
//! Look-ups do not use connections of unjudged requests:
//!
//! ```compile_fail,E0599
//! use saltgate::parts::{RequestHead, Unjudged, Upstream};
//! async fn look_up(upstream: &Upstream<Unjudged>, look_up: RequestHead) {
//!     drop(upstream.ask(look_up).await);
//! }
//! ```
//!
//! Deletions do not use them either:
//!
//! ```compile_fail,E0599
//! use saltgate::parts::OpenIntent;
//! use saltgate::parts::{RequestHead, Unjudged, Upstream};
//! async fn delete(upstream: &Upstream<Unjudged>, deletion: RequestHead, intent: &OpenIntent) {
//!     drop(upstream.send_once(deletion, bytes::Bytes::new(), intent, None).await);
//! }
//! ```
//!
//! Nor does the look-up of the owner of a segment:
//!
//! ```compile_fail,E0308
//! use saltgate::parts::{Pointers, RequestHead, SegmentId, Unjudged, Upstream};
//! async fn look_up(pointers: &Pointers, upstream: &Upstream<Unjudged>, head: RequestHead, segment: &SegmentId) {
//!     drop(pointers.look_up(upstream, head, segment).await);
//! }
//! ```
//!
//! And unjudged requests do not use connections of judged ones:
//!
//! ```compile_fail,E0599
//! use saltgate::parts::{Judged, Outgoing, RequestHead, Upstream};
//! async fn pass(upstream: &Upstream<Judged>, head: RequestHead) {
//!     drop(upstream.forward(head, Outgoing::default()).await);
//! }
//! ```

/// Look-ups, and the deletions that depend on them.
#[derive(Debug)]
pub enum Judged {}

/// Requests that no gate judges: `[passthrough]`, and everything in observe mode.
#[derive(Debug)]
pub enum Unjudged {}

/// Health checks, and `check --live`.
#[derive(Debug)]
pub(crate) enum Probe {}

/// One of [`Judged`], [`Unjudged`], [`Probe`].
pub trait Traffic: sealed::Sealed + Send + Sync + 'static {}

impl Traffic for Judged {}

impl Traffic for Unjudged {}

impl Traffic for Probe {}

mod sealed {
    use super::{Judged, Probe, Unjudged};

    pub trait Sealed {
        /// Index into [`super::Each`].
        const INDEX: usize;
    }

    impl Sealed for Judged {
        const INDEX: usize = 0;
    }

    impl Sealed for Unjudged {
        const INDEX: usize = 1;
    }

    impl Sealed for Probe {
        const INDEX: usize = 2;
    }
}

/// One value for each kind of traffic.
pub(super) struct Each<V>([V; 3]);

impl<V> Each<V> {
    pub(super) fn new(make: impl FnMut() -> V) -> Self {
        let mut make = make;
        Self([make(), make(), make()])
    }

    pub(super) fn of<T: Traffic>(&self) -> &V {
        &self.0[T::INDEX]
    }
}
