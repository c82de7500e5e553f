//! `GET /live`, `GET /ready`, `GET /metrics`, `GET /status` (contract §10). Read-only.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::{io, thread};

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

use super::accepting::Failures;
use super::ready::{self, Part};
use super::status::StatusSource;
use super::status_page;
use crate::gate::{Current, Generation};
use crate::listen::{BoundTcp, ConnectionLimit};
use crate::plain;
use crate::process::Process;

/// Concurrent connections; beyond that, the oldest is closed for a new one.
const MAX_CONNECTIONS: usize = 256;
/// How long to wait for a question, also between two on one connection.
const PATIENCE: Duration = Duration::from_secs(30);

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

/// Starts it on a runtime of its own, so that it answers even if the workers are busy.
pub(super) fn start(
    bound: BoundTcp,
    process: &Arc<Process>,
    current: &Arc<Current>,
    status: &Arc<StatusSource>,
) -> io::Result<(Admin, SocketAddr)> {
    let address = bound.address();
    let listener = bound.listeners(1)?.remove(0);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (process, current, status) = (process.clone(), current.clone(), status.clone());
    let (stop, mut stopped) = oneshot::channel::<()>();
    let thread = thread::Builder::new().name("admin".into()).spawn(move || {
        let _bound = bound;
        runtime.block_on(async move {
            let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
            let mut failures = Failures::of("a connection to the admin listener");
            let limit = Arc::new(ConnectionLimit::new(MAX_CONNECTIONS, MAX_CONNECTIONS));
            loop {
                tokio::select! {
                    _ = &mut stopped => return,
                    accepted = listener.accept() => {
                        let stream = match accepted {
                            Ok((stream, _)) => stream,
                            Err(error) => {
                                failures.pause(&error).await;
                                continue;
                            }
                        };
                        let slot = match limit.try_take() {
                            Some(slot) => Some(slot),
                            None => limit.wait().await,
                        };
                        let Some(slot) = slot else { return };
                        let (process, current, status) = (process.clone(), current.clone(), status.clone());
                        let service = service_fn(move |request| {
                            let answer = answer(&request, &process, &current.load(), &status);
                            async move { Ok::<_, Infallible>(answer) }
                        });
                        let connection = http1::Builder::new()
                            .timer(TokioTimer::new())
                            .header_read_timeout(PATIENCE)
                            .serve_connection(TokioIo::new(stream), service);
                        tokio::spawn(async move {
                            // Answers take only a moment, so the oldest connection has had its answer.
                            tokio::select! {
                                biased;
                                _ = connection => {}
                                _ = slot.activity().evicted() => {}
                            }
                        });
                    }
                }
            }
        });
    })?;
    Ok((Admin { stop: Some(stop), thread: Some(thread) }, address))
}

fn answer(
    request: &Request<Incoming>,
    process: &Process,
    current: &Generation,
    status: &StatusSource,
) -> Response<Full<Bytes>> {
    let known = matches!(request.uri().path(), "/live" | "/ready" | "/metrics" | "/status" | "/status.json");
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
        "/metrics" => metrics(process, current),
        "/status" => status_page::page(request.uri(), status),
        "/status.json" => status_page::json(status),
        _ => json_answer(
            StatusCode::NOT_FOUND,
            &json!({"errorCode": "NotFound", "errorMessage": "There are /live, /ready, /metrics, /status and /status.json."}),
        ),
    }
}

fn ready(process: &Process, current: &Generation) -> Response<Full<Bytes>> {
    let parts = ready::parts(process, current);
    let ready = !parts.iter().any(|(_, part)| matches!(part, Part::Gone(_)));
    let body: serde_json::Map<_, _> = parts.iter().map(|(name, part)| ((*name).to_owned(), told(part))).collect();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json_answer(status, &json!({"status": if ready { "ready" } else { "not ready" }, "parts": body}))
}

fn told(part: &Part) -> serde_json::Value {
    match part {
        Part::Ok => json!("ok"),
        Part::Degraded(why) => json!(format!("degraded: {why}")),
        Part::Gone(why) => json!(why),
    }
}

fn metrics(process: &Process, current: &Generation) -> Response<Full<Bytes>> {
    super::housekeeping::refresh_gauges(process, current);
    super::levels::refresh(process, current);
    match process.metrics.render() {
        Ok(text) => typed(StatusCode::OK, "text/plain; version=0.0.4", text.into()),
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be written");
            typed(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", Bytes::new())
        }
    }
}

fn json_answer(status: StatusCode, body: &serde_json::Value) -> Response<Full<Bytes>> {
    typed(status, "application/json", plain::json_line(body).into())
}

fn typed(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
