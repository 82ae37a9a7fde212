//! DNS and the ingress controller, as ordinary pods from images of one static binary each.

use anyhow::Result;

use super::{HOST_ADDRESS, HOST_NAME, node, state::State};
use crate::{
    image::{self, Image},
    progress::Progress,
    tools::{self, Tool, Tools},
};

/// The Service of the cluster's DNS.
pub(super) const DNS_ADDRESS: &str = "10.96.0.10";

pub(super) struct Images {
    pub pause: Image,
    coredns: Image,
    traefik: Image,
}

impl Images {
    /// Quick when they are in the cache.
    pub(super) fn build(tools: &Tools, progress: &Progress) -> Result<Self> {
        let out = tools::cache_dir()?.join("images");
        progress.say("preparing the images of pause, CoreDNS and Traefik");
        Ok(Self {
            pause: image::build_pause(&out)?,
            coredns: image::build_single(tools.path(Tool::CoreDns)?, &out)?,
            traefik: image::build_single(tools.path(Tool::Traefik)?, &out)?,
        })
    }

    /// The pause image first: nothing starts without it.
    pub(super) fn all(&self) -> Vec<Image> {
        vec![self.pause.clone(), self.coredns.clone(), self.traefik.clone()]
    }
}

pub(super) fn manifests(images: &Images, state: &State) -> String {
    let forward = if node::has_name_servers() {
        "forward . /etc/resolv.conf"
    } else {
        ""
    };
    include_str!("addons.yaml")
        .replace("@COREDNS_IMAGE@", &images.coredns.name())
        .replace("@TRAEFIK_IMAGE@", &images.traefik.name())
        .replace("@DNS_ADDRESS@", DNS_ADDRESS)
        .replace("@FORWARD@", forward)
        .replace("@HOST_ADDRESS@", &HOST_ADDRESS.to_string())
        .replace("@HOST_NAME@", HOST_NAME)
        .replace("@INGRESS_PORT@", &state.ingress_port.to_string())
        .replace("@PING_PORT@", &state.ping_port.to_string())
}
