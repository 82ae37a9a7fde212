//! A vendor made of bare sockets, so that every way in which a connection can go wrong is exact; and clients for it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use fuse_domain::BreakerPolicy;
use fuse_market::VendorClient;
use fuse_platform::Metrics;
use fuse_platform::config::{ConfigValue, HttpUrl, Secret, VendorConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

pub const KEY: &str = "a-key-of-the-tests";

/// What the vendor does with one request.
#[derive(Debug, Clone)]
pub enum Act {
    /// Writes these bytes and keeps the connection open.
    Raw(String),
    /// Writes these bytes and closes.
    RawThenClose(String),
    /// TCP reset, after the request was read.
    Reset,
    /// Never answers; the connection stays open.
    Hang,
    /// Writes the head, then one byte at a time, far slower than any deadline.
    Drip(String),
}

impl Act {
    /// Whether only a deadline of the client ends it.
    pub fn is_endless(&self) -> bool {
        matches!(self, Self::Hang | Self::Drip(_))
    }

    pub fn answer(status: u16, body: &str) -> Self {
        Self::with_header(status, "", body)
    }

    /// `header` with its line end, or nothing.
    pub fn with_header(status: u16, header: &str, body: &str) -> Self {
        let length = body.len();
        Self::Raw(format!(
            "HTTP/1.1 {status} Status\r\n{header}content-length: {length}\r\n\r\n{body}"
        ))
    }
}

/// A running vendor. Request n meets act n; the last act repeats.
pub struct RawVendor {
    pub address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    requests: Vec<String>,
    connections: usize,
}

impl RawVendor {
    pub async fn start(acts: Vec<Act>) -> Result<Self> {
        Ok(Self::serve(TcpListener::bind("127.0.0.1:0").await?, acts)?)
    }

    pub fn serve(listener: TcpListener, acts: Vec<Act>) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        let seen = Arc::new(Mutex::new(Seen::default()));
        let shared = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                locked(&shared).connections += 1;
                tokio::spawn(converse(stream, acts.clone(), Arc::clone(&shared)));
            }
        });
        Ok(Self { address, seen })
    }

    /// Heads and bodies of all requests so far.
    pub fn requests(&self) -> Vec<String> {
        locked(&self.seen).requests.clone()
    }

    pub fn connections(&self) -> usize {
        locked(&self.seen).connections
    }

    pub fn client(&self) -> Result<Client> {
        Client::of(self.address)
    }

    /// A client for this act: patient, unless patience would not help.
    pub fn client_for(&self, act: &Act) -> Result<Client> {
        if act.is_endless() {
            Client::impatient(self.address)
        } else {
            self.client()
        }
    }
}

fn locked(seen: &Mutex<Seen>) -> std::sync::MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn converse(mut stream: TcpStream, acts: Vec<Act>, seen: Arc<Mutex<Seen>>) -> std::io::Result<()> {
    while let Some(request) = read_request(&mut stream).await? {
        let number = {
            let mut seen = locked(&seen);
            seen.requests.push(request);
            seen.requests.len()
        };
        match &acts[(number - 1).min(acts.len() - 1)] {
            Act::Raw(bytes) => stream.write_all(bytes.as_bytes()).await?,
            Act::RawThenClose(bytes) => {
                stream.write_all(bytes.as_bytes()).await?;
                return stream.shutdown().await;
            }
            Act::Reset => return stream.set_zero_linger(),
            Act::Hang => std::future::pending().await,
            Act::Drip(bytes) => {
                for byte in bytes.bytes() {
                    stream.write_all(&[byte]).await?;
                    tokio::time::sleep(Duration::from_millis(40)).await;
                }
            }
        }
    }
    Ok(())
}

async fn read_request(stream: &mut TcpStream) -> std::io::Result<Option<String>> {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Ok(None);
        }
        text.push_str(&String::from_utf8_lossy(&buffer[..read]));
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .and_then(|length| length.parse().ok())
            .unwrap_or(0);
        if body.len() >= length {
            return Ok(Some(text));
        }
    }
}

/// A vendor client with its metrics.
pub struct Client {
    pub vendor: VendorClient,
    pub metrics: Metrics,
}

impl Client {
    pub fn of(address: SocketAddr) -> Result<Self> {
        Self::of_url(&format!("http://{address}"), KEY)
    }

    pub fn of_url(url: &str, key: &str) -> Result<Self> {
        Self::new(&config(url, key)?)
    }

    /// Short deadlines for answers: a test waits for each at most once.
    pub fn impatient(address: SocketAddr) -> Result<Self> {
        Self::impatient_of_url(&format!("http://{address}"), KEY)
    }

    pub fn impatient_of_url(url: &str, key: &str) -> Result<Self> {
        let config = VendorConfig {
            page_timeout: Duration::from_millis(600),
            buy_timeout: Duration::from_millis(1_500),
            ..config(url, key)?
        };
        Self::new(&config)
    }

    /// Its breakers, once open, stay open for longer than a test takes.
    pub fn with_lasting_breakers(address: SocketAddr) -> Result<Self> {
        let policy = BreakerPolicy {
            open_for_min: BreakerPolicy::default().open_for_max,
            ..BreakerPolicy::default()
        };
        let config = config(&format!("http://{address}"), KEY)?;
        let metrics = Metrics::new();
        Ok(Self {
            vendor: VendorClient::with_breakers(&config, &metrics, policy)?,
            metrics,
        })
    }

    fn new(config: &VendorConfig) -> Result<Self> {
        let metrics = Metrics::new();
        Ok(Self {
            vendor: VendorClient::new(config, &metrics)?,
            metrics,
        })
    }

    /// One sample of the metrics, such as `vendor_retries_total{op="buy"}`.
    pub fn metric(&self, sample: &str) -> Option<String> {
        let text = String::from_utf8(self.metrics.encode()).expect("metrics are text");
        let wanted = format!("fuse_{sample} ");
        text.lines()
            .find_map(|line| line.strip_prefix(&wanted))
            .map(str::to_owned)
    }
}

/// Patient: what answers at all does so within these deadlines, also on a busy machine.
fn config(url: &str, key: &str) -> Result<VendorConfig> {
    Ok(VendorConfig {
        base_url: HttpUrl::from_text(url).map_err(anyhow::Error::msg)?,
        api_key: Secret::from_text(key),
        connect_timeout: Duration::from_secs(2),
        page_timeout: Duration::from_secs(10),
        buy_timeout: Duration::from_secs(10),
        crawl_timeout: Duration::from_secs(10),
        pool_idle_timeout: Duration::from_secs(4),
    })
}

/// An address that refuses connections, and the socket that keeps it so: bound but not listening, so that nobody else can
/// take the port.
pub fn refusing() -> Result<(TcpSocket, SocketAddr)> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(([127, 0, 0, 1], 0).into())?;
    let address = socket.local_addr()?;
    Ok((socket, address))
}
