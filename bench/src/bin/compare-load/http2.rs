//! HTTP/2 over TLS: a few connections with a number of concurrent streams each.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use rustls::pki_types::ServerName;
use saltgate_compare::sign::Signer;
use tokio::net::TcpStream;
use tokio::task::{JoinSet, LocalSet};
use tokio_rustls::TlsConnector;

use super::tally::Tally;
use super::{Expected, Options, name};

type Failure = Box<dyn std::error::Error>;

struct Shared {
    signer: Signer,
    tally: Tally,
    done: bool,
}

pub fn drive(options: Options, signer: Signer, tally: Tally) -> Result<Tally, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let shared = Rc::new(RefCell::new(Shared { signer, tally, done: false }));
    LocalSet::new().block_on(&runtime, run(Rc::new(options), Rc::clone(&shared)))?;
    let shared = Rc::try_unwrap(shared).map_err(|_| "a stream outlived the window")?;
    Ok(shared.into_inner().tally)
}

async fn run(options: Rc<Options>, shared: Rc<RefCell<Shared>>) -> Result<(), Failure> {
    let mut carriers = JoinSet::new();
    let mut streams = JoinSet::new();
    let mut senders = Vec::new();
    for _ in 0..options.connections {
        let (sender, connection) = open(&options).await?;
        carriers.spawn_local(connection);
        senders.push(sender);
    }
    shared.borrow_mut().tally.begin();
    for sender in senders {
        for _ in 0..options.streams {
            streams.spawn_local(stream(sender.clone(), Rc::clone(&options), Rc::clone(&shared)));
        }
    }
    loop {
        let next = shared.borrow().tally.next_turn();
        tokio::select! {
            ended = streams.join_next() => match ended {
                Some(ended) => ended?.map_err(|fault| fault as Failure)?,
                None => break,
            },
            ended = carriers.join_next() => return Err(format!("the peer ended a connection: {ended:?}").into()),
            () = tokio::time::sleep_until(next.into()) => {
                let mut shared = shared.borrow_mut();
                if shared.tally.turn(Instant::now())? {
                    shared.done = true;
                    break;
                }
            }
        }
    }
    streams.shutdown().await;
    carriers.shutdown().await;
    Ok(())
}

async fn open(
    options: &Options,
) -> Result<(SendRequest<Bytes>, impl Future<Output = Result<(), h2::Error>> + use<>), Failure> {
    let socket = TcpStream::connect(options.target).await?;
    socket.set_nodelay(true)?;
    let config = options.tls.clone().ok_or("HTTP/2 is spoken over TLS")?;
    let tls = TlsConnector::from(config).connect(ServerName::try_from("localhost")?, socket).await?;
    if tls.get_ref().1.alpn_protocol() != Some(b"h2") {
        return Err("the peer did not agree to HTTP/2 by ALPN".into());
    }
    Ok(h2::client::Builder::new().enable_push(false).handshake(tls).await?)
}

async fn stream(
    mut sender: SendRequest<Bytes>,
    options: Rc<Options>,
    shared: Rc<RefCell<Shared>>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let judge = Expected { status: options.expect };
    while !shared.borrow().done {
        sender = sender.ready().await?;
        let due = Instant::now();
        let (segment, header) = {
            let signer = &mut shared.borrow_mut().signer;
            let mut header = String::with_capacity(256);
            signer.header(options.kind, &mut header);
            (signer.random(), header)
        };
        let request = Request::delete(format!("https://localhost/crm-core/v1/segments/{}", name(segment)))
            .header(http::header::AUTHORIZATION, header)
            .header(http::header::USER_AGENT, "compare-load")
            .header(http::header::ACCEPT, "application/json")
            .body(())?;
        let (answer, _) = sender.send_request(request, true)?;
        let (head, mut body) = answer.await?.into_parts();
        let mut whole = Vec::new();
        while let Some(part) = body.data().await {
            let part = part?;
            body.flow_control().release_capacity(part.len())?;
            whole.extend_from_slice(&part);
        }
        judge.judge(segment, head.status.as_u16(), &whole)?;
        shared.borrow_mut().tally.answered(due, Instant::now());
    }
    Ok(())
}
