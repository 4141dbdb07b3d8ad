//! A failed ADD undone.

use ipnet::Ipv4Net;
use tracing::warn;

use super::leave::MOMENT;
use super::pods::{Attachment, PodNetwork};

/// What a failed ADD takes back, last step first.
pub(super) struct Undo<'a> {
    pub(super) pods: &'a PodNetwork,
    pub(super) attachment: &'a Attachment,
    pub(super) leased: Option<Ipv4Net>,
    pub(super) veth: Option<String>,
    pub(super) port: bool,
}

impl Undo<'_> {
    /// Whatever is left after it has to be looked after.
    pub(super) async fn run(self) {
        let Attachment { container_id, ifname, .. } = self.attachment;
        let mut clean = true;
        if let Some(veth) = &self.veth {
            if self.port
                && let Err(error) = self.pods.detach(container_id, veth, MOMENT).await
            {
                clean = false;
                warn!("undoing a failed ADD: {veth}: {}", error.msg);
            }
            if let Err(error) = self.pods.unwire(veth).await {
                warn!("undoing a failed ADD: veth {veth}: {error}");
            }
        }
        // As in DEL: the address stays taken while a port or flows may still have it.
        if let Some(subnet) = self.leased
            && clean
            && let Err(error) = self.pods.release(subnet, container_id, ifname).await
        {
            warn!("undoing a failed ADD: {}", error.msg);
        }
    }
}
