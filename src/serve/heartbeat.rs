//! Whether the workers still do their work: each is asked to answer, by its own event loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

/// The number of the answer of a worker that has ended: it is not waited for.
const ENDED: u64 = u64::MAX;

/// Asks all workers.
pub(crate) struct Heartbeat {
    rounds: watch::Sender<u64>,
    /// The last round that each worker has answered.
    answered: Arc<[AtomicU64]>,
}

/// What one worker answers by.
pub(super) struct Beating {
    rounds: watch::Receiver<u64>,
    answered: Arc<[AtomicU64]>,
    worker: usize,
}

impl Heartbeat {
    /// For so many workers.
    pub(super) fn new(workers: usize) -> Self {
        Self { rounds: watch::Sender::new(0), answered: (0..workers).map(|_| AtomicU64::new(0)).collect() }
    }

    pub(super) fn of(&self, worker: usize) -> Beating {
        Beating { rounds: self.rounds.subscribe(), answered: self.answered.clone(), worker }
    }

    /// Asks every worker to answer.
    pub(crate) fn ask(&self) {
        self.rounds.send_modify(|round| *round += 1);
    }

    /// The first worker that has not answered since.
    pub(crate) fn silent(&self) -> Option<usize> {
        let round = *self.rounds.borrow();
        self.answered.iter().position(|answered| answered.load(Ordering::Acquire) < round)
    }
}

impl Beating {
    /// Answers whenever it is asked, for as long as the event loop runs that this runs in.
    pub(super) async fn answer(mut self) {
        while self.rounds.changed().await.is_ok() {
            let round = *self.rounds.borrow_and_update();
            self.answered[self.worker].store(round, Ordering::Release);
        }
    }
}

impl Drop for Beating {
    fn drop(&mut self) {
        self.answered[self.worker].store(ENDED, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use tokio::sync::mpsc as jobs;

    use super::*;

    /// Blocks an event loop: says so, and waits.
    type Hang = (mpsc::Sender<()>, mpsc::Receiver<()>);

    fn worker(beating: Beating) -> jobs::UnboundedSender<Hang> {
        let (sender, mut hangs) = jobs::unbounded_channel::<Hang>();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                tokio::spawn(beating.answer());
                while let Some((hangs, until)) = hangs.recv().await {
                    hangs.send(()).unwrap();
                    assert!(until.recv().is_err());
                }
            });
        });
        sender
    }

    fn becomes(heartbeat: &Heartbeat, silent: Option<usize>) -> bool {
        (0..5000).any(|_| {
            thread::sleep(Duration::from_millis(1));
            heartbeat.silent() == silent
        })
    }

    #[test]
    fn a_worker_that_hangs_is_told_from_those_that_answer_and_those_that_have_ended() {
        let heartbeat = Heartbeat::new(2);
        let [first, second] = [0, 1].map(|number| worker(heartbeat.of(number)));
        heartbeat.ask();
        assert!(becomes(&heartbeat, None));

        let ((hangs, hanging), (release, released)) = (mpsc::channel(), mpsc::channel());
        second.send((hangs, released)).unwrap();
        hanging.recv().unwrap();
        heartbeat.ask();
        assert!(becomes(&heartbeat, Some(1)), "the other one answers");
        drop(release);
        assert!(becomes(&heartbeat, None));

        drop(first);
        assert!(becomes(&heartbeat, None));
        heartbeat.ask();
        assert!(becomes(&heartbeat, None), "one that has ended is not waited for");
    }
}
