//! The yardstick of `bench stocks`: hyper alone, answering every request with the same bytes. No router, no key, no log,
//! no metric: as fast as an answer of this size can be given on this machine with these libraries.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};

/// Threads as many as our own processes take.
const THREADS_MAX: usize = 4;

#[derive(clap::Args)]
pub struct Args {
    /// The answer, as JSON.
    #[arg(long)]
    answer: PathBuf,
}

/// What every request is answered with.
#[derive(Serialize, Deserialize)]
pub struct Answer {
    /// Names and values; not those that every server makes itself.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

/// Serves until it is killed; its first line says where.
pub fn run(args: &Args) -> Result<()> {
    let text = std::fs::read(&args.answer).with_context(|| format!("read {}", args.answer.display()))?;
    let answer: Answer = serde_json::from_slice(&text)?;
    let template = template(&answer)?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads.min(THREADS_MAX))
        .enable_all()
        .build()?
        .block_on(async {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            println!("listening {}", listener.local_addr()?);
            loop {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                tokio::spawn(serve(stream, template.clone()));
            }
        })
}

fn template(answer: &Answer) -> Result<Response<Full<Bytes>>> {
    let mut response = Response::builder();
    for (name, value) in &answer.headers {
        response = response.header(name, value);
    }
    Ok(response.body(Full::new(Bytes::from(answer.body.clone())))?)
}

async fn serve(stream: TcpStream, template: Response<Full<Bytes>>) {
    let answer = service_fn(|_: Request<hyper::body::Incoming>| {
        let response = template.clone();
        async move { Ok::<_, Infallible>(response) }
    });
    // Ends with its client; what went wrong shows there.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), answer)
        .await;
}
