use std::io;
use std::net::TcpListener;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use super::connection::{self, Limits};
use crate::config;
use crate::gate::{Generation, Process};
use crate::stack::stack;

/// The threads that serve. A worker is a listener of its own on the shared port, a stack, and its
/// own connections upstream.
///
/// This is the one place where it is chosen how workers are run: each on a runtime of its own,
/// where a request stays on the core that accepted it, or one on a runtime that spreads its
/// requests over all cores (`shared`), for a machine whose cores do much besides.
pub(super) struct Workers {
    threads: Vec<JoinHandle<()>>,
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

/// Starts a worker per listener. The first does the housekeeping.
pub(super) fn start(
    kind: config::Workers,
    listeners: Vec<TcpListener>,
    process: &Arc<Process>,
    current: &Arc<ArcSwap<Generation>>,
    limits: &Limits,
    closing: &watch::Receiver<bool>,
) -> io::Result<Workers> {
    let (done, all_done) = mpsc::channel();
    let (give_up, given_up) = watch::channel(false);
    let threads = listeners.into_iter().enumerate().map(|(worker, listener)| {
        let runtime = runtime(kind)?;
        let (process, current, limits) = (process.clone(), current.clone(), limits.clone());
        let (closing, mut given_up, done) = (closing.clone(), given_up.clone(), done.clone());
        std::thread::Builder::new().name(format!("worker-{worker}")).spawn(move || {
            let _done = done;
            let work = async move {
                if worker == 0 {
                    tokio::spawn(super::housekeeping(process.clone(), current.clone()));
                }
                let stack = stack(&process, &current, worker);
                let work = async {
                    connection::accept(listener, stack, limits, closing).await;
                    process.tasks.ended().await;
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
    Ok(Workers { threads, done: all_done, give_up })
}

impl Workers {
    pub(super) fn len(&self) -> usize {
        self.threads.len()
    }

    /// Waits for all workers for so long; then ends them. Returns whether all ended by
    /// themselves.
    pub(super) fn join(self, limit: Duration) -> bool {
        // Nothing is ever sent: the channel closes when the last worker is gone.
        let finished = self.done.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Disconnected);
        let _ = self.give_up.send(true);
        for thread in self.threads {
            drop(thread.join());
        }
        finished
    }
}
