//! report-job: one daily report, one delivery, then exit.

use std::process::ExitCode;

use fuse_platform::Process;
use report_job::{Args, Job, JobConfig};

fn main() -> ExitCode {
    let process: Process<Args> = Process::parse(
        "report-job",
        "Makes and mails the daily report, catches up on missed days, then exits.",
        JobConfig::read,
    );
    let args = process.args.clone();
    // The answer of a dry run is what it prints; of a real run, its log.
    if args.dry_run {
        process.run_command(JobConfig::read, |context, config| async move {
            Job::new(&context, config)?.dry_run(&args).await
        })
    } else {
        process.run(JobConfig::read, |context, config| async move {
            Job::new(&context, config)?.run(&args).await
        })
    }
}
