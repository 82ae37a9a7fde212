//! Crawls the vendor into DynamoDB, once per tick.

use std::process::ExitCode;

use cache_refresher::Settings;
use fuse_platform::Process;

#[derive(Debug, clap::Args)]
struct Arguments {
    /// One pass, then exit: 0 when a complete crawl is current afterwards, 1 when not
    #[arg(long)]
    once: bool,
}

fn main() -> ExitCode {
    let about = "Keeps DynamoDB warm with the vendor's prices, one complete crawl at a time";
    let process = Process::<Arguments>::parse("cache-refresher", about, Settings::read);
    let once = process.args.once;
    process.run(Settings::read, async move |context, settings| {
        if once {
            cache_refresher::run_once(&context, settings).await
        } else {
            cache_refresher::run(&context, settings).await
        }
    })
}
