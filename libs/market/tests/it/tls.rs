//! A vendor behind TLS with which no session comes about: no byte of an order has left, whatever ended the handshake.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use fuse_domain::{Outcome, Reason};
use fuse_harness::tls_server::UntrustedServer;
use fuse_harness::wait;
use fuse_market::{Buy, Reached};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::buy::buy;
use crate::fixture::{Client, KEY};

/// First byte of a TLS record that belongs to a handshake.
const HANDSHAKE: u8 = 22;

/// A peer that speaks no TLS.
struct Peer {
    address: SocketAddr,
    /// The first bytes of each connection.
    received: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Peer {
    /// It answers with this and closes, or never says anything.
    async fn start(answer: Option<&'static str>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let received = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&received);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, answer, Arc::clone(&shared)));
            }
        });
        Ok(Self { address, received })
    }

    fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// How many connections there were. Nothing but the beginning of a handshake may have come over any of them.
    fn handshakes(&self) -> usize {
        let received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(
            received.iter().all(|bytes| bytes.first() == Some(&HANDSHAKE)),
            "{received:?}"
        );
        received.len()
    }
}

async fn converse(
    mut stream: TcpStream,
    answer: Option<&'static str>,
    received: Arc<Mutex<Vec<Vec<u8>>>>,
) -> std::io::Result<()> {
    let mut bytes = vec![0; 4096];
    let read = stream.read(&mut bytes).await?;
    bytes.truncate(read);
    received
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(bytes);
    match answer {
        Some(text) => stream.write_all(text.as_bytes()).await,
        None => std::future::pending().await,
    }
}

/// Failed for the right reason after so many tries, none of which reached further than the handshake.
fn check(bought: &Buy, tries: usize, what: &str) {
    let failed = Outcome::Failed(Reason::VendorUnreachable);
    assert_eq!(bought.outcome, failed, "{what}: {bought:?}");
    let attempts: Vec<_> = bought
        .attempts
        .iter()
        .map(|attempt| (attempt.reached, attempt.detail.as_str()))
        .collect();
    assert_eq!(attempts, vec![(Reached::NotSent, "connect"); tries], "{what}");
}

#[tokio::test]
async fn a_peer_that_speaks_no_tls_is_provably_not_sent_and_tried_again() -> Result<()> {
    for answer in [
        "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n",
        "\u{16}\u{3}\u{3}\u{0}\u{4}none",
        "no protocol at all\n",
        "",
    ] {
        let peer = Peer::start(Some(answer)).await?;
        let client = Client::of_url(&peer.url(), KEY)?;
        check(&buy(&client).await?, 3, answer);
        assert_eq!(peer.handshakes(), 3, "{answer}");
        for (sample, value) in [
            (r#"vendor_requests_total{op="buy",outcome="unreachable"}"#, "3"),
            (r#"vendor_retries_total{op="buy"}"#, "2"),
            (r#"dependency_up{dependency="vendor"}"#, "0"),
        ] {
            assert_eq!(client.metric(sample).as_deref(), Some(value), "{sample}");
        }
    }
    Ok(())
}

/// The time for a connect covers the handshake. Were it the deadline of the whole call, nobody could tell what had been sent.
#[tokio::test]
async fn a_handshake_that_never_ends_is_provably_not_sent() -> Result<()> {
    let peer = Peer::start(None).await?;
    let client = Client::of_url(&peer.url(), KEY)?;
    check(&buy(&client).await?, 3, "no answer");
    assert_eq!(peer.handshakes(), 3);
    Ok(())
}

#[tokio::test]
async fn a_certificate_that_nobody_trusts_is_provably_not_sent() -> Result<()> {
    let server = UntrustedServer::start()?;
    let client = Client::of_url(&server.url(), KEY)?;
    check(&buy(&client).await?, 3, "an unknown authority");
    wait::until_async("the server to see why", Duration::from_secs(20), || async {
        (server.refusals() == 3).then_some(())
    })
    .await
}
