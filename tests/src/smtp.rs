//! A mail server that keeps what it gets: EHLO, MAIL, RCPT, DATA, RSET, NOOP, QUIT; no TLS, no AUTH. It can refuse, defer, hang and be away.

mod web;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::ports::{Port, bound, bound_again};
use crate::{background, wait};

/// RFC 5321 wants at least 512 for commands and 1000 for lines of text.
const LINE_BYTES_MAX: u64 = 64 * 1024;
const MESSAGE_BYTES_MAX_DEFAULT: usize = 25 * 1024 * 1024;

/// How the server behaves, from the next command on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum SmtpMode {
    #[default]
    Accept,
    /// This answer to every `MAIL FROM`, such as `550 5.7.1 no` or `451 4.7.1 later`.
    RefuseMail(String),
    /// This answer to every `RCPT TO`.
    RefuseRecipient(String),
    /// The message is read whole, then answered with this.
    RefuseData(String),
    /// The message is read whole and kept, then the connection is cut without an answer.
    CutAfterData,
    /// Nothing is answered any more, not even a greeting.
    Hang,
}

/// One mail as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// From the envelope, without the angle brackets.
    pub from: String,
    pub recipients: Vec<String>,
    /// Headers and body with CRLF, dots unstuffed.
    pub raw: Vec<u8>,
}

impl Mail {
    /// The value of the first header of this name, decoded.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        let (headers, _) = mailparse::parse_headers(&self.raw).ok()?;
        headers
            .iter()
            .find(|header| header.get_key_ref().eq_ignore_ascii_case(name))
            .map(mailparse::MailHeader::get_value)
    }

    #[must_use]
    pub fn subject(&self) -> String {
        self.header("subject").unwrap_or_default()
    }

    /// The decoded body of the first part of this type, such as `text/html`, at any depth.
    ///
    /// # Errors
    /// When the mail is no valid MIME or has no such part.
    pub fn part(&self, mime_type: &str) -> Result<String> {
        let mail = mailparse::parse_mail(&self.raw).context("parse the mail")?;
        let part = mail
            .parts()
            .find(|part| part.ctype.mimetype == mime_type)
            .with_context(|| format!("the mail has no part {mime_type}"))?;
        part.get_body().context("decode the part")
    }

    #[must_use]
    pub fn raw_text(&self) -> String {
        String::from_utf8_lossy(&self.raw).into_owned()
    }
}

#[derive(Debug)]
struct Shared {
    mails: Mutex<Vec<Mail>>,
    mode: watch::Sender<SmtpMode>,
    /// False: connections are refused.
    open: watch::Sender<bool>,
    bytes_max: usize,
    /// Each mail also goes here, as `0001.eml`, `0002.eml`, ...
    dir: Option<PathBuf>,
    stop: CancellationToken,
}

/// Settings; `Default` is loopback on a free port, mails in memory only.
#[derive(Debug, Clone, Default)]
pub struct SmtpOptions {
    /// Addresses to listen on besides loopback.
    pub listen: Vec<IpAddr>,
    pub port: Option<u16>,
    /// Where to keep each mail as a file; created when absent.
    pub dir: Option<PathBuf>,
    /// Largest message in bytes; 0: 25 MiB.
    pub bytes_max: usize,
    /// Where to show the mails to people over HTTP.
    pub web: Option<SocketAddr>,
}

/// A running sink; dropping it closes its port.
#[derive(Debug)]
pub struct SmtpSink {
    shared: Arc<Shared>,
    port: Port,
    web: Option<SocketAddr>,
}

impl SmtpSink {
    /// # Errors
    /// When no port can be bound.
    pub fn start() -> Result<Self> {
        Self::start_with(SmtpOptions::default())
    }

    /// # Errors
    /// When a port cannot be bound or the directory not be made.
    pub fn start_with(options: SmtpOptions) -> Result<Self> {
        if let Some(dir) = &options.dir {
            std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        }
        let mut listen = vec![IpAddr::from([127, 0, 0, 1])];
        listen.extend(options.listen.iter().filter(|ip| !ip.is_loopback()));
        let port = match options.port {
            Some(number) => Port::fixed(number)?,
            None => Port::reserve_on(&listen)?,
        };
        let bytes_max = match options.bytes_max {
            0 => MESSAGE_BYTES_MAX_DEFAULT,
            bytes => bytes,
        };
        let shared = Arc::new(Shared {
            mails: Mutex::default(),
            mode: watch::Sender::new(SmtpMode::Accept),
            open: watch::Sender::new(true),
            bytes_max,
            dir: options.dir,
            stop: CancellationToken::new(),
        });
        for ip in listen {
            let address = SocketAddr::new(ip, port.number());
            let listener = {
                let _entered = background::runtime().enter();
                bound(address)
                    .and_then(|socket| socket.listen(128))
                    .with_context(|| format!("bind {address}"))?
            };
            background::runtime().spawn(serve(listener, address, Arc::clone(&shared)));
        }
        let web = options
            .web
            .map(|listen| web::start(listen, Arc::clone(&shared)))
            .transpose()?;
        Ok(Self { shared, port, web })
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.on_loopback()
    }

