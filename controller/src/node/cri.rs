//! The container runtime, asked which sandboxes there are: `RuntimeService.ListPodSandbox` of the Container Runtime
//! Interface, version 1 (k8s.io/cri-api, `pkg/apis/runtime/v1/api.proto`).
//!
//! What a runtime forgot without a DEL, as after a crash of the machine or a lost state directory, would keep its address
//! and port for ever. The runtime is only asked; no sandbox is ever stopped from here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper::http::uri::PathAndQuery;
use tokio::time::{Instant, timeout};
use tonic::client::Grpc;
use tonic::transport::Endpoint;
use tonic_prost::ProstCodec;

/// As long as kubelet gives a runtime (`--runtime-request-timeout`).
const DEADLINE: Duration = Duration::from_mins(2);
/// As much as kubelet takes from a runtime.
const LARGEST_REPLY: usize = 16 << 20;
const LIST: PathAndQuery = PathAndQuery::from_static("/runtime.v1.RuntimeService/ListPodSandbox");

/// `ListPodSandboxRequest`; without its filter it asks for all.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct ListPodSandboxRequest {}

/// `ListPodSandboxResponse`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct ListPodSandboxResponse {
    #[prost(message, repeated, tag = "1")]
    items: Vec<PodSandbox>,
}

/// `PodSandbox`, as far as it is read.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct PodSandbox {
    /// The container id of the CNI calls.
    #[prost(string, tag = "1")]
    id: String,
}

/// Why the runtime did not say what there is.
#[derive(Debug, thiserror::Error)]
pub enum CriError {
    /// Nothing answers on the socket.
    #[error("the container runtime can't be reached at {}: {source}", socket.display())]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: tonic::transport::Error,
    },
    /// The runtime refused, or speaks something else.
    #[error("the container runtime does not list its sandboxes: {0}")]
    Refused(#[from] tonic::Status),
    /// It takes too long.
    #[error("the container runtime did not list its sandboxes within {} s", DEADLINE.as_secs())]
    Deadline,
}

/// The ids of all sandboxes, running or not: one that has stopped is still to be taken down by a DEL.
///
/// # Errors
/// Any [`CriError`]; nothing is known then.
pub async fn sandboxes(socket: &Path) -> Result<BTreeSet<String>, CriError> {
    let connect = |source| CriError::Connect { socket: socket.to_owned(), source };
    let list = async {
        let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display())).map_err(connect)?;
        let channel = endpoint.connect().await.map_err(connect)?;
        let mut client = Grpc::new(channel).max_decoding_message_size(LARGEST_REPLY);
        let unready = |error: tonic::transport::Error| tonic::Status::unavailable(error.to_string());
        client.ready().await.map_err(unready)?;
        let codec = ProstCodec::<ListPodSandboxRequest, ListPodSandboxResponse>::default();
        let reply = client.unary(tonic::Request::new(ListPodSandboxRequest {}), LIST, codec).await?;
        Ok(reply.into_inner().items.into_iter().map(|sandbox| sandbox.id).collect())
    };
    timeout(DEADLINE, list).await.unwrap_or(Err(CriError::Deadline))
}

/// Since when the runtime has not known what is attached.
///
/// A runtime lists a sandbox only some time after the ADD, and kubelet gives up on one that takes longer than a call may:
/// only what has been unknown for longer, at every look, is gone.
#[derive(Debug, Default)]
pub struct Unknown(BTreeMap<String, Instant>);

/// How long a sandbox must have been unknown.
pub const GONE_AFTER: Duration = DEADLINE;

impl Unknown {
    /// Takes down what the runtime knows now; those of `attached` that are gone.
    pub fn note(
        &mut self,
        now: Instant,
        attached: &BTreeSet<String>,
        known: &BTreeSet<String>,
    ) -> Vec<String> {
        self.0.retain(|sandbox, _| attached.contains(sandbox) && !known.contains(sandbox));
        let unknown = attached.difference(known);
        unknown
            .filter(|sandbox| {
                let since = *self.0.entry((*sandbox).clone()).or_insert(now);
                now.duration_since(since) >= GONE_AFTER
            })
            .cloned()
            .collect()
    }
}

#[cfg(test)]
mod tests;
