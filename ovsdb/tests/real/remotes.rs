//! TCP and TLS.

use std::time::Instant;

use ovsdb::{Client, Endpoint, Monitored, Options, Tls};

use crate::harness::{LONG, Ovs, vswitch_schema};

/// The port that the server took, from its log, which a thread of its own writes.
fn port(ovs: &Ovs) -> u16 {
    let deadline = Instant::now() + LONG;
    loop {
        let log = std::fs::read_to_string(ovs.path("ovsdb-server.log")).unwrap_or_default();
        let complete = log.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        if let Some(line) = complete.map(str::trim_end).find(|line| line.contains("listening on port")) {
            return line.rsplit(' ').next().unwrap().parse().unwrap();
        }
        assert!(Instant::now() < deadline, "the server logs no port: {log}");
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn tcp_works_as_the_unix_socket_does() {
    let ovs = Ovs::with_schema(&vswitch_schema(), &["ptcp:0:127.0.0.1"]);
    ovs.vsctl(["--no-wait", "init"]);
    let endpoint: Endpoint = format!("tcp:127.0.0.1:{}", port(&ovs)).parse().unwrap();
    let client = Client::connect(&endpoint, "Open_vSwitch", ovsdb::ovs::monitored()).await.unwrap();
    assert_eq!(client.replica().table("Open_vSwitch").unwrap().len(), 1);
}

/// Writes NAME-cert.pem and NAME-key.pem, signed by the authority or by itself.
fn certificate(
    ovs: &Ovs,
    name: &str,
    authority: Option<&rcgen::Issuer<'_, rcgen::KeyPair>>,
) -> rcgen::Issuer<'static, rcgen::KeyPair> {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new([]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    if authority.is_none() {
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    }
    let certificate = match authority {
        Some(authority) => params.signed_by(&key, authority).unwrap(),
        None => params.self_signed(&key).unwrap(),
    };
    std::fs::write(ovs.path(&format!("{name}-cert.pem")), certificate.pem()).unwrap();
    std::fs::write(ovs.path(&format!("{name}-key.pem")), key.serialize_pem()).unwrap();
    rcgen::Issuer::new(params, key)
}

#[tokio::test]
async fn tls_trusts_the_authority_and_nobody_else() {
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
    let endpoint: Endpoint = format!("ssl:127.0.0.1:{}", port(&ovs)).parse().unwrap();
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
