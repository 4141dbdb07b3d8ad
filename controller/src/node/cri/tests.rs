#![allow(clippy::unwrap_used)]

use std::convert::Infallible;
use std::os::unix::fs::PermissionsExt;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::{NamedService, UnaryService};
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use super::*;

fn set(ids: &[&str]) -> BTreeSet<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

/// A runtime with these sandboxes.
#[derive(Clone)]
struct Runtime(Result<Vec<String>, Status>);

impl NamedService for Runtime {
    const NAME: &'static str = "runtime.v1.RuntimeService";
}

type Answer<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A `PodSandbox` with more than is read of it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct WholeSandbox {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(int32, tag = "3")]
    state: i32,
    #[prost(int64, tag = "4")]
    created_at: i64,
    #[prost(string, tag = "7")]
    runtime_handler: String,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct WholeResponse {
    #[prost(message, repeated, tag = "1")]
    items: Vec<WholeSandbox>,
}

impl UnaryService<ListPodSandboxRequest> for Runtime {
    type Response = WholeResponse;
    type Future = Answer<Result<Response<WholeResponse>, Status>>;

    fn call(&mut self, _: Request<ListPodSandboxRequest>) -> Self::Future {
        let whole = |id| WholeSandbox { id, state: 1, created_at: 1, runtime_handler: "runc".to_owned() };
        let sandboxes = self.0.clone();
        Box::pin(async move {
            Ok(Response::new(WholeResponse { items: sandboxes?.into_iter().map(whole).collect() }))
        })
    }
}

impl Service<http::Request<Body>> for Runtime {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answer<Result<http::Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let runtime = self.clone();
        Box::pin(async move {
            if request.uri().path() != LIST.path() {
                return Ok(Status::unimplemented("no such method").into_http());
            }
            let mut grpc =
                tonic::server::Grpc::new(ProstCodec::<WholeResponse, ListPodSandboxRequest>::default());
            Ok(grpc.unary(runtime, request).await)
        })
    }
}

/// What is read from a runtime that answers so.
async fn listed(answer: Result<Vec<String>, Status>) -> Result<BTreeSet<String>, CriError> {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("cri.sock");
    let listener = UnixListenerStream::new(UnixListener::bind(&socket).unwrap());
    let server = tokio::spawn(Server::builder().add_service(Runtime(answer)).serve_with_incoming(listener));
    let listed = sandboxes(&socket).await;
    server.abort();
    listed
}

#[tokio::test]
async fn all_sandboxes_of_a_grpc_server() {
    assert_eq!(listed(Ok(Vec::new())).await.unwrap(), set(&[]));
    assert_eq!(listed(Ok(vec!["b".to_owned(), "a".to_owned()])).await.unwrap(), set(&["a", "b"]));
    // As many as no node has: more than the 4 MiB that gRPC takes by default.
    let many: Vec<String> = (0..60_000).map(|n| format!("{n:064x}")).collect();
    assert_eq!(listed(Ok(many)).await.unwrap().len(), 60_000);
}

#[tokio::test]
async fn what_is_no_answer_is_an_error() {
    let refused = listed(Err(Status::unimplemented("unknown service"))).await.unwrap_err();
    assert!(
        matches!(&refused, CriError::Refused(status) if status.message() == "unknown service"),
        "{refused}"
    );

    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("cri.sock");
    let absent = sandboxes(&socket).await.unwrap_err();
    assert!(
        matches!(absent, CriError::Connect { .. }) && absent.to_string().contains("cri.sock"),
        "{absent}"
    );
    // Something that speaks no HTTP/2.
    let listener = UnixListener::bind(&socket).unwrap();
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o600)).unwrap();
    let hangs_up = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            drop(stream);
        }
    });
    sandboxes(&socket).await.unwrap_err();
    hangs_up.abort();
}

#[tokio::test(start_paused = true)]
async fn only_what_is_unknown_for_long_is_gone() {
    let mut unknown = Unknown::default();
    let start = Instant::now();
    let later = |seconds| start + Duration::from_secs(seconds);
    let attached = set(&["a", "b", "c"]);
    assert!(unknown.note(start, &attached, &set(&["a"])).is_empty());
    // b was being started; c is detached and attached again meanwhile.
    assert!(unknown.note(later(60), &set(&["a", "b"]), &set(&["a", "b"])).is_empty());
    assert!(unknown.note(later(90), &attached, &set(&["a", "b"])).is_empty());
    assert!(unknown.note(later(150), &attached, &set(&["a"])).is_empty());
    assert_eq!(unknown.note(later(210), &attached, &set(&["a"])), ["c"]);
    assert_eq!(unknown.note(later(280), &attached, &set(&["a"])), ["b", "c"]);
    assert!(unknown.note(later(281), &set(&["a"]), &set(&["a"])).is_empty());
}
