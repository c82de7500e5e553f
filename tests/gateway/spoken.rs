//! A client that speaks HTTP/1.1 or HTTP/2, so that a test can make the same requests over both.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest, handshake};
use h2::{RecvStream, SendStream};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::harness::PATIENCE;
use crate::http::{Answer, Lost, Request, read_body, read_head};

/// The HTTP version that a caller speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoken {
    Http1,
    Http2,
}

pub const BOTH: [Spoken; 2] = [Spoken::Http1, Spoken::Http2];

/// One connection.
pub enum Caller {
    One(BufReader<TcpStream>),
    Two(Box<Two>),
}

/// An HTTP/2 connection.
pub struct Two {
    runtime: Runtime,
    connection: SendRequest<Bytes>,
    ended: JoinHandle<Result<(), h2::Error>>,
    /// The requests, each with the sender of its body; dropping that resets the stream.
    asked: VecDeque<Result<(ResponseFuture, SendStream<Bytes>), Lost>>,
    answer: Option<RecvStream>,
}

impl Spoken {
    pub fn connect(self, address: SocketAddr) -> Caller {
        self.on(TcpStream::connect(address).unwrap())
    }

    /// Sends a request on a connection of its own.
    pub fn ask(self, address: SocketAddr, request: &Request) -> Answer {
        self.connect(address).ask(request).unwrap()
    }

    pub fn delete(self, address: SocketAddr, authorization: &str) -> Answer {
        self.ask(address, &Request::delete(authorization))
    }

    /// On a connection on which nothing was sent yet.
    pub fn on(self, stream: TcpStream) -> Caller {
        stream.set_nodelay(true).unwrap();
        match self {
            Self::Http1 => {
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                Caller::One(BufReader::new(stream))
            }
            Self::Http2 => {
                let runtime =
                    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
                let (connection, ended) = runtime.block_on(async {
                    stream.set_nonblocking(true).unwrap();
                    let stream = tokio::net::TcpStream::from_std(stream).unwrap();
                    let (sender, connection) = handshake(stream).await.unwrap();
                    (sender, tokio::spawn(connection))
                });
                Caller::Two(Box::new(Two { runtime, connection, ended, asked: VecDeque::new(), answer: None }))
            }
        }
    }
}

impl Caller {
    /// Sends a complete request and waits for its complete answer.
    pub fn ask(&mut self, request: &Request) -> Result<Answer, Lost> {
        self.send(request);
        self.answer()
    }

    /// Sends a complete request.
    pub fn send(&mut self, request: &Request) {
        if request.content().is_empty() {
            return self.begin(request, None);
        }
        self.begin(request, Some(request.content().len()));
        self.end(request.content());
    }

    /// Sends the body of the last request to its end.
    pub fn end(&mut self, body: &[u8]) {
        match self {
            // A gateway that has answered by now may have closed.
            Self::One(stream) => drop(stream.get_mut().write_all(body)),
            Self::Two(two) => {
                // The gateway never grants a window for the part that it does not want.
                if let Ok((_, sending)) = two.asked.back_mut().unwrap() {
                    drop(sending.send_data(Bytes::copy_from_slice(body), true));
                }
            }
        }
    }

    /// Sends the head of a request, which announces a body of this length, or none.
    pub fn begin(&mut self, request: &Request, length: Option<usize>) {
        let request = match length {
            Some(length) => &request.clone().field("content-length", &length.to_string()),
            None => request,
        };
        match self {
            // If it was closed meanwhile, reading the answer shows that.
            Self::One(stream) => drop(stream.get_mut().write_all(format!("{}\r\n", request.unfinished()).as_bytes())),
            Self::Two(two) => two.runtime.block_on(async {
                let ready = two.connection.clone().ready().await;
                let asked = ready.and_then(|mut ready| ready.send_request(request.http2(), length.is_none()));
                two.asked.push_back(asked.map_err(|error| Lost(error.to_string())));
            }),
        }
    }

