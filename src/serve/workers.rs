use std::io;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc as orders, watch};
use tokio::task::JoinSet;

use super::certificates::Certificates;
use super::connection::{self, Shared};
use super::entries::{Entries, Order};
use crate::config;
use crate::gate::Current;
use crate::process::Process;
use crate::stack::stack;

/// The threads that serve. A worker is a listener of its own on each shared port, a stack, and its
/// own connections upstream.
///
/// This is the one place where it is chosen how workers are run: each on a runtime of its own,
/// where a request stays on the core that accepted it, or one on a runtime that spreads its
/// requests over all cores (`shared`), for a machine whose cores do much besides.
pub(super) struct Workers {
    threads: Vec<JoinHandle<()>>,
    /// What each is told to accept from; without it there is nothing more to come.
    orders: Vec<orders::UnboundedSender<Order>>,
    /// Each worker says when it is done; a worker that is not has until then.
    done: mpsc::Receiver<()>,
    give_up: watch::Sender<bool>,
}

/// How many workers that is on this machine.
pub(super) fn count(workers: config::Workers) -> usize {
    match workers {
        config::Workers::Count(count) => count.get(),
        config::Workers::PerCore => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        config::Workers::Shared => 1,
    }
}

fn runtime(workers: config::Workers) -> io::Result<Runtime> {
    match workers {
        config::Workers::PerCore | config::Workers::Count(_) => Builder::new_current_thread().enable_all().build(),
        config::Workers::Shared => Builder::new_multi_thread().thread_name("worker").enable_all().build(),
    }
}

/// Starts so many workers. The first does the housekeeping.
pub(super) fn start(
    kind: config::Workers,
    count: usize,
    (process, current, entries, certificates): (&Arc<Process>, &Arc<Current>, &Arc<Entries>, &Arc<Certificates>),
    shared: &Shared,
) -> io::Result<Workers> {
    let (done, all_done) = mpsc::channel();
    let (give_up, given_up) = watch::channel(false);
    let (orders, to_come): (Vec<_>, Vec<_>) = (0..count).map(|_| orders::unbounded_channel()).unzip();
    let threads = to_come.into_iter().enumerate().map(|(worker, mut to_come)| {
        let runtime = runtime(kind)?;
        let (process, current, shared, entries) = (process.clone(), current.clone(), shared.clone(), entries.clone());
        let certificates = certificates.clone();
        let (mut given_up, done) = (given_up.clone(), done.clone());
        std::thread::Builder::new().name(format!("worker-{worker}")).spawn(move || {
            let _done = done;
            let work = async move {
                if worker == 0 {
                    tokio::spawn(super::housekeeping::run(process.clone(), current.clone(), entries, certificates));
                }
                let stack = stack(&process, &current, worker);
                let work = async {
                    let mut accepting = JoinSet::new();
                    while let Some(order) = to_come.recv().await {
                        accepting.spawn(connection::accept(order, stack.clone(), shared.clone()));
                        while accepting.try_join_next().is_some() {}
                    }
                    while accepting.join_next().await.is_some() {}
                    process.tasks[worker].ended().await;
                };
                tokio::select! {
                    () = work => {}
                    _ = given_up.wait_for(|given_up| *given_up) => {}
                }
            };
            runtime.block_on(async { drop(runtime.spawn(work).await) });
            // Whatever still hangs when the time is up is not waited for.
            runtime.shutdown_background();
        })
    });
    let threads = threads.collect::<io::Result<_>>()?;
    Ok(Workers { threads, orders, done: all_done, give_up })
}

impl Workers {
    pub(super) fn len(&self) -> usize {
        self.threads.len()
    }

    /// Has a worker accept from a listener besides.
    pub(super) fn order(&self, worker: usize, order: Order) {
        // A worker that is gone has panicked; the others serve.
        if let Some(orders) = self.orders.get(worker) {
            let _ = orders.send(order);
        }
    }

    /// Waits for all workers for so long. Returns whether all ended by themselves.
    pub(super) fn finish(&mut self, limit: Duration) -> bool {
        self.orders.clear();
        // Nothing is ever sent: the channel closes when the last worker is gone.
        self.done.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Disconnected)
    }

    /// Ends them, whatever they are about.
    pub(super) fn end(self) {
        let _ = self.give_up.send(true);
        for thread in self.threads {
            drop(thread.join());
        }
    }
}
