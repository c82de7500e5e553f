//! The embedded CRM without a gateway, for trying a configuration of one's own.

use std::error::Error;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use super::crm::{Crm, MEMBERS};
use super::walk::{database_in, temporary_directory};
use crate::console::say;

/// Serves the CRM at this address until SIGTERM or Ctrl-C.
///
/// # Errors
/// If the directory cannot be written, or the address cannot be bound.
pub(crate) fn serve_crm(address: SocketAddr, data: Option<&Path>) -> Result<(), Box<dyn Error>> {
    let directory = data.map_or_else(temporary_directory, Path::to_path_buf);
    let crm = Arc::new(Crm::open(&database_in(&directory)?)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let served = runtime.block_on(async {
        let mut end = [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?];
        let listener = tokio::net::TcpListener::bind(address).await.map_err(|error| format!("{address}: {error}"))?;
        say!("An embedded CRM at http://{}; its data is in {}", listener.local_addr()?, directory.display());
        say!("It knows callers by X-Saltgate-* alone, so nothing but Saltgate may reach it. Its members:");
        for member in MEMBERS {
            say!("  {:<16} {:<10} {}", member.id, member.role.unwrap_or("no role"), member.account);
        }
        let [terminate, interrupt] = &mut end;
        tokio::select! {
            never = crm.serve(listener) => match never {},
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        Ok(())
    });
    if data.is_none() {
        // If this fails, the system clears its temporary directory later.
        drop(std::fs::remove_dir_all(&directory));
    }
    served
}
