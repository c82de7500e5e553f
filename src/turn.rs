//! A turn of a worker's loop: all that was ready when it began.

use std::future::poll_fn;
use std::task::Poll;

/// Lets whatever else is ready on this worker go first, once.
///
/// Many requests are ready at a time under load. Judged one after the other, and then sent one after the
/// other, each finds the code of its step in the caches, and whoever receives is woken for all of them at once;
/// where nothing else is ready it goes on at once.
pub(crate) async fn others_first() {
    let mut waited = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut waited, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