    /// `smtp://127.0.0.1:PORT`
    #[must_use]
    pub fn url(&self) -> String {
        format!("smtp://{}", self.address())
    }

    /// The same through another address that it listens on.
    #[must_use]
    pub fn url_at(&self, ip: IpAddr) -> String {
        format!("smtp://{}", SocketAddr::new(ip, self.port.number()))
    }

    /// The page that lists the mails, when one was asked for.
    #[must_use]
    pub fn web_url(&self) -> Option<String> {
        self.web.map(|address| format!("http://{address}/"))
    }

    /// All mails so far, in order of arrival.
    #[must_use]
    pub fn messages(&self) -> Vec<Mail> {
        self.shared.mails().clone()
    }

    pub fn clear(&self) {
        self.shared.mails().clear();
    }

    /// Blocks until at least `count` mails are there.
    ///
    /// # Errors
    /// When `deadline` has passed.
    pub fn wait_for(&self, count: usize, deadline: Duration) -> Result<Vec<Mail>> {
        wait::until(&format!("{count} mails"), deadline, || {
            let mails = self.messages();
            (mails.len() >= count).then_some(mails)
        })
    }

    pub fn set_mode(&self, mode: SmtpMode) {
        self.shared.mode.send_replace(mode);
    }

    /// Refuses connections and cuts those that are open; the mails stay.
    ///
    /// # Errors
    /// When the port does not close within 5 s.
    pub fn stop(&self) -> Result<()> {
        self.set_open(false)
    }

    /// Listens again on the same port.
    ///
    /// # Errors
    /// When the port does not open within 5 s.
    pub fn restart(&self) -> Result<()> {
        self.set_open(true)
    }

    fn set_open(&self, open: bool) -> Result<()> {
        self.shared.open.send_replace(open);
        wait::until("the mail port to follow", Duration::from_secs(5), || {
            (wait::accepts(self.address()) == open).then_some(())
        })
    }
}

impl Drop for SmtpSink {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

impl Shared {
    fn mails(&self) -> MutexGuard<'_, Vec<Mail>> {
        self.mails.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, mail: Mail) -> std::io::Result<()> {
        let mut mails = self.mails();
        mails.push(mail);
        if let (Some(dir), Some(mail)) = (&self.dir, mails.last()) {
            // Numbers go on where an earlier run ended.
            let number = (1..)
                .find(|n| !dir.join(format!("{n:04}.eml")).exists())
                .unwrap_or(usize::MAX);
            std::fs::write(dir.join(format!("{number:04}.eml")), &mail.raw)?;
        }
        Ok(())
    }
}

async fn serve(first: TcpListener, address: SocketAddr, shared: Arc<Shared>) {
    let stop = shared.stop.clone();
    tokio::select! {
        () = stop.cancelled() => {}
        result = accept_in_turns(first, address, &shared) => {
            if let Err(error) = result {
                tracing::error!(%error, %address, "the mail sink lost its port");
            }
        }
    }
}

async fn accept_in_turns(
    first: TcpListener,
    address: SocketAddr,
    shared: &Arc<Shared>,
) -> std::io::Result<()> {
    let mut open = shared.open.subscribe();
    let mut listener = first;
    loop {
        let connections = shared.stop.child_token();
        loop {
            tokio::select! {
                _ = async { open.wait_for(|open| !*open).await.is_ok() } => break,
                accepted = listener.accept() => {
                    let Ok((stream, _)) = accepted else { continue };
                    let (shared, cut) = (Arc::clone(shared), connections.clone());
                    tokio::spawn(async move {
                        tokio::select! {
                            // A client that breaks off is no matter of ours.
                            _ = converse(stream, &shared) => {}
                            () = cut.cancelled() => {}
                        }
                    });
                }
            }
        }
        drop(listener);
        connections.cancel();
        // Bound but not listening: refused, and nobody else can take the port.
        let parked = bound_again(address).await?;
        if open.wait_for(|open| *open).await.is_err() {
            return Ok(());
        }
        listener = parked.listen(128)?;
    }
}

#[derive(Default)]
struct Envelope {
    from: Option<String>,
    recipients: Vec<String>,
}

