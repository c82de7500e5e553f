//! The threads that serve requests.

use std::io;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc as orders, watch};
use tokio::task::JoinSet;

use super::certificates::Certificates;
use super::connection::{self, Shared};
use super::drain::Event;
use super::entries::{Entries, Order};
use super::heartbeat::Heartbeat;
use crate::clock::begin_turn;
use crate::config;
use crate::gate::Current;
use crate::process::Process;
use crate::socket::{IoBackend, IoChoice, begin_ring, turn_ring};
use crate::stack::stack;

/// The threads that serve requests. Each worker has a listener of its own on each shared port, a stack, and its own
/// connections to the upstream.
///
/// Only this file decides how workers are run: each on a runtime of its own, so that a request stays on the core
/// that accepted it; or one worker on a runtime that spreads its requests over all cores (`shared`), for machines
/// whose cores have much other work.
pub(super) struct Workers {
    threads: Vec<JoinHandle<()>>,
    /// Sends each worker the listeners to accept from; dropping a sender means that no more will come.
    orders: Vec<orders::UnboundedSender<Order>>,
    give_up: watch::Sender<bool>,
    /// How each reads and writes its sockets.
    io: Vec<IoBackend>,
}

/// How many workers to start on this machine.
pub(super) fn count(workers: config::Workers) -> usize {
    match workers {
        config::Workers::Count(count) => count.get(),
        config::Workers::PerCore => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        config::Workers::Shared => 1,
    }
}

fn runtime(workers: config::Workers, io: IoBackend) -> io::Result<Runtime> {
    match workers {
        config::Workers::PerCore | config::Workers::Count(_) => {
            let mut builder = Builder::new_current_thread();
            if io == IoBackend::Uring {
                // After it has slept, too: what has arrived is then read without looking for other events first.
                builder.on_thread_park(turn_ring).on_thread_unpark(|| {
                    begin_turn();
                    turn_ring();
                });
            } else {
                builder.on_thread_unpark(begin_turn);
            }
            builder.enable_all().build()
        }
        config::Workers::Shared => {
            Builder::new_multi_thread().thread_name("worker").on_thread_unpark(begin_turn).enable_all().build()
        }
    }
}

/// Starts this many workers. The first one does the housekeeping.
///
/// # Errors
/// If a thread, its runtime or a ring that must be there cannot be made.
pub(super) fn start(
    (kind, choice, io): (config::Workers, IoChoice, IoBackend),
    count: usize,
    (process, current, entries, certificates): (&Arc<Process>, &Arc<Current>, &Arc<Entries>, &Arc<Certificates>),
    shared: &Shared,
    (events, heartbeat): (&mpsc::Sender<Event>, &Heartbeat),
) -> io::Result<Workers> {
    let (give_up, given_up) = watch::channel(false);
    let (orders, to_come): (Vec<_>, Vec<_>) = (0..count).map(|_| orders::unbounded_channel()).unzip();
    let (begun, begins) = mpsc::channel();
    let threads = to_come.into_iter().enumerate().map(|(worker, mut to_come)| {
        let runtime = runtime(kind, io)?;
        let (process, current, shared, entries) = (process.clone(), current.clone(), shared.clone(), entries.clone());
        let (certificates, beating) = (certificates.clone(), heartbeat.of(worker));
        let begun = begun.clone();
        let (mut given_up, ended) = (given_up.clone(), Ended(events.clone()));
        std::thread::Builder::new().name(format!("worker-{worker}")).spawn(move || {
            let _ended = ended;
            let ring = {
                let _inside = runtime.enter();
                (io == IoBackend::Uring).then(begin_ring).transpose()
            };
            let (ring, io) = match ring {
                Ok(ring) => {
                    let io = if ring.is_some() { IoBackend::Uring } else { IoBackend::Epoll };
                    (ring, Ok(io))
                }
                Err(error) => (None, Err(error)),
            };
            // Whoever starts the workers waits for this.
            drop(begun.send(io));
            let work = async move {
                if worker == 0 {
                    tokio::spawn(super::housekeeping::run(process.clone(), current.clone(), entries, certificates));
                }
                tokio::spawn(beating.answer());
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
            // Tasks that still hang when the time is up are abandoned.
            runtime.shutdown_background();
            drop(ring);
        })
    });
    let threads: Vec<_> = threads.collect::<io::Result<_>>()?;
    let io = begins.iter().take(threads.len()).map(|begun| match begun {
        Err(error) if choice == IoChoice::Auto => {
            tracing::warn!(%error, "a worker gets no io_uring and uses epoll");
            Ok(IoBackend::Epoll)
        }
        begun => begun,
    });
    let io = io.collect::<io::Result<_>>()?;
    Ok(Workers { threads, orders, give_up, io })
}

/// Dropped at the end of a worker, however it ends.
struct Ended(mpsc::Sender<Event>);

impl Drop for Ended {
    fn drop(&mut self) {
        // The gateway may be gone.
        let _ = self.0.send(Event::WorkerEnded);
    }
}

impl Workers {
    pub(super) fn len(&self) -> usize {
        self.threads.len()
    }

    /// How they read and write their sockets: one kind, unless some got no ring.
    pub(super) fn io_backends(&self) -> Vec<IoBackend> {
        IoBackend::ALL.into_iter().filter(|kind| self.io.contains(kind)).collect()
    }

    /// Has a worker accept from another listener.
    pub(super) fn order(&self, worker: usize, order: Order) {
        // A missing worker has panicked; the others go on serving.
        if let Some(orders) = self.orders.get(worker) {
            let _ = orders.send(order);
        }
    }

    /// Nothing more is to come: each worker ends once nothing is under way on it.
    pub(super) fn leave(&mut self) {
        self.orders.clear();
    }

    /// Ends the workers, whatever they are doing.
    pub(super) fn end(self) {
        let _ = self.give_up.send(true);
        for thread in self.threads {
            drop(thread.join());
        }
    }
}
