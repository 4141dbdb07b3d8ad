//! Certificates, and the ports that daemons listen on.

use std::time::Instant;

use crate::harness::{LONG, Ovs};

/// The port that a daemon took last, from its log, which a thread of its own writes.
pub(crate) fn port(ovs: &Ovs, daemon: &str) -> u16 {
    let deadline = Instant::now() + LONG;
    loop {
        let log = std::fs::read_to_string(ovs.path(&format!("{daemon}.log"))).unwrap_or_default();
        let complete = log.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let said = complete.map(str::trim_end).rfind(|line| line.contains("listening on port"));
        if let Some(line) = said {
            return line.rsplit(' ').next().unwrap().parse().unwrap();
        }
        assert!(Instant::now() < deadline, "{daemon} logs no port: {log}");
        std::thread::yield_now();
    }
}

/// Writes NAME-cert.pem and NAME-key.pem, signed by the authority or by itself.
pub(crate) fn certificate(
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
