//! The CRM's routes and answers.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, ETAG};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Full, Limited};
use serde_json::{Value, json};

use super::judgement::{Deleter, Refused, identity};
use super::record::{Automation, Segment, SegmentDeletion, StoreError};
use super::target::Target;
use super::{Crm, Store};

const MAX_BODY_BYTES: usize = 1024 * 1024;

type Answer = Response<Full<Bytes>>;

/// Answers one request. An internal failure becomes a 500 and has changed nothing.
pub(super) async fn answer<B>(crm: Arc<Crm>, request: Request<B>) -> Result<Answer, Infallible>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (head, body) = request.into_parts();
    crm.saw(&head.method);
    // An incomplete message is not a request: its sender may have given up.
    if Limited::new(body, MAX_BODY_BYTES).collect().await.is_err() {
        return Ok(fault(StatusCode::BAD_REQUEST, "BadRequest", "The body is incomplete or too large."));
    }
    if head.uri.path() == "/health" {
        return Ok(json_answer(StatusCode::OK, &json!({})));
    }
    let Some(account) = identity(&head.headers, "x-saltgate-account").map(str::to_owned) else {
        return Ok(unauthorized());
    };
    let Some(target) = Target::of(head.uri.path()) else {
        return Ok(fault(StatusCode::NOT_FOUND, "NotFound", "There is no such route."));
    };
    let answered = match (head.method, target) {
        (Method::GET, Target::All) => crm.ask(move |store| list(store, &account)).await,
        (Method::GET, Target::Segment(id)) => crm.ask(move |store| show(store, &account, &id)).await,
        (Method::GET, Target::Automations(id)) => crm.ask(move |store| automations(store, &account, &id)).await,
        (Method::DELETE, Target::Segment(id)) => match Deleter::of(&head.headers) {
            Some(deleter) => crm.ask(move |store| delete(store, &account, &id, &deleter)).await,
            None => Ok(unauthorized()),
        },
        (_, target) => Ok(method_not_allowed(&target)),
    };
    Ok(answered.unwrap_or_else(|_| fault(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", "The CRM failed.")))
}

/// The store failed.
#[derive(Debug)]
struct Failed;

impl From<StoreError> for Failed {
    fn from(_: StoreError) -> Self {
        Self
    }
}

impl Crm {
    /// Asks the store on a thread that may block. Once started, the call runs to its end even if nobody waits for the
    /// answer any more.
    async fn ask<F>(self: Arc<Self>, question: F) -> Result<Answer, Failed>
    where
        F: FnOnce(&Store) -> Result<Answer, StoreError> + Send + 'static,
    {
        let asked = tokio::task::spawn_blocking(move || question(&self.store));
        Ok(asked.await.map_err(|_| Failed)??)
    }
}

fn list(store: &Store, account: &str) -> Result<Answer, StoreError> {
    let segments: Vec<_> = store.segments(account)?.iter().map(segment_json).collect();
    Ok(json_answer(StatusCode::OK, &json!({ "segments": segments })))
}

fn show(store: &Store, account: &str, id: &str) -> Result<Answer, StoreError> {
    let Some(segment) = store.segment(account, id)? else { return Ok(no_such_segment()) };
    let mut answer = json_answer(StatusCode::OK, &segment_json(&segment));
    if let Ok(etag) = HeaderValue::from_str(&segment.etag()) {
        answer.headers_mut().insert(ETAG, etag);
    }
    Ok(answer)
}

fn automations(store: &Store, account: &str, id: &str) -> Result<Answer, StoreError> {
    let Some(automations) = store.automations(account, id)? else { return Ok(no_such_segment()) };
    let automations: Vec<_> = automations.iter().map(automation_json).collect();
    // With the total, so that the caller can verify that the list is complete.
    Ok(json_answer(StatusCode::OK, &json!({ "segmentId": id, "total": automations.len(), "automations": automations })))
}

fn delete(store: &Store, account: &str, id: &str, deleter: &Deleter) -> Result<Answer, StoreError> {
    Ok(match store.delete_segment(account, id, |segment| deleter.judge(segment))? {
        SegmentDeletion::Deleted(deleted) => json_answer(
            StatusCode::OK,
            &json!({
                "segmentId": id,
                "deletedMembers": deleted.members,
                "stoppedAutomations": deleted.automations,
            }),
        ),
        SegmentDeletion::NotFound => no_such_segment(),
        SegmentDeletion::Refused(Refused::NotCreator) => unauthorized(),
        SegmentDeletion::Refused(Refused::Changed) => {
            fault(StatusCode::PRECONDITION_FAILED, "PreconditionFailed", "The segment has changed since it was judged.")
        }
    })
}

fn segment_json(segment: &Segment) -> Value {
    json!({
        "segmentId": segment.id,
        "accountId": segment.account,
        "ownerId": segment.owner,
        "name": segment.name,
        "createdAt": segment.created_at,
        "cachedMembers": segment.cached_members,
        "version": segment.version,
    })
}

fn automation_json(automation: &Automation) -> Value {
    json!({
        "automationId": automation.id,
        "name": automation.name,
        "triggering": automation.triggering,
    })
}

fn unauthorized() -> Answer {
    fault(StatusCode::UNAUTHORIZED, "Unauthorized", "권한이 없습니다.")
}

fn no_such_segment() -> Answer {
    fault(StatusCode::NOT_FOUND, "NotFound", "There is no such segment.")
}

fn method_not_allowed(target: &Target) -> Answer {
    let mut answer = fault(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", "The route exists for another method.");
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(target.allowed()));
    answer
}

fn fault(status: StatusCode, code: &str, message: &str) -> Answer {
    json_answer(status, &json!({ "errorCode": code, "errorMessage": message }))
}

fn json_answer(status: StatusCode, value: &Value) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(value.to_string())));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    const PATH: &str = "/crm-core/v1/segments/CRMSG1260423081530123SGM11122233";
    const MAKER: &str =
        "X-Saltgate-Account: account-1\r\nX-Saltgate-Member: member-maker\r\nX-Saltgate-Role: MEMBER\r\n";

    struct Served {
        crm: Arc<Crm>,
        address: std::net::SocketAddr,
        _dir: tempfile::TempDir,
    }

    async fn serve() -> Served {
        let dir = tempfile::tempdir().unwrap();
        let crm = Arc::new(Crm::open(&dir.path().join("crm.sqlite")).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(Arc::clone(&crm).serve(listener));
        Served { crm, address, _dir: dir }
    }

    impl Served {
        /// Sends a request and reads the answer to its end: status, head, body.
        async fn ask(&self, line: &str, fields: &str) -> (u16, String, Value) {
            let mut socket = TcpStream::connect(self.address).await.unwrap();
            let request = format!("{line} HTTP/1.1\r\nHost: crm\r\nConnection: close\r\n{fields}\r\n");
            socket.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            socket.read_to_string(&mut answer).await.unwrap();
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            let status = head.split(' ').nth(1).unwrap().parse().unwrap();
            (status, head.to_owned(), serde_json::from_str(body).unwrap_or_default())
        }

        async fn status(&self, line: &str, fields: &str) -> u16 {
            self.ask(line, fields).await.0
        }
    }

    #[tokio::test]
    async fn a_deletion_happens_once_and_reports_what_it_deleted() {
        let served = serve().await;
        let id = "CRMSG1260423081530123SGM11122233";
        let (status, _, body) = served.ask(&format!("DELETE {PATH}"), MAKER).await;
        assert_eq!(status, 200);
        assert_eq!(body, json!({ "segmentId": id, "deletedMembers": 4, "stoppedAutomations": 2 }));
        assert_eq!(served.status(&format!("DELETE {PATH}"), MAKER).await, 404);
        assert_eq!(served.status(&format!("GET {PATH}"), MAKER).await, 404);
        assert_eq!((served.crm.deletes_seen(), served.crm.gets_seen()), (2, 1));
    }

    #[tokio::test]
    async fn everything_stays_within_the_account() {
        let served = serve().await;
        let stranger =
            "X-Saltgate-Account: account-2\r\nX-Saltgate-Member: member-stranger\r\nX-Saltgate-Role: OWNER\r\n";
        for line in [format!("GET {PATH}"), format!("GET {PATH}/automations"), format!("DELETE {PATH}")] {
            let (status, _, body) = served.ask(&line, stranger).await;
            assert_eq!((status, &body["errorCode"]), (404, &json!("NotFound")), "{line}");
        }
        let (_, _, listed) = served.ask("GET /crm-core/v1/segments", stranger).await;
        assert!(listed["segments"].as_array().unwrap().iter().all(|s| s["accountId"] == "account-2"));
    }

    #[tokio::test]
    async fn callers_without_identity_or_role_get_the_same_401() {
        let served = serve().await;
        for fields in
            ["", "X-Saltgate-Account:\r\n", "X-Saltgate-Account: account-1\r\nX-Saltgate-Account: account-1\r\n"]
        {
            let (status, _, body) = served.ask(&format!("GET {PATH}"), fields).await;
            assert_eq!(status, 401, "{fields:?}");
            assert_eq!(body, json!({ "errorCode": "Unauthorized", "errorMessage": "권한이 없습니다." }));
        }
        let developer = MAKER.replace("maker", "developer");
        assert_eq!(served.status(&format!("DELETE {PATH}"), &developer).await, 401);
        assert_eq!(served.status(&format!("DELETE {PATH}"), &MAKER.replace("MEMBER", "member")).await, 401);
        assert_eq!(served.status(&format!("GET {PATH}"), MAKER).await, 200);
    }

    #[tokio::test]
    async fn a_change_after_the_check_stops_the_deletion() {
        let served = serve().await;
        let (_, head, segment) = served.ask(&format!("GET {PATH}"), MAKER).await;
        assert_eq!(segment["ownerId"], "member-maker");
        let etag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
        served.crm.store().hand_over("account-1", segment["segmentId"].as_str().unwrap(), "member-owner").unwrap();

        let owner = MAKER.replace("maker", "owner").replace("MEMBER", "OWNER");
        for condition in [format!("If-Match: {etag}\r\n"), "X-Saltgate-Creator: member-maker\r\n".to_owned()] {
            assert_eq!(served.status(&format!("DELETE {PATH}"), &format!("{owner}{condition}")).await, 412);
        }
        let creator = format!("{owner}X-Saltgate-Creator: member-owner\r\n");
        assert_eq!(served.status(&format!("DELETE {PATH}"), &creator).await, 200);
    }

    #[tokio::test]
    async fn an_incomplete_deletion_is_not_carried_out() {
        let served = serve().await;
        let before = served.crm.store().counts().unwrap();
        let mut socket = TcpStream::connect(served.address).await.unwrap();
        let half = format!("DELETE {PATH} HTTP/1.1\r\nHost: crm\r\n{MAKER}Content-Length: 10\r\n\r\nhalf");
        socket.write_all(half.as_bytes()).await.unwrap();
        socket.shutdown().await.unwrap();
        // The server has judged the message once it closes its own side.
        socket.read_to_end(&mut Vec::new()).await.unwrap();
        assert_eq!((served.crm.deletes_seen(), served.crm.store().counts().unwrap()), (1, before));
    }

    #[tokio::test]
    async fn unknown_paths_and_methods_have_different_answers() {
        let served = serve().await;
        for (line, fields, status) in [
            ("GET /health", "", 200),
            ("GET /crm-core/v1/segments", MAKER, 200),
            ("GET /crm-core/v1/segments/none", MAKER, 404),
            ("GET /crm-core/v1/segments/", MAKER, 404),
            ("GET /crm-core/v1/segments/a/b", MAKER, 404),
            ("DELETE /crm-core/v1/segments", MAKER, 405),
            ("PUT /crm-core/v1/segments/a", MAKER, 405),
        ] {
            assert_eq!(served.status(line, fields).await, status, "{line}");
        }
        assert_eq!((served.crm.gets_seen(), served.crm.deletes_seen(), served.crm.others_seen()), (5, 1, 1));
    }
}
