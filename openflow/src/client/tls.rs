//! TLS as Open vSwitch does it: both sides have a certificate of one authority, and names do not matter.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{
    self, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

/// Certificates for `ssl:` and `pssl:`: our own with its key, and the authority that the peer's must come from.
///
/// As in Open vSwitch, the peer's certificate must be signed by the authority, but may be for any name: switches are
/// known by their datapath ids, not by host names.
#[derive(Clone)]
pub struct Tls {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

/// Certificates that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file is no PEM file of the kind that is needed.
    #[error("{what}: {source}")]
    Pem {
        /// Which of the three.
        what: &'static str,
        /// What is wrong with it.
        source: rustls::pki_types::pem::Error,
    },
    /// Certificate, key and authority do not fit together.
    #[error("certificates: {0}")]
    Rustls(#[from] rustls::Error),
    /// The authority cannot be used.
    #[error("authority: {0}")]
    Authority(String),
}

impl Tls {
    /// From three PEM files, as `ovs-ofctl` takes them: `--certificate`, `--private-key`, `--ca-cert`.
    ///
    /// # Errors
    /// If a file cannot be read, or the three do not fit together.
    pub fn from_files(certificate: &Path, private_key: &Path, ca_cert: &Path) -> Result<Tls, TlsError> {
        let read = |path: &Path, what| {
            std::fs::read(path)
                .map_err(|e| TlsError::Pem { what, source: rustls::pki_types::pem::Error::Io(e) })
        };
        let certificate = read(certificate, "certificate")?;
        let private_key = read(private_key, "private key")?;
        Tls::from_pem(&certificate, &private_key, &read(ca_cert, "authority")?)
    }

    /// From the contents of three PEM files.
    ///
    /// # Errors
    /// If one is no PEM, or the three do not fit together.
    pub fn from_pem(certificate: &[u8], private_key: &[u8], ca_cert: &[u8]) -> Result<Tls, TlsError> {
        let chain = |pem: &[u8], what| {
            CertificateDer::pem_slice_iter(pem)
                .collect::<Result<Vec<_>, _>>()
                .map_err(|source| TlsError::Pem { what, source })
        };
        let certificates = chain(certificate, "certificate")?;
        let key = PrivateKeyDer::from_pem_slice(private_key)
            .map_err(|source| TlsError::Pem { what: "private key", source })?;
        let mut roots = RootCertStore::empty();
        for certificate in chain(ca_cert, "authority")? {
            roots.add(certificate)?;
        }
        let roots = Arc::new(roots);
        let provider = Arc::new(ring::default_provider());
        let unusable = |error: rustls::server::VerifierBuilderError| TlsError::Authority(error.to_string());
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(unusable)?;
        let client = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyName(verifier)))
            .with_client_auth_cert(certificates.clone(), key.clone_key())?;
        let verifier =
            WebPkiClientVerifier::builder_with_provider(roots, provider.clone()).build().map_err(unusable)?;
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_single_cert(certificates, key)?;
        Ok(Tls { client: Arc::new(client), server: Arc::new(server) })
    }

    pub(super) async fn connect<S>(&self, host: &str, stream: S) -> io::Result<client::TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        TlsConnector::from(self.client.clone()).connect(name, stream).await
    }

    pub(super) async fn accept<S>(&self, stream: S) -> io::Result<server::TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        TlsAcceptor::from(self.server.clone()).accept(stream).await
    }
}

/// Checks all of a certificate but the name that it is for.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The name is looked at last, when all else is found good.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
