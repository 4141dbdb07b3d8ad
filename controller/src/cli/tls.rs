//! The options of `ssl:` endpoints, named as those of `ovs-vsctl` and `ovs-ofctl`.

use std::path::{Path, PathBuf};

use super::WrongUse;

/// What a TLS connection needs: our own key and certificate, and the authority whose signature the peer has to show.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "For ssl:HOST:PORT (PEM files, all three)")]
pub struct TlsArgs {
    /// Our private key
    #[arg(long, global = true, value_name = "FILE")]
    private_key: Option<PathBuf>,
    /// Our certificate
    #[arg(long, global = true, value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// The certificate of the authority that has signed the peer's
    #[arg(long, global = true, value_name = "FILE")]
    ca_cert: Option<PathBuf>,
}

/// The three files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsFiles<'a> {
    /// Our private key.
    pub private_key: &'a Path,
    /// Our certificate.
    pub certificate: &'a Path,
    /// The authority's certificate.
    pub ca_cert: &'a Path,
}

impl TlsArgs {
    /// The files, where all are named; `None` where none is and the endpoint needs none.
    ///
    /// # Errors
    /// Only some are named, or none although the endpoint is `ssl:`.
    pub fn files(&self, is_ssl: bool) -> Result<Option<TlsFiles<'_>>, WrongUse> {
        let given = [
            ("--private-key", &self.private_key),
            ("--certificate", &self.certificate),
            ("--ca-cert", &self.ca_cert),
        ];
        if let (Some(private_key), Some(certificate), Some(ca_cert)) =
            (&self.private_key, &self.certificate, &self.ca_cert)
        {
            return Ok(Some(TlsFiles { private_key, certificate, ca_cert }));
        }
        if !is_ssl && given.iter().all(|(_, file)| file.is_none()) {
            return Ok(None);
        }
        let missing: Vec<&str> =
            given.iter().filter(|(_, file)| file.is_none()).map(|(option, _)| *option).collect();
        Err(WrongUse(format!("a connection to ssl:HOST:PORT needs {}", missing.join(", "))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(files: [Option<&str>; 3]) -> TlsArgs {
        let [private_key, certificate, ca_cert] = files.map(|file| file.map(PathBuf::from));
        TlsArgs { private_key, certificate, ca_cert }
    }

    #[test]
    fn all_three_or_none() {
        let all = args([Some("k"), Some("c"), Some("a")]);
        let files = all.files(true).unwrap().unwrap();
        let paths = [files.private_key, files.certificate, files.ca_cert];
        assert_eq!(paths, ["k", "c", "a"].map(Path::new));
        assert_eq!(args([None; 3]).files(false).unwrap(), None);
        let error = args([None; 3]).files(true).unwrap_err().to_string();
        assert_eq!(error, "a connection to ssl:HOST:PORT needs --private-key, --certificate, --ca-cert");
        let error = args([Some("k"), None, Some("a")]).files(false).unwrap_err().to_string();
        assert_eq!(error, "a connection to ssl:HOST:PORT needs --certificate");
    }
}