async fn converse(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::new(reader);
    let mut envelope = Envelope::default();
    unless_hanging(shared).await;
    writer.write_all(b"220 sink.invalid ESMTP\r\n").await?;
    while let Some(line) = read_line(&mut reader).await? {
        unless_hanging(shared).await;
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        let verb = line.get(..4).unwrap_or(&line).to_ascii_uppercase();
        if verb == "DATA" && !envelope.recipients.is_empty() {
            writer.write_all(b"354 go on\r\n").await?;
            let Some(raw) = read_message(&mut reader, shared.bytes_max).await? else {
                writer.write_all(b"552 5.3.4 message too big\r\n").await?;
                envelope = Envelope::default();
                continue;
            };
            unless_hanging(shared).await;
            match take(shared, std::mem::take(&mut envelope), raw)? {
                Some(answer) => writer.write_all(answer.as_bytes()).await?,
                None => return Ok(()),
            }
            continue;
        }
        let answer = answer_to(&verb, &line, &mut envelope, shared);
        writer.write_all(format!("{answer}\r\n").as_bytes()).await?;
        if verb == "QUIT" {
            return Ok(());
        }
    }
    Ok(())
}

/// Returns at once, unless the mode is `Hang`; then when it no longer is.
async fn unless_hanging(shared: &Shared) {
    let mut mode = shared.mode.subscribe();
    if mode.wait_for(|mode| *mode != SmtpMode::Hang).await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn answer_to(verb: &str, line: &str, envelope: &mut Envelope, shared: &Shared) -> String {
    let mode = shared.mode.borrow().clone();
    match verb {
        "EHLO" => format!(
            "250-sink.invalid\r\n250-SIZE {}\r\n250-8BITMIME\r\n250 SMTPUTF8",
            shared.bytes_max
        ),
        "HELO" | "NOOP" => "250 2.0.0 ok".to_owned(),
        "MAIL" => match (mode, address_in(line)) {
            (SmtpMode::RefuseMail(answer), _) => answer,
            (_, Some(from)) => {
                *envelope = Envelope {
                    from: Some(from),
                    recipients: Vec::new(),
                };
                "250 2.1.0 ok".to_owned()
            }
            (_, None) => "501 5.5.4 no address".to_owned(),
        },
        "RCPT" => match (mode, address_in(line)) {
            _ if envelope.from.is_none() => "503 5.5.1 MAIL first".to_owned(),
            (SmtpMode::RefuseRecipient(answer), _) => answer,
            (_, Some(to)) if !to.is_empty() => {
                envelope.recipients.push(to);
                "250 2.1.5 ok".to_owned()
            }
            _ => "501 5.5.4 no address".to_owned(),
        },
        "DATA" => "503 5.5.1 MAIL and RCPT first".to_owned(),
        "RSET" => {
            *envelope = Envelope::default();
            "250 2.0.0 ok".to_owned()
        }
        "QUIT" => "221 2.0.0 bye".to_owned(),
        _ => "502 5.5.1 unknown command".to_owned(),
    }
}

/// Keeps a message or not; `None` cuts the connection.
fn take(shared: &Shared, envelope: Envelope, raw: Vec<u8>) -> std::io::Result<Option<String>> {
    let mode = shared.mode.borrow().clone();
    if let SmtpMode::RefuseData(answer) = mode {
        return Ok(Some(format!("{answer}\r\n")));
    }
    shared.keep(Mail {
        from: envelope.from.unwrap_or_default(),
        recipients: envelope.recipients,
        raw,
    })?;
    Ok((mode != SmtpMode::CutAfterData).then(|| "250 2.0.0 kept\r\n".to_owned()))
}

/// What stands between `<` and `>`.
fn address_in(line: &str) -> Option<String> {
    let (_, rest) = line.split_once('<')?;
    let (address, _) = rest.split_once('>')?;
    Some(address.to_owned())
}

/// One line with its end; `None` at the end of the connection.
async fn read_line(reader: &mut (impl AsyncBufReadExt + Unpin)) -> std::io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    reader.take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await?;
    Ok(line.ends_with(b"\n").then_some(line))
}

/// Up to the single dot; `None` when it was too big (but read to its end).
async fn read_message(
    reader: &mut (impl AsyncBufReadExt + Unpin),
    bytes_max: usize,
) -> std::io::Result<Option<Vec<u8>>> {
    let mut message = Vec::new();
    let mut too_big = false;
    loop {
        let Some(line) = read_line(reader).await? else {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        };
        if line == b".\r\n" || line == b".\n" {
            return Ok((!too_big).then_some(message));
        }
        let text = line.strip_prefix(b".").unwrap_or(&line);
        too_big = too_big || message.len() + text.len() > bytes_max;
        if !too_big {
            message.extend_from_slice(text);
        }
    }
}
