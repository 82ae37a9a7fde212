//! A real Redis, without persistence.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use crate::ports::Port;
use crate::proc::{self, Proc};
use crate::rundir;

const START_DEADLINE: Duration = Duration::from_secs(20);

/// A Redis instance; dropping it stops it.
#[derive(Debug)]
pub struct Redis {
    port: Port,
    listen: Vec<IpAddr>,
    proc: Option<Proc>,
}

impl Redis {
    /// # Errors
    /// When Redis is not installed (the message names the package) or does not start.
    pub fn start() -> Result<Self> {
        Self::start_on(&[])
    }

    /// Listens on these addresses besides loopback. It has no password: give only addresses that nobody else reaches.
    ///
    /// # Errors
    /// As [`Redis::start`].
    pub fn start_on(addresses: &[IpAddr]) -> Result<Self> {
        let mut listen = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
        listen.extend(addresses.iter().filter(|ip| !ip.is_loopback()));
        let mut redis = Self {
            port: Port::reserve_on(&listen)?,
            listen,
            proc: None,
        };
        redis.restart()?;
        Ok(redis)
    }

    /// Process id; 0 while it is stopped.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.proc.as_ref().map_or(0, Proc::pid)
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.on_loopback()
    }

    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}/", self.address())
    }

    /// The same through another address that it listens on.
    #[must_use]
    pub fn url_at(&self, ip: IpAddr) -> String {
        format!("redis://{}/", SocketAddr::new(ip, self.port.number()))
    }

    /// Stops it; what it held is gone.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(&mut self) -> Result<()> {
        self.resume()?;
        if let Some(proc) = self.proc.take() {
            proc.terminate(Duration::from_secs(5))?;
        }
        Ok(())
    }

    /// Starts it again, empty, on the same port; nothing to do when it runs.
    ///
    /// # Errors
    /// When it does not start.
    pub fn restart(&mut self) -> Result<()> {
        if self.proc.is_some() {
            return self.resume();
        }
        let program = proc::find_program("redis-server", "redis-server", &[])?;
        let proc = Proc::build("redis", program)
            .args(["--port", &self.port.number().to_string(), "--bind"])
            .args(self.listen.iter().map(ToString::to_string))
            .args(["--protected-mode", "no"])
            .args(["--save", "", "--appendonly", "no", "--dir"])
            .arg(rundir::path()?)
            .start()?;
        proc.wait_for_line("ready", START_DEADLINE, |line| {
            line.contains("Ready to accept connections").then_some(())
        })?;
        self.proc = Some(proc);
        Ok(())
    }

    /// SIGSTOP: connections open and hang.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pause(&mut self) -> Result<()> {
        let proc = self.proc.as_ref().context("Redis is stopped")?;
        proc.signal(Signal::SIGSTOP)
    }

    /// Undoes [`Redis::pause`].
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn resume(&mut self) -> Result<()> {
        match &self.proc {
            Some(proc) => proc.signal(Signal::SIGCONT),
            None => Ok(()),
        }
    }

    /// Sends one command and returns the raw answer: its first line, and the bulk string behind it if there is one.
    ///
    /// # Errors
    /// When there is no answer within 5 s, or it is an error.
    pub fn command(&self, parts: &[&str]) -> Result<String> {
        let deadline = Duration::from_secs(5);
        let mut stream = TcpStream::connect_timeout(&self.address(), deadline)?;
        stream.set_read_timeout(Some(deadline))?;
        let mut request = format!("*{}\r\n", parts.len());
        for part in parts {
            request.push_str(&format!("${}\r\n{part}\r\n", part.len()));
        }
        stream.write_all(request.as_bytes())?;
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim_end().to_owned();
        if line.starts_with('-') {
            bail!("Redis answered {line}");
        }
        let Some(length) = line.strip_prefix('$').and_then(|n| n.parse::<usize>().ok()) else {
            return Ok(line);
        };
        let mut bulk = vec![0; length];
        reader.read_exact(&mut bulk)?;
        Ok(String::from_utf8_lossy(&bulk).into_owned())
    }
}
