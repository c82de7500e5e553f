//! A small CRM of our own, over SQLite and HTTP/1: the service that Saltgate stands in front of.
//!
//! 1. A deletion is one transaction: the segment goes, its cached members go with it, and its
//!    automations stop for good. Nothing brings a deleted segment back, a restart included.
//! 2. It knows callers only by their `X-Saltgate-*` fields, and everything it says or does stays
//!    within `X-Saltgate-Account`.
//! 3. It judges role and creator by itself, inside the transaction that deletes, and shares no
//!    code with [`crate::policy`]: it can stand alone behind an ownership of `delegate`, and a
//!    mistake in the gate is not repeated here, where it would go unseen.
//! 4. It counts what reaches it, so that "refused" can be told from "sent and refused there".

mod http;
mod judgement;
mod record;
mod seed;
mod store;
mod target;

pub use record::{Automation, Counts, Deleted, Deletion, Segment, StoreError, Tables};
pub use seed::{MEMBERS, SAMPLES, Sample, SampleMember};
pub use store::Store;

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::http::Method;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// The CRM: its data, and what it saw so far.
#[derive(Debug)]
pub struct Crm {
    store: Store,
    seen: Seen,
}

impl Crm {
    /// The CRM on the database at `path`. A new one is made there, with the sample data.
    ///
    /// # Errors
    /// If the file cannot be opened, or is no database of this CRM.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let store = Store::open(path)?;
        store.seed()?;
        Ok(Self { store, seen: Seen::default() })
    }

    /// The data, past all HTTP: for looking at before and after. Its calls block.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// How many DELETE requests arrived, whatever became of them.
    pub fn deletes_seen(&self) -> u64 {
        self.seen.delete.load(Ordering::Relaxed)
    }

    /// How many GET requests arrived, `/health` included.
    pub fn gets_seen(&self) -> u64 {
        self.seen.get.load(Ordering::Relaxed)
    }

    /// How many requests of other methods arrived.
    pub fn others_seen(&self) -> u64 {
        self.seen.other.load(Ordering::Relaxed)
    }

    /// Serves for ever. Dropping the future, or aborting its task, closes every connection with
    /// it; a deletion that has begun still runs to its end.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) -> Infallible {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((socket, _)) => {
                        let crm = Arc::clone(&self);
                        let service = service_fn(move |request| http::answer(Arc::clone(&crm), request));
                        let connection = http1::Builder::new().serve_connection(TokioIo::new(socket), service);
                        connections.spawn(async { drop(connection.await) });
                    }
                    // Out of descriptors, most likely: let some connections end first.
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }

    fn saw(&self, method: &Method) {
        let counter = match *method {
            Method::GET => &self.seen.get,
            Method::DELETE => &self.seen.delete,
            _ => &self.seen.other,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

#[derive(Debug, Default)]
struct Seen {
    get: AtomicU64,
    delete: AtomicU64,
    other: AtomicU64,
}
