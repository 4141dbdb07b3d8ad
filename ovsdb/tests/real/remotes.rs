//! TCP and TLS.

use nix::sys::signal::Signal;
use ovsdb::{Client, Datum, Endpoint, Monitored, Mutation, Options, Tls};

use crate::authority::{certificate, port};
use crate::harness::{Ovs, soon, vswitch_schema};

#[tokio::test]
async fn tcp_works_as_the_unix_socket_does() {
    let ovs = Ovs::with_schema(&vswitch_schema(), &["ptcp:0:127.0.0.1"]);
    ovs.vsctl(["--no-wait", "init"]);
    let endpoint: Endpoint = format!("tcp:127.0.0.1:{}", port(&ovs, "ovsdb-server")).parse().unwrap();
    let client = Client::connect(&endpoint, "Open_vSwitch", ovsdb::ovs::monitored()).await.unwrap();
    assert_eq!(client.replica().table("Open_vSwitch").unwrap().len(), 1);
}

/// A server on TLS, with the files of an authority `ca` that has signed it and `client`, and of another authority
/// `stranger` that has signed `other`.
fn tls_server() -> (Ovs, Endpoint) {
    let mut ovs = Ovs::with_schema(&vswitch_schema(), &["pssl:0:127.0.0.1"]);
    ovs.vsctl(["--no-wait", "init"]);
    let authority = certificate(&ovs, "ca", None);
    for name in ["server", "client"] {
        certificate(&ovs, name, Some(&authority));
    }
    let stranger = certificate(&ovs, "stranger", None);
    certificate(&ovs, "other", Some(&stranger));
    ovs.kill_server();
    ovs.start_server_with(&[
        "--private-key=server-key.pem",
        "--certificate=server-cert.pem",
        "--ca-cert=ca-cert.pem",
    ]);
    let endpoint = format!("ssl:127.0.0.1:{}", port(&ovs, "ovsdb-server")).parse().unwrap();
    (ovs, endpoint)
}

#[tokio::test]
async fn tls_trusts_the_authority_and_nobody_else() {
    let (ovs, endpoint) = tls_server();
    let connect = async |client: &str, authority: &str| {
        let [key, cert] = ["key", "cert"].map(|what| ovs.path(&format!("{client}-{what}.pem")));
        let tls = Tls::from_files(&key, &cert, &ovs.path(&format!("{authority}-cert.pem"))).unwrap();
        let monitored = Monitored::new().all_columns("Open_vSwitch");
        let options =
            Options { tls: Some(tls), ..Options::new([endpoint.clone()], "Open_vSwitch", monitored) };
        Client::connect_with(options).await
    };
    let client = connect("client", "ca").await.unwrap();
    assert_eq!(client.replica().table("Open_vSwitch").unwrap().len(), 1);
    let error = connect("client", "stranger").await.unwrap_err().to_string();
    assert!(error.contains("certificate"), "{error}");
    connect("other", "ca").await.unwrap_err();
    let error = Client::connect(&endpoint, "Open_vSwitch", Monitored::new()).await.unwrap_err().to_string();
    assert!(error.contains("TLS needs a private key"), "{error}");
    assert!(
        Tls::from_files(&ovs.path("nothing"), &ovs.path("client-cert.pem"), &ovs.path("ca-cert.pem"))
            .is_err()
    );
}

/// While the server is stopped the socket fills, and what it does not take stays with TLS: that has to be sent without
/// anything else to send.
#[tokio::test]
async fn large_transactions_pass_through_tls_whole() {
    let (ovs, endpoint) = tls_server();
    let files = ["client-key.pem", "client-cert.pem", "ca-cert.pem"].map(|name| ovs.path(name));
    let mut options = Options::new([endpoint], "Open_vSwitch", ovsdb::ovs::monitored());
    options.tls = Some(Tls::from_files(&files[0], &files[1], &files[2]).unwrap());
    // No echo request that would push the rest along.
    options.session.probe_interval = None;
    let client = Client::connect_with(options).await.unwrap();
    for round in 0..6_usize {
        ovs.signal_server(Signal::SIGSTOP);
        let mut tx = client.transaction();
        let size = (1 << 20) + round * 1_300_007;
        let key = format!("round{round}");
        tx.mutate(
            "Open_vSwitch",
            [],
            [Mutation::insert("external_ids", Datum::map([(key.as_str(), "done")]))],
        );
        tx.comment("x".repeat(size));
        let sent = tokio::spawn({
            let client = client.clone();
            async move { client.transact(tx).await }
        });
        // Nothing shows from outside how far it has got: this is long for a loopback, and only makes the test weaker
        // where it is not long enough.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        assert!(!sent.is_finished());
        ovs.signal_server(Signal::SIGCONT);
        soon(sent).await.unwrap().unwrap();
        let replica = client.replica();
        let root = replica.rows("Open_vSwitch").next().unwrap();
        assert_eq!(root.map_get("external_ids", &key), Some("done"), "{size} bytes");
    }
}
