//! One keep-alive HTTP/1.1 connection of the load generator: a request is bytes made once (or, where each must differ, made
//! anew), an answer is read with as little work as can be, because what the generator spends is missing to the server beside it.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// An answer that takes longer counts as failed.
const ANSWER_DEADLINE: Duration = Duration::from_secs(60);
/// Largest answer that is read; larger ones are not what is measured.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
const BUFFER_BYTES: usize = 64 * 1024;

/// Writes one whole request, head and body, behind what the buffer holds. Runs on the generator's thread, so it must be quick.
pub type Make = Arc<dyn Fn(&mut Vec<u8>) + Send + Sync>;

/// A server and what is asked of it, again and again.
#[derive(Debug, Clone)]
pub struct Target {
    pub(super) address: SocketAddr,
    content: Content,
}

#[derive(Clone)]
enum Content {
    Same(Vec<u8>),
    Made(Make),
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Same(request) => write!(f, "{} bytes", request.len()),
            Self::Made(_) => f.write_str("made for each"),
        }
    }
}

impl Target {
    /// GET of `path` (with its query) from the server at `base_url`, such as `http://127.0.0.1:8080`, with these headers.
    ///
    /// # Errors
    /// When the URL is not `http://address:port`.
    pub fn get(base_url: &str, path: &str, headers: &[(&str, &str)]) -> Result<Self> {
        let address = address_of(base_url)?;
        let authority = address.to_string();
        let mut request = format!("GET {path} HTTP/1.1\r\nhost: {authority}\r\n");
        for (name, value) in headers {
            if [name, value].iter().any(|text| text.contains(['\r', '\n'])) {
                bail!("a line break in the header {name}");
            }
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        Ok(Self {
            address,
            content: Content::Same(request.into_bytes()),
        })
    }

    /// Requests that differ, such as orders under keys of their own, to the server at `base_url`.
    ///
    /// # Errors
    /// When the URL is not `http://address:port`.
    pub fn made(base_url: &str, make: Make) -> Result<Self> {
        Ok(Self {
            address: address_of(base_url)?,
            content: Content::Made(make),
        })
    }

    /// The next request; `buffer` is used where it has to be made.
    pub(super) fn next<'r>(&'r self, buffer: &'r mut Vec<u8>) -> &'r [u8] {
        match &self.content {
            Content::Same(request) => request,
            Content::Made(make) => {
                buffer.clear();
                make(buffer);
                buffer
            }
        }
    }
}

fn address_of(base_url: &str) -> Result<SocketAddr> {
    let authority = base_url
        .strip_prefix("http://")
        .with_context(|| format!("{base_url} does not begin with http://"))?;
    authority
        .parse()
        .with_context(|| format!("{authority} is no address with a port"))
}

/// An answer as it was read; lives until the next one on its connection.
#[derive(Debug, Clone, Copy)]
pub struct Reply<'a> {
    /// Status of the answer.
    pub status: u16,
    /// Status line and headers.
    pub head: &'a str,
    /// The body, still compressed when it came so.
    pub body: &'a [u8],
    /// Time since the request was sent.
    pub waited: Duration,
}

impl Reply<'_> {
    /// The value of the first header of this name, in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        header(self.head, name)
    }
}

fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.split("\r\n").skip(1).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// A connection that is made when it is needed and made again when it was closed.
pub(super) struct Connection {
    address: SocketAddr,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
}

