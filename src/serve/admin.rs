//! `GET /live`, `GET /ready`, `GET /metrics` (contract §10). Read-only.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::{io, thread};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::sync::oneshot;

use crate::clock;
use crate::gate::{Generation, Process};
use crate::listen::Door;
use crate::replay::Health;

/// The thread that answers; dropping it ends it.
pub(super) struct Admin {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Starts it on a runtime of its own, so that it answers however busy the workers are.
pub(super) fn start(
    door: Door,
    process: &Arc<Process>,
    current: &Arc<ArcSwap<Generation>>,
) -> io::Result<(Admin, SocketAddr)> {
    let address = door.address();
    let listener = door.listeners(1)?.remove(0);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (process, current) = (process.clone(), current.clone());
    let (stop, mut stopped) = oneshot::channel::<()>();
    let thread = thread::Builder::new().name("admin".into()).spawn(move || {
        let _door = door;
        runtime.block_on(async move {
            let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
            loop {
                tokio::select! {
                    _ = &mut stopped => return,
                    accepted = listener.accept() => {
                        let Ok((stream, _)) = accepted else { continue };
                        let (process, current) = (process.clone(), current.clone());
                        let service = service_fn(move |request| {
                            let answer = answer(&request, &process, &current.load());
                            async move { Ok::<_, Infallible>(answer) }
                        });
                        let connection = http1::Builder::new()
                            .timer(TokioTimer::new())
                            .serve_connection(TokioIo::new(stream), service);
                        tokio::spawn(async move { drop(connection.await) });
                    }
                }
            }
        });
    })?;
    Ok((Admin { stop: Some(stop), thread: Some(thread) }, address))
}

fn answer(request: &Request<Incoming>, process: &Process, current: &Generation) -> Response<Full<Bytes>> {
    let known = matches!(request.uri().path(), "/live" | "/ready" | "/metrics");
    if known && request.method() != Method::GET && request.method() != Method::HEAD {
        let mut refused = json_answer(
            StatusCode::METHOD_NOT_ALLOWED,
            &json!({"errorCode": "MethodNotAllowed", "errorMessage": "This listener is read-only."}),
        );
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match request.uri().path() {
        "/live" => json_answer(StatusCode::OK, &json!({"status": "live"})),
        "/ready" => ready(process, current),
        "/metrics" => metrics(process),
        _ => json_answer(
            StatusCode::NOT_FOUND,
            &json!({"errorCode": "NotFound", "errorMessage": "There are /live, /ready and /metrics."}),
        ),
    }
}

fn ready(process: &Process, current: &Generation) -> Response<Full<Bytes>> {
    let now = process.clock.now();
    let fence = process.salts.fenced_until().filter(|until| *until > now);
    let fenced = fence.map(|until| format!("fenced until {}", clock::rfc3339(until)));
    let (replay_ok, replay) = match (fenced, process.salts.health()) {
        (Some(fenced), Health::Ok) => (false, fenced),
        (Some(_), Health::Degraded(why)) | (_, Health::Gone(why)) => (false, why),
        // A shared store may come back, and other processes have it no better.
        (None, Health::Degraded(why)) => (!process.ready_needs_replay, format!("degraded: {why}")),
        (None, Health::Ok) => (true, "ok".to_owned()),
    };
    let parts = [
        ("draining", !process.is_draining(), "the process is ending".to_owned()),
        ("record", process.record.is_ready(), "cannot be written".to_owned()),
        ("replay", replay_ok, replay),
        ("directory", !current.directory.is_empty(), "holds no key".to_owned()),
    ];
    // A directory without keys refuses everybody, which is an answer and not a fault.
    let ready = parts.iter().all(|(name, ok, _)| *ok || *name == "directory");
    let body: serde_json::Map<_, _> = parts
        .into_iter()
        .map(|(name, ok, why)| (name.to_owned(), if ok && name != "replay" { json!("ok") } else { json!(why) }))
        .collect();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json_answer(status, &json!({"status": if ready { "ready" } else { "not ready" }, "parts": body}))
}

fn metrics(process: &Process) -> Response<Full<Bytes>> {
    super::refresh(process);
    match process.metrics.render() {
        Ok(text) => typed(StatusCode::OK, "text/plain; version=0.0.4", text.into()),
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be written");
            typed(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", Bytes::new())
        }
    }
}

fn json_answer(status: StatusCode, body: &serde_json::Value) -> Response<Full<Bytes>> {
    typed(status, "application/json", body.to_string().into())
}

fn typed(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
