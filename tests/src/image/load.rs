//! Makes an image known to a cluster that somebody else made, the way that cluster wants.

use std::{path::PathBuf, process::Command, time::Duration};

use anyhow::{Context, Result, anyhow, bail};

use super::Image;
use crate::{packages::find_on_path, proc};

const DEADLINE: Duration = Duration::from_secs(300);

/// How images get into a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loader {
    /// `kind`, with the cluster's name.
    Kind(String),
    /// `k3d`, with the cluster's name.
    K3d(String),
    /// `minikube`, with the profile.
    Minikube(String),
    /// Only through a registry.
    Registry,
}

impl Loader {
    /// What these tools call the contexts that they write into a kubeconfig.
    #[must_use]
    pub fn of_context(context: &str) -> Self {
        if let Some(name) = context.strip_prefix("kind-") {
            Self::Kind(name.to_owned())
        } else if let Some(name) = context.strip_prefix("k3d-") {
            Self::K3d(name.to_owned())
        } else if context == "minikube" || context.starts_with("minikube-") {
            Self::Minikube(context.to_owned())
        } else {
            Self::Registry
        }
    }

    /// Program and arguments.
    fn command(&self, image: &Image) -> Result<(&'static str, Vec<String>)> {
        let archive = image.archive.display().to_string();
        Ok(match self {
            Self::Kind(name) => (
                "kind",
                vec![
                    "load".into(),
                    "image-archive".into(),
                    archive,
                    "--name".into(),
                    name.clone(),
                ],
            ),
            Self::K3d(name) => (
                "k3d",
                vec![
                    "image".into(),
                    "import".into(),
                    archive,
                    "--cluster".into(),
                    name.clone(),
                ],
            ),
            Self::Minikube(profile) => (
                "minikube",
                vec![
                    "image".into(),
                    "load".into(),
                    archive,
                    "--profile".into(),
                    profile.clone(),
                ],
            ),
            Self::Registry => bail!(
                "this cluster takes images from a registry only: build one with `docker build`, push it, and install the charts with its name, as the README says"
            ),
        })
    }

    /// Loads the image. Quick when it is there already: its name is the hash of its content.
    ///
    /// # Errors
    /// When the tool is missing or fails, and always for [`Loader::Registry`].
    pub fn load(&self, image: &Image) -> Result<()> {
        let (program, args) = self.command(image)?;
        let path: PathBuf = find_on_path(program).ok_or_else(|| {
            anyhow!("the cluster was made by {program}, but that is not in PATH: images cannot be loaded")
        })?;
        proc::run(Command::new(path).args(args), DEADLINE)
            .with_context(|| format!("load {} with {program}", image.name()))
            .map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(context: &str, expected: &str) {
        let image = Image {
            archive: "/a.tar".into(),
            repository: "localhost/fuse".into(),
            tag: "t".into(),
        };
        let (program, args) = Loader::of_context(context)
            .command(&image)
            .expect("a local cluster");
        assert_eq!(format!("{program} {}", args.join(" ")), expected);
    }

    #[test]
    fn each_kind_of_cluster_gets_its_own_command() {
        check("kind-fuse", "kind load image-archive /a.tar --name fuse");
        check("k3d-dev", "k3d image import /a.tar --cluster dev");
        check("minikube", "minikube image load /a.tar --profile minikube");
    }

    #[test]
    fn a_remote_cluster_needs_a_registry() {
        let image = Image {
            archive: "/a.tar".into(),
            repository: "r".into(),
            tag: "t".into(),
        };
        let error = Loader::of_context("production")
            .load(&image)
            .expect_err("nothing to load with");
        assert!(error.to_string().contains("as the README says"), "{error}");
    }
}