impl Connection {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            stream: None,
            buffer: vec![0; BUFFER_BYTES],
        }
    }

    pub(super) async fn connect(&mut self) -> io::Result<()> {
        if self.stream.is_none() {
            let stream = TcpStream::connect(self.address).await?;
            stream.set_nodelay(true)?;
            self.stream = Some(stream);
        }
        Ok(())
    }

    /// Sends the request and reads the whole answer. After an error the next call connects anew.
    pub(super) async fn exchange(&mut self, request: &[u8]) -> io::Result<Reply<'_>> {
        let sent = Instant::now();
        let done = match tokio::time::timeout(ANSWER_DEADLINE, self.attempt(request)).await {
            Ok(done) => done,
            Err(_elapsed) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")),
        };
        let (status, head, end) = done.inspect_err(|_| self.stream = None)?;
        let text = std::str::from_utf8(&self.buffer[..head]).map_err(io::Error::other)?;
        if header(text, "connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            self.stream = None;
        }
        Ok(Reply {
            status,
            head: text,
            body: &self.buffer[head + 4..end],
            waited: sent.elapsed(),
        })
    }

    /// Status, end of the head (without its empty line), end of the body.
    async fn attempt(&mut self, request: &[u8]) -> io::Result<(u16, usize, usize)> {
        self.connect().await?;
        let stream = self.stream.as_mut().expect("connected above");
        stream.write_all(request).await?;
        let mut filled = 0;
        let (status, head, end) = loop {
            if filled == self.buffer.len() {
                return Err(io::Error::other("a head larger than the buffer"));
            }
            filled += read_some(stream, &mut self.buffer[filled..]).await?;
            if let Some(parsed) = parse(&self.buffer[..filled])? {
                break parsed;
            }
        };
        if end > ANSWER_BYTES_MAX {
            return Err(io::Error::other("an answer that is too large"));
        }
        if end > self.buffer.len() {
            self.buffer.resize(end, 0);
        }
        while filled < end {
            filled += read_some(stream, &mut self.buffer[filled..end]).await?;
        }
        if filled > end {
            return Err(io::Error::other("more bytes than content-length says"));
        }
        Ok((status, head, end))
    }
}

async fn read_some(stream: &mut TcpStream, into: &mut [u8]) -> io::Result<usize> {
    match stream.read(into).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        count => Ok(count),
    }
}

/// Status, end of the head and end of the body; `None` while the head is not complete.
fn parse(bytes: &[u8]) -> io::Result<Option<(u16, usize, usize)>> {
    let Some(head) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&bytes[..head]).map_err(io::Error::other)?;
    let status: u16 = text
        .get(9..12)
        .and_then(|status| status.parse().ok())
        .ok_or_else(|| io::Error::other("no status line"))?;
    let length = match header(text, "content-length") {
        Some(length) => length.parse().map_err(io::Error::other)?,
        None if status == 204 || status == 304 => 0,
        None => return Err(io::Error::other("an answer without content-length")),
    };
    Ok(Some((status, head, head + 4 + length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_where_its_length_says() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nx: y\r\n\r\n{}";
        let head = whole.len() - 6;
        for cut in 0..head + 4 {
            assert_eq!(parse(&whole[..cut]).expect("no error"), None, "{cut}");
        }
        assert_eq!(parse(whole).expect("no error"), Some((200, head, whole.len())));
        let not_modified = b"HTTP/1.1 304 Not Modified\r\netag: \"a\"\r\n\r\n";
        assert_eq!(
            parse(not_modified).expect("no error"),
            Some((304, not_modified.len() - 4, not_modified.len()))
        );
        assert!(parse(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
    }

    #[test]
    fn a_request_has_no_smuggled_line() {
        assert!(Target::get("http://127.0.0.1:1", "/", &[("a", "b\r\nc: d")]).is_err());
        let target = Target::get("http://127.0.0.1:1", "/v1?a=b", &[("x", "y")]).expect("a target");
        assert_eq!(
            std::str::from_utf8(target.next(&mut Vec::new())).expect("text"),
            "GET /v1?a=b HTTP/1.1\r\nhost: 127.0.0.1:1\r\nx: y\r\n\r\n"
        );
    }

    #[test]
    fn requests_that_are_made_differ() {
        let count = std::sync::atomic::AtomicU8::new(b'0');
        let make: Make = Arc::new(move |buffer| {
            buffer.push(count.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        });
        let target = Target::made("http://127.0.0.1:1", make).expect("a target");
        let mut buffer = Vec::new();
        assert_eq!(target.next(&mut buffer), b"0");
        assert_eq!(target.next(&mut buffer), b"1");
    }
}
