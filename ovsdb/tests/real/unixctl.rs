//! The control socket of a real switch.

use std::time::Duration;

use ovsdb::unixctl::{UnixctlError, call, call_within, control_socket};

use crate::harness::Ovs;

#[tokio::test]
async fn commands_answer_as_to_ovs_appctl() {
    let ovs = Ovs::switch();
    let client = ovs.ovs_client().await;
    ovsdb::ovs::ensure_bridge(&client, &ovsdb::ovs::BridgeSpec::new("br0")).await.unwrap();
    let socket = control_socket(&ovs.path(""), "ovs-vswitchd").unwrap();
    assert_eq!(call(&socket, "version", &[]).await.unwrap(), ovs.run("ovs-appctl", ["version"]));
    let args = ["br0", "in_port=LOCAL,tcp,nw_src=10.0.0.1"];
    let trace = call(&socket, "ofproto/trace", &args).await.unwrap();
    assert_eq!(trace, ovs.run("ovs-appctl", ["ofproto/trace", args[0], args[1]]));
    assert!(trace.contains("Final flow:"), "{trace}");
    match call(&socket, "ofproto/trace", &["no-such-bridge", "in_port=1"]).await {
        Err(UnixctlError::Refused { command, text }) => {
            assert_eq!(command, "ofproto/trace");
            assert!(text.contains("no-such-bridge"), "{text}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_daemon_ends_when_told_to() {
    let ovs = Ovs::switch();
    let client = ovs.ovs_client().await;
    ovsdb::ovs::ensure_bridge(&client, &ovsdb::ovs::BridgeSpec::new("br0")).await.unwrap();
    let socket = control_socket(&ovs.path(""), "ovs-vswitchd").unwrap();
    assert_eq!(call(&socket, "exit", &[]).await.unwrap(), "");
    // It takes its pid file with it.
    crate::harness::soon(async {
        while ovs.path("ovs-vswitchd.pid").exists() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(matches!(call(&socket, "version", &[]).await, Err(UnixctlError::Io { .. })));
}

#[tokio::test]
async fn a_missing_daemon_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let error = control_socket(dir.path(), "ovs-vswitchd").unwrap_err();
    assert!(error.to_string().starts_with("ovs-vswitchd does not seem to run"), "{error}");
    std::fs::write(dir.path().join("ovs-vswitchd.pid"), "junk\n").unwrap();
    assert!(matches!(control_socket(dir.path(), "ovs-vswitchd"), Err(UnixctlError::BadPidFile(_))));
    std::fs::write(dir.path().join("ovs-vswitchd.pid"), "4194305\n").unwrap();
    let socket = control_socket(dir.path(), "ovs-vswitchd").unwrap();
    assert_eq!(socket, dir.path().join("ovs-vswitchd.4194305.ctl"));
    assert!(matches!(call(&socket, "version", &[]).await, Err(UnixctlError::Io { .. })));
}

#[tokio::test]
async fn a_daemon_that_hangs_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("stuck.ctl");
    // The system accepts the connection, and nobody answers.
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let answer = call_within(Duration::from_millis(200), &socket, "ofproto/trace", &["br0"]);
    let error = crate::harness::soon(answer).await.unwrap_err();
    assert!(matches!(error, UnixctlError::Deadline { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("stuck.ctl") && text.contains("no answer to ofproto/trace within 0.2 s"), "{text}");
    tokio::time::pause();
    assert!(matches!(call(&socket, "version", &[]).await, Err(UnixctlError::Deadline { .. })), "by itself");
}
