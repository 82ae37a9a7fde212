//! A TLS server whose certificate nobody trusts: what a service meets when somebody stands in for the vendor, or a root is missing.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::certs::{Authority, Subject};
use crate::proc::{Proc, find_program};
use crate::rundir;

const START_DEADLINE: Duration = Duration::from_secs(20);
/// What the server logs when a client does not know the authority.
const REFUSED: &str = "SSL3 alert read:fatal:unknown CA";

/// OpenSSL's own test server; stops with it. It would answer every request that got through with 200.
#[derive(Debug)]
pub struct UntrustedServer {
    proc: Proc,
    address: SocketAddr,
}

impl UntrustedServer {
    /// # Errors
    /// When OpenSSL is not installed (the message names the package) or does not start.
    pub fn start() -> Result<Self> {
        let authority = Authority::create(&rundir::unique_path("untrusted", "")?)?;
        // Right in everything but who signed it.
        let identity = authority.issue(
            "server",
            Subject {
                user: "vendor",
                addresses: &[Ipv4Addr::LOCALHOST.into()],
                ..Subject::default()
            },
        )?;
        let proc = Proc::build("openssl", find_program("openssl", "openssl", &[])?)
            .args(["s_server", "-www", "-state", "-accept", "127.0.0.1:0", "-cert"])
            .arg(&identity.cert)
            .arg("-key")
            .arg(&identity.key)
            .start()?;
        let address = proc.wait_for_line("its address", START_DEADLINE, |line| {
            Some(line.strip_prefix("ACCEPT ")?.to_owned())
        })?;
        let address = address.parse().context("the address it listens on")?;
        Ok(Self { proc, address })
    }

    /// Where it listens, as a base URL without a slash at its end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// How many clients have ended the handshake because of its certificate.
    #[must_use]
    pub fn refusals(&self) -> usize {
        self.proc.log().matches(REFUSED).count()
    }
}
