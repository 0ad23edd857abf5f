//! Whom does a client believe? Certificate authorities from a file, for upstream, the registry and the token endpoint.

use std::path::Path;

use reqwest::{Certificate, ClientBuilder};

/// Why a file of certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    #[error("{path} cannot be read")]
    Read { path: String, source: std::io::Error },
    #[error("{path} holds no PEM certificate that can be used")]
    None { path: String },
}

/// Has a client believe those of `ca_file` beside the system's, as the file is now: one that was replaced counts for the next client.
///
/// # Errors
/// When it cannot be read or holds none.
pub(crate) fn trusting(builder: ClientBuilder, ca_file: Option<&Path>) -> Result<ClientBuilder, CertificateError> {
    let certificates = ca_file.map(certificates).transpose()?.unwrap_or_default();
    Ok(certificates
        .into_iter()
        .fold(builder, ClientBuilder::add_root_certificate))
}

/// The certificates of a PEM file.
fn certificates(path: &Path) -> Result<Vec<Certificate>, CertificateError> {
    let shown = || path.display().to_string();
    let pem = std::fs::read(path).map_err(|source| CertificateError::Read { path: shown(), source })?;
    match Certificate::from_pem_bundle(&pem) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(CertificateError::None { path: shown() }),
    }
}
