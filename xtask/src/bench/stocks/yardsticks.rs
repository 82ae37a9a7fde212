//! The servers beside ours: a bare hyper server from this very binary, and, where Node and its packages are there, express
//! and fastify. Each is a process of its own that answers the same bytes with the same headers.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use fuse_harness::load::{Pace, Plan, Target, Until};
use fuse_harness::packages::find_on_path;
use fuse_harness::proc::{self, Proc};
use fuse_harness::{load, rundir, tools};

use crate::bare::Answer;
use crate::shell;

const START_DEADLINE: Duration = Duration::from_secs(20);
const INSTALL_DEADLINE: Duration = Duration::from_secs(180);
/// What a server makes itself, or makes anew for each answer.
const MADE_BY_THE_SERVER: [&str; 4] = ["date", "content-length", "connection", "transfer-encoding"];
const NODE_FILES: [(&str, &str); 4] = [
    ("package.json", include_str!("../../../yardsticks/package.json")),
    (
        "package-lock.json",
        include_str!("../../../yardsticks/package-lock.json"),
    ),
    ("express.js", include_str!("../../../yardsticks/express.js")),
    ("fastify.js", include_str!("../../../yardsticks/fastify.js")),
];

/// A server to measure.
pub struct Server {
    pub name: &'static str,
    pub pid: u32,
    pub target: Target,
    /// The ratio of our answers a second to its own that was promised.
    pub goal: f64,
    _process: Proc,
}

/// Everything that can be started here; what cannot is said in one sentence.
pub fn start(answer: &Answer, path: &str, headers: &[(&str, &str)]) -> Result<Vec<Server>> {
    let file = rundir::unique_path("answer", "json")?;
    std::fs::write(&file, serde_json::to_string(answer)?)?;
    let start = |name, goal, program: PathBuf, args: &[&Path]| -> Result<Server> {
        let process = Proc::build(name, program)
            .args(args.iter().map(|arg| arg.as_os_str()))
            .env("NODE_ENV", "production")
            .start()?;
        let address = process.wait_for_line("its address", START_DEADLINE, |line| {
            line.strip_prefix("listening ").map(str::to_owned)
        })?;
        let target = Target::get(&format!("http://{address}"), path, headers)?;
        same_body(name, &target, answer)?;
        Ok(Server {
            name,
            pid: process.pid(),
            target,
            goal,
            _process: process,
        })
    };
    let this = std::env::current_exe().context("find our own binary")?;
    let bare = ["bare-server", "--answer"].map(Path::new);
    let mut servers = vec![start("bare hyper", 0.70, this, &[bare[0], bare[1], &file])?];
    match node() {
        Ok((node, dir)) => {
            for (name, script, goal) in [("express", "express.js", 4.0), ("fastify", "fastify.js", 1.4)] {
                let script = dir.join(script);
                servers.push(start(name, goal, node.clone(), &[&script, &file])?);
            }
        }
        Err(why) => println!("express and fastify are left out: {why:#}"),
    }
    Ok(servers)
}

/// The headers and body of an answer, as a yardstick gives them.
pub fn answer_of(head: &str, body: &[u8]) -> Result<Answer> {
    let headers = head
        .split("\r\n")
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .filter(|(name, _)| !MADE_BY_THE_SERVER.contains(&name.as_str()))
        .collect();
    Ok(Answer {
        headers,
        body: String::from_utf8(body.to_vec()).context("a body that is not text")?,
    })
}

/// A yardstick that answers something else would measure something else.
fn same_body(name: &str, target: &Target, answer: &Answer) -> Result<()> {
    let expected = (answer.body.clone(), answer.headers.clone());
    let one = Plan {
        connections: 1,
        pace: Pace::FlatOut,
        until: Until::Requests(1),
        inspect: Some(std::sync::Arc::new(move |reply| {
            if reply.body != expected.0.as_bytes() {
                return Err("another body".to_owned());
            }
            let missing = expected
                .1
                .iter()
                .find(|(name, value)| reply.header(name) != Some(value.as_str()));
            missing.map_or(Ok(()), |(name, value)| Err(format!("no header {name}: {value}")))
        })),
    };
    load::run(std::slice::from_ref(target), &one)?
        .all_good()
        .with_context(|| format!("{name} does not answer as ours"))
}

/// Node, and the folder in the tool cache that holds the packages in the versions of the lock file.
fn node() -> Result<(PathBuf, PathBuf)> {
    let node = find_on_path("node").context("`node` is not in PATH")?;
    let npm = find_on_path("npm").context("`npm` is not in PATH")?;
    let version = shell::output(Command::new(&node).arg("--version"))?;
    let dir = tools::cache_dir()?.join(format!("yardsticks-{:08x}", checksum()));
    let done = dir.join("installed");
    if !done.is_file() {
        println!("installing express and fastify into the tool cache (once)");
        install(&npm, &dir)?;
        std::fs::write(&done, "")?;
    }
    println!("yardsticks run on Node {}", version.trim());
    Ok((node, dir))
}

fn install(npm: &Path, dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir)?;
    for (name, text) in NODE_FILES {
        std::fs::write(dir.join(name), text)?;
    }
    let mut command = Command::new(npm);
    // The lock file's checksums decide; no package may run anything at installation.
    command
        .current_dir(dir)
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
    match proc::run(&mut command, INSTALL_DEADLINE) {
        Ok(_) => Ok(()),
        Err(error) => bail!("npm could not install them ({:.300})", format!("{error:#}")),
    }
}

/// Names the content of the folder, so that another version is another folder.
fn checksum() -> u32 {
    NODE_FILES
        .iter()
        .flat_map(|(_, text)| text.bytes())
        .fold(0x811c_9dc5, |hash, byte| {
            (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
        })
}
