//! A small CRM with SQLite and HTTP/1: the service that Saltgate protects.
//!
//! 1. A deletion is one transaction: it removes the segment and its cached members, and stops its automations for good.
//!    Nothing restores a deleted segment, not even a restart.
//! 2. It knows callers only by their `X-Saltgate-*` fields, and reads and changes only data of `X-Saltgate-Account`.
//! 3. It checks role and creator itself, inside the transaction that deletes, and shares no code with
//!    [`crate::policy`]. So it works with `[ownership.delegate]`, and tests notice a mistake in the gate because it is
//!    not repeated here.
//! 4. It counts the requests it receives, so that tests can distinguish "refused by the gateway" from "refused by the
//!    CRM".

mod http;
mod judgement;
mod record;
mod seed;
mod store;
mod target;

pub(crate) use record::{StoreError, Tables};
pub(crate) use seed::{MEMBERS, SampleMember};
pub(crate) use store::Store;

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

/// The CRM: its data, and counts of the requests so far.
#[derive(Debug)]
pub struct Crm {
    store: Store,
    seen: Seen,
}

impl Crm {
    /// Opens the CRM with the database at `path`. A new database is filled with the sample data.
    ///
    /// # Errors
    /// If the file cannot be opened, or is not a database of this CRM.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let store = Store::open(path)?;
        store.seed()?;
        Ok(Self { store, seen: Seen::default() })
    }

    /// The data without HTTP, to compare before and after. Calls block.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// How many DELETE requests arrived, successful or not.
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

    /// Serves until the future is dropped, which closes every connection. A deletion that has started still runs to its
    /// end.
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
                    // Most likely out of file descriptors: wait until some connections end.
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
