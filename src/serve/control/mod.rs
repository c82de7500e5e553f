//! The control socket: freeze, unfreeze, refusals, status, explain, reload, drain (contract §8).
//!
//! It has a thread of its own, so that it answers even if the workers are busy. File permissions let only the owner
//! connect; the credentials of the peer are checked all the same.

mod answer;
mod lines;
mod owner;
mod socket;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::accepting::Failures;
use super::commands::ToOwner;
use super::drain::Stage;
use super::status::StatusSource;
use crate::control::{MAX_QUESTION, Question, QuestionError};
use crate::gate::Current;
use crate::process::Process;

pub(super) use socket::{ControlError, ControlSocket};

/// Concurrent connections. Most of them only wait, and a freeze must always get through.
const MAX_CONNECTIONS: usize = 256;
/// Questions with long answers that are answered at once: an answer may have megabytes.
const MAX_ANSWERS: usize = 8;
/// How long to wait for a question, and for an answer to be read.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the end of the gateway waits for answers: whoever waits for a drain is told how it ended.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// The thread that answers; dropping it ends it and removes the socket.
pub(super) struct Control {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Drop for Control {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// What a question is about.
#[derive(Clone)]
struct Subject {
    process: Arc<Process>,
    current: Arc<Current>,
    keys_file: Arc<PathBuf>,
    to_owner: ToOwner,
    progress: watch::Receiver<Stage>,
    status: Arc<StatusSource>,
    answers: Arc<Semaphore>,
}

/// Who asks.
#[derive(Clone, Copy)]
struct Peer {
    uid: u32,
    pid: Option<i32>,
}

pub(super) fn start(
    socket: ControlSocket,
    process: &Arc<Process>,
    current: &Arc<Current>,
    keys_file: PathBuf,
    (to_owner, progress): (ToOwner, watch::Receiver<Stage>),
    status: &Arc<StatusSource>,
) -> io::Result<Control> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let subject = Subject {
        process: process.clone(),
        current: current.clone(),
        keys_file: Arc::new(keys_file),
        to_owner,
        progress,
        status: status.clone(),
        answers: Arc::new(Semaphore::new(MAX_ANSWERS)),
    };
    let (stop, mut stopped) = oneshot::channel::<()>();
    let thread = thread::Builder::new().name("control".into()).spawn(move || {
        runtime.block_on(async move {
            let listener = match socket.listener() {
                Ok(listener) => listener,
                Err(error) => return tracing::error!(%error, "the control socket cannot be used"),
            };
            let mut failures = Failures::of("a connection to the control socket");
            let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
            let mut connections = JoinSet::new();
            loop {
                let place = tokio::select! {
                    _ = &mut stopped => break,
                    place = room.clone().acquire_owned() => place,
                };
                let Ok(place) = place else { break };
                tokio::select! {
                    _ = &mut stopped => break,
                    accepted = listener.accept() => match accepted {
                        Ok((stream, _)) => {
                            let subject = subject.clone();
                            connections.spawn(async move {
                                let _place = place;
                                drop(serve(stream, &subject).await);
                            });
                            while connections.try_join_next().is_some() {}
                        }
                        Err(error) => failures.pause(&error).await,
                    }
                }
            }
            let all = async { while connections.join_next().await.is_some() {} };
            drop(timeout(LAST_ANSWERS, all).await);
        });
    })?;
    Ok(Control { stop: Some(stop), thread: Some(thread) })
}

async fn serve(mut stream: UnixStream, subject: &Subject) -> io::Result<()> {
    let credentials = stream.peer_cred()?;
    let peer = Peer { uid: credentials.uid(), pid: credentials.pid() };
    let ours = rustix::process::geteuid().as_raw();
    let mut _place = None;
    let answer = if peer.uid != ours && peer.uid != 0 {
        tracing::warn!(uid = peer.uid, pid = peer.pid, "control: another user was refused");
        lines::error("this socket is for the gateway's own user and root")
    } else {
        match timeout(PATIENCE, question(&mut stream)).await {
            Err(_) => lines::error("the question did not come in time"),
            Ok(line) => match line.and_then(|line| Question::parse(&line)) {
                Ok(question) => {
                    if is_large(&question) {
                        _place = subject.answers.acquire().await.ok();
                    }
                    answer::to(question, peer, subject).await
                }
                Err(wrong) => lines::error(&wrong.to_string()),
            },
        }
    };
    timeout(PATIENCE, stream.write_all(answer.as_bytes())).await??;
    stream.shutdown().await
}

/// Whether its answer may be large.
fn is_large(question: &Question) -> bool {
    match question {
        Question::Freeze { .. }
        | Question::Unfreeze(_)
        | Question::KeySet
        | Question::Reload
        | Question::Drain { .. } => false,
        Question::Frozen
        | Question::Refusals { .. }
        | Question::Status
        | Question::KeyUses
        | Question::Explain { .. } => true,
    }
}

async fn question(stream: &mut UnixStream) -> Result<Vec<u8>, QuestionError> {
    let mut line = Vec::new();
    let read = BufReader::new(stream.take(MAX_QUESTION as u64)).read_until(b'\n', &mut line).await;
    read.map_err(|_| QuestionError::Unread)?;
    match line.pop() {
        Some(b'\n') => Ok(line),
        _ => Err(QuestionError::NotALine),
    }
}
