//! `cargo xtask down`: undoes `up`.

use anyhow::{Result, bail};
use fuse_harness::cluster::LocalCluster;
use fuse_harness::deployment::{NAMESPACE, OPERATOR_NAMESPACE};
use fuse_harness::existing::Existing;
use fuse_harness::image::Loader;
use fuse_harness::release::Helm;

use crate::backends;
use crate::progress::Steps;

#[derive(clap::Args)]
pub struct Args {
    /// Also remove the service, the charts and their namespaces from the cluster that kubectl has. The definition of
    /// FuseTradingService stays: other resources of that kind would go with it.
    #[arg(long)]
    existing: bool,
}

pub fn run(args: &Args) -> Result<()> {
    let mut steps = Steps::start();
    let dir = backends::state_dir()?;
    if args.existing {
        steps.step("existing cluster", |lines| {
            let Some(existing) = Existing::current(lines)? else {
                lines.say("kubectl has no cluster that answers");
                return Ok(());
            };
            if existing.loader == Loader::Registry {
                bail!(
                    "{} is no cluster that `up` uses; remove what is yours there by hand",
                    existing.context
                );
            }
            let kubectl = existing.client();
            kubectl.run(&["delete", "namespace", NAMESPACE, "--ignore-not-found"])?;
            let helm = Helm::new(existing.tools(), kubectl)?;
            helm.uninstall("fuse-operator", OPERATOR_NAMESPACE)?;
            helm.uninstall("fuse-crds", OPERATOR_NAMESPACE)?;
            kubectl
                .run(&["delete", "namespace", OPERATOR_NAMESPACE, "--ignore-not-found"])
                .map(drop)
        })?;
    }
    steps.step("local cluster", LocalCluster::down)?;
    steps.step("backends", |_| backends::stop(&dir.join("backends")))?;
    // Keys of a cluster that is gone open nothing any more; images are built again from the binaries.
    for leftover in ["keys.json", "kubeconfig"] {
        let _ = std::fs::remove_file(dir.join(leftover));
    }
    let _ = std::fs::remove_dir_all(dir.join("images"));
    steps.say("everything is gone");
    Ok(())
}