    /// The status of the answer to the first request, as soon as its head has arrived.
    pub fn status(&mut self) -> Result<Answer, Lost> {
        match self {
            Self::One(stream) => read_head(stream).map(Answer::with_head),
            Self::Two(two) => {
                let (answer, _sending) = two.asked.pop_front().expect("something was asked")?;
                let answer =
                    two.runtime.block_on(async { timeout(PATIENCE, answer).await }).expect("an answer in time");
                let (parts, body) = answer.map_err(|error| Lost(error.to_string()))?.into_parts();
                two.answer = Some(body);
                let lines = parts.headers.iter().map(|(name, value)| {
                    let value = String::from_utf8_lossy(value.as_bytes());
                    format!("{name}: {value}\r\n")
                });
                Ok(Answer { status: parts.status.as_u16(), head: lines.collect(), body: String::new() })
            }
        }
    }

    /// The complete answer to the first request.
    pub fn answer(&mut self) -> Result<Answer, Lost> {
        let mut answer = self.status()?;
        answer.body = self.rest(&answer)?;
        Ok(answer)
    }

    /// The body after the head that was read last.
    pub fn rest(&mut self, answer: &Answer) -> Result<String, Lost> {
        match self {
            Self::One(stream) => read_body(stream, answer),
            Self::Two(two) => {
                let body = two.answer.take().expect("the body of an answer");
                two.runtime.block_on(async { timeout(PATIENCE, collected(body)).await }).expect("an answer in time")
            }
        }
    }

    /// A part of the body after the head that was read last, as it arrives; over HTTP/1 with its chunks. Empty at
    /// the end.
    pub fn piece(&mut self) -> Result<String, Lost> {
        let piece = match self {
            Self::One(stream) => {
                let piece = stream.fill_buf().map_err(|error| Lost(error.to_string()))?.to_vec();
                stream.consume(piece.len());
                piece
            }
            Self::Two(two) => {
                let body = two.answer.as_mut().expect("the body of an answer");
                let piece = two.runtime.block_on(async { timeout(PATIENCE, body.data()).await }).expect("more in time");
                let piece = piece.transpose().map_err(|error| Lost(error.to_string()))?.unwrap_or_default();
                body.flow_control().release_capacity(piece.len()).unwrap();
                piece.to_vec()
            }
        };
        Ok(String::from_utf8_lossy(&piece).into_owned())
    }

    /// Whether the other side accepts another request on this connection, as far as it has said.
    pub fn is_open(&self) -> bool {
        match self {
            Self::One(stream) => {
                stream.get_ref().set_nonblocking(true).unwrap();
                let ended = stream.get_ref().peek(&mut [0]);
                stream.get_ref().set_nonblocking(false).unwrap();
                ended.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
            }
            Self::Two(two) => two.runtime.block_on(async { two.connection.clone().ready().await.is_ok() }),
        }
    }

    /// Resets the requests in progress: over HTTP/1 the connection, over HTTP/2 the streams only.
    pub fn give_up(&mut self) {
        match self {
            Self::One(stream) => {
                socket2::SockRef::from(stream.get_ref()).set_linger(Some(Duration::ZERO)).unwrap();
                // A connection that nobody serves takes its place.
                let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
                *stream = BufReader::new(TcpStream::connect(nowhere.local_addr().unwrap()).unwrap());
            }
            Self::Two(two) => two.asked.clear(),
        }
    }

    /// Waits until the other side has closed the connection.
    pub fn ended(&mut self) {
        match self {
            Self::One(stream) => {
                let mut piece = [0; 4096];
                loop {
                    match stream.read(&mut piece) {
                        Ok(0) => return,
                        Ok(_) => {}
                        Err(error) => {
                            let timed_out = std::io::ErrorKind::WouldBlock;
                            assert_ne!(error.kind(), timed_out, "it is not closed");
                            return;
                        }
                    }
                }
            }
            Self::Two(two) => {
                let Two { runtime, ended, .. } = &mut **two;
                drop(runtime.block_on(async { timeout(PATIENCE, ended).await }).expect("it is not closed"));
            }
        }
    }
}

async fn collected(mut body: RecvStream) -> Result<String, Lost> {
    let mut all = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.map_err(|error| Lost(error.to_string()))?;
        body.flow_control().release_capacity(data.len()).unwrap();
        all.extend_from_slice(&data);
    }
    Ok(String::from_utf8_lossy(&all).into_owned())
}
