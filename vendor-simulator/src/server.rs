//! The vendor's port: HTTP/1.1 on connections that can be refused, reset, kept silent or cut.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::body::Bulk;
use crate::rules::Operation;
use crate::send::{AnswerBody, bulk_body, half_body, slow_body};
use crate::vendor::{Delivery, Plan, Request, Vendor};
use crate::wire::Answer;

/// Bytes of a request's body that are read.
const REQUEST_BODY_MAX: usize = 64 * 1024;
/// Clients that connect all at once wait here.
pub(crate) const BACKLOG: u32 = 1024;
const BIND_TRIES: u32 = 200;
const BIND_EVERY: Duration = Duration::from_millis(20);

/// Whether connections are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gate {
    Open,
    /// Until this moment, or until opened.
    Refusing(Option<Instant>),
}

/// What both ports work on.
pub(crate) struct Shared {
    vendor: Mutex<Vendor>,
    gate: watch::Sender<Gate>,
    /// What the gate has come to: false while connections are refused.
    listening: watch::Sender<bool>,
}

impl Shared {
    pub(crate) fn new(vendor: Vendor) -> Self {
        Self {
            vendor: Mutex::new(vendor),
            gate: watch::Sender::new(Gate::Open),
            listening: watch::Sender::new(true),
        }
    }

    /// Takes effect soon; `gate_settled` tells when.
    pub(crate) fn set_gate(&self, gate: Gate) {
        self.gate.send_replace(gate);
    }

    pub(crate) fn is_refusing(&self) -> bool {
        *self.gate.borrow() != Gate::Open
    }

    /// Whether the port does what the gate says.
    pub(crate) fn gate_settled(&self) -> bool {
        *self.listening.borrow() != self.is_refusing()
    }

    pub(crate) fn vendor(&self) -> MutexGuard<'_, Vendor> {
        self.vendor.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves until `stop`; closes the listener and every connection while the gate refuses.
pub(crate) async fn serve(
    listener: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: CancellationToken,
) -> io::Result<()> {
    let mut gate = shared.gate.subscribe();
    let mut open = listener;
    loop {
        let connections = stop.child_token();
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = until_refusing(&mut gate) => break,
                accepted = open.accept() => {
                    // Out of file descriptors and the like: the next one may do.
                    let Ok((stream, _)) = accepted else { tokio::task::yield_now().await; continue };
                    shared.vendor().counters.connections += 1;
                    tokio::spawn(serve_connection(stream, Arc::clone(&shared), connections.clone()));
                }
            }
        }
        drop(open);
        connections.cancel();
        // Bound but not listening: connects are refused, and nobody else can take the port.
        let parked = bound(address).await?;
        shared.listening.send_replace(false);
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = until_open(&shared.gate, &mut gate) => {}
        }
        open = parked.listen(BACKLOG)?;
        shared.listening.send_replace(true);
    }
}

/// A socket that has the address but does not listen yet. A process that is being started beside us holds a copy of a closed listener
/// until its exec, so a busy address is tried again.
async fn bound(address: SocketAddr) -> io::Result<TcpSocket> {
    let mut tries_left = BIND_TRIES;
    loop {
        match socket(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries_left > 0 => {
                tries_left -= 1;
                tokio::time::sleep(BIND_EVERY).await;
            }
            result => return result,
        }
    }
}

