//! TLS for endpoints `ssl:HOST:PORT`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use tokio_rustls::{TlsConnector, rustls};

/// What a client needs for TLS: its own key and certificate, and the authority that signs servers.
#[derive(Debug, Clone)]
pub struct Tls(Arc<ClientConfig>);

/// Why the files make no TLS configuration.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read or is not PEM of the right kind.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: rustls::pki_types::pem::Error,
    },
    /// Key and certificate do not fit together, or no authority is in the file.
    #[error("the TLS files do not fit: {0}")]
    Config(String),
}

impl Tls {
    /// From PEM files, as the options `--private-key`, `--certificate` and `--ca-cert` of the Open vSwitch tools
    /// name them. As with those, a server counts as genuine if the authority has signed its certificate, whatever
    /// host name it bears: the certificates that Open vSwitch makes bear none.
    ///
    /// # Errors
    /// A file is missing or malformed, or key and certificate do not fit.
    pub fn from_files(private_key: &Path, certificate: &Path, ca_cert: &Path) -> Result<Tls, TlsError> {
        let file = |path: &Path| {
            let path = path.to_owned();
            move |source| TlsError::File { path, source }
        };
        let config = |error: &dyn std::fmt::Display| TlsError::Config(error.to_string());
        let certificates = |path: &Path| {
            let certificates = CertificateDer::pem_file_iter(path).map_err(file(path))?;
            certificates.collect::<Result<Vec<_>, _>>().map_err(file(path))
        };
        let key = PrivateKeyDer::from_pem_file(private_key).map_err(file(private_key))?;
        let mut roots = RootCertStore::empty();
        for certificate in certificates(ca_cert)? {
            roots.add(certificate).map_err(|error| config(&error))?;
        }
        let provider = Arc::new(default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .build()
            .map_err(|error| config(&error))?;
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| config(&error))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(SignedByAuthority(verifier)))
            .with_client_auth_cert(certificates(certificate)?, key)
            .map_err(|error| config(&error))?;
        Ok(Tls(Arc::new(client)))
    }

    pub(super) async fn connect(&self, host: &str, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        // The zone of a link-local address is no business of the server's.
        let host = host.split_once('%').map_or(host, |(address, _zone)| address);
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        TlsConnector::from(self.0.clone()).connect(name, stream).await
    }
}

/// Checks everything but the name.
#[derive(Debug)]
struct SignedByAuthority(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for SignedByAuthority {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // The name is checked last, after signatures and validity.
        match self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            outcome => outcome,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