/// A socket that has the address.
pub(crate) fn socket(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Pending for ever when the gate is gone: then only `stop` is left.
async fn until_refusing(gate: &mut watch::Receiver<Gate>) {
    if gate.wait_for(|gate| *gate != Gate::Open).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn until_open(set: &watch::Sender<Gate>, gate: &mut watch::Receiver<Gate>) {
    loop {
        let now = *gate.borrow_and_update();
        match now {
            Gate::Open => return,
            Gate::Refusing(None) => {
                if gate.changed().await.is_err() {
                    return;
                }
            }
            Gate::Refusing(Some(until)) => tokio::select! {
                changed = gate.changed() => if changed.is_err() { return },
                () = tokio::time::sleep_until(until.into()) => {
                    set.send_if_modified(|gate| {
                        let over = *gate == now;
                        if over { *gate = Gate::Open; }
                        over
                    });
                }
            },
        }
    }
}

async fn serve_connection(stream: TcpStream, shared: Arc<Shared>, closed: CancellationToken) {
    let _ = stream.set_nodelay(true);
    let reset = Arc::new(AtomicBool::new(false));
    let io = Io {
        stream,
        reset: Arc::clone(&reset),
    };
    let service = service_fn(|request| answer(request, Arc::clone(&shared), Arc::clone(&reset)));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        // The wall clock has no place in the answers.
        .auto_date_header(false)
        .serve_connection(TokioIo::new(io), service);
    tokio::select! {
        _ = connection => {}
        () = closed.cancelled() => {}
    }
}

/// Counts a request as in flight while it lives.
pub(crate) struct InFlight(Arc<Shared>);

impl InFlight {
    fn new(shared: Arc<Shared>) -> Self {
        {
            let counters = &mut shared.vendor().counters;
            counters.in_flight += 1;
            counters.peak_concurrency = counters.peak_concurrency.max(counters.in_flight);
        }
        Self(shared)
    }

    /// The whole answer went to the transport.
    pub(crate) fn note_answered(&self, operation: Option<Operation>) {
        self.0.vendor().note_answered(operation);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let counters = &mut self.0.vendor().counters;
        counters.in_flight = counters.in_flight.saturating_sub(1);
    }
}

/// An `Err` makes hyper drop the connection.
async fn answer(
    request: http::Request<Incoming>,
    shared: Arc<Shared>,
    reset: Arc<AtomicBool>,
) -> io::Result<http::Response<AnswerBody>> {
    let in_flight = InFlight::new(Arc::clone(&shared));
    let (head, body) = request.into_parts();
    let body = match Limited::new(body, REQUEST_BODY_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        // Too long or cut by the client; a body that is not JSON is refused and counted like any other.
        Err(_) => Bytes::from_static(b"!"),
    };
    let Plan {
        operation,
        delay,
        delivery,
    } = shared.vendor().handle(&Request {
        method: head.method.as_str(),
        path: head.uri.path(),
        query: head.uri.query().unwrap_or(""),
        api_key: head.headers.get("x-api-key").map(http::HeaderValue::as_bytes),
        body: &body,
    });
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    match delivery {
        Delivery::Full(answer) => {
            shared.vendor().note_answered(operation);
            let body = Full::new(answer.body.clone()).map_err(never).boxed_unsync();
            Ok(response(&answer, body))
        }
        Delivery::Slow(answer, byte_every) => {
            let body = slow_body(answer.body.clone(), byte_every, operation, in_flight);
            Ok(response(&answer, body))
        }
        Delivery::CutMidBody(answer) => Ok(response(&answer, half_body(&answer.body))),
        Delivery::Bulk(bulk) => Ok(bulk_response(bulk, operation, in_flight)),
        Delivery::Reset => {
            reset.store(true, Ordering::Relaxed);
            Err(io::ErrorKind::ConnectionReset.into())
        }
        Delivery::Never => std::future::pending().await,
    }
}

fn never(error: Infallible) -> io::Error {
    match error {}
}

fn response(answer: &Answer, body: AnswerBody) -> http::Response<AnswerBody> {
    let length = answer.body.len() as u64;
    respond(answer.status, &answer.headers, Some(length), body)
}

fn bulk_response(
    bulk: Bulk,
    operation: Option<Operation>,
    in_flight: InFlight,
) -> http::Response<AnswerBody> {
    let (status, headers) = (bulk.status, bulk.headers.clone());
    let length = bulk.announced.then(|| bulk.length());
    respond(status, &headers, length, bulk_body(bulk, operation, in_flight))
}

/// Without a length the body goes in chunks.
fn respond(
    status: u16,
    headers: &[(&'static str, String)],
    length: Option<u64>,
    body: AnswerBody,
) -> http::Response<AnswerBody> {
    let mut response = http::Response::builder().status(status);
    if let Some(length) = length {
        response = response.header("content-length", length);
    }
    for (name, value) in headers {
        response = response.header(*name, value);
    }
    response
        .body(body)
        .expect("status and headers were checked when the rule was added")
}

/// A connection that ends with a TCP reset when told so.
struct Io {
    stream: TcpStream,
    reset: Arc<AtomicBool>,
}

impl Drop for Io {
    fn drop(&mut self) {
        if self.reset.load(Ordering::Relaxed) {
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.reset.load(Ordering::Relaxed) {
            // No FIN before the reset.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
