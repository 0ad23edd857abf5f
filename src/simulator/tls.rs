//! Where do https and its certificate authority come from? Both are made fresh at each start.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::{fs, io};

use native_tls::Identity;
use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAlternativeName};
use openssl::x509::{X509, X509Builder, X509Name, X509NameRef};
use thiserror::Error;
use tokio_native_tls::TlsAcceptor;

const DAYS: u32 = 30;

/// Why there is no https.
#[derive(Debug, Error)]
pub enum TlsError {
    #[error("cannot make a certificate")]
    Certificate(#[from] ErrorStack),
    #[error("cannot use the certificate")]
    Identity(#[from] native_tls::Error),
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// Where a simulator that serves https into this directory has its authority's certificate.
pub fn ca_file(dir: &Path) -> PathBuf {
    dir.join("ca.pem")
}

/// Makes an authority and a certificate for `localhost`, `address` and the DNS names, writes them (`ca.pem`, `server.pem`)
/// into the directory, and gives what accepts connections and the path of `ca.pem`. The keys stay in memory.
pub(super) fn acceptor(dir: &Path, address: IpAddr, names: &[String]) -> Result<(TlsAcceptor, PathBuf), TlsError> {
    let authority = Authority::new("d02-source simulator CA")?;
    let server = authority.server(address, names)?;
    let ca_file = ca_file(dir);
    write(dir, &ca_file, authority.pem())?;
    write(dir, &dir.join("server.pem"), &server.certificate)?;
    Ok((server.acceptor()?, ca_file))
}

/// A certificate authority that lives as long as this process.
pub struct Authority {
    key: PKey<Private>,
    certificate: X509,
    pem: String,
}

/// A certificate with its key, both as PEM.
pub struct Certified {
    pub certificate: String,
    /// PKCS #8, not encrypted.
    pub key: String,
}

impl Authority {
    /// # Errors
    /// When OpenSSL cannot make a key or a certificate.
    pub fn new(common_name: &str) -> Result<Self, TlsError> {
        let key = key()?;
        let issuer = name(common_name)?;
        let mut builder = builder(common_name, &key, &issuer)?;
        builder.append_extension(BasicConstraints::new().critical().ca().build()?)?;
        builder.append_extension(KeyUsage::new().critical().key_cert_sign().build()?)?;
        builder.sign(&key, MessageDigest::sha256())?;
        let certificate = builder.build();
        let pem = text(certificate.to_pem()?);
        Ok(Self { key, certificate, pem })
    }

    /// Its own certificate, which others are to trust.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate for who listens at `localhost`, `address` and the DNS names.
    ///
    /// # Errors
    /// As for [`Authority::new`].
    pub fn server(&self, address: IpAddr, names: &[String]) -> Result<Certified, TlsError> {
        let mut subject = SubjectAlternativeName::new();
        subject.dns("localhost").ip(&address.to_string());
        for name in names {
            subject.dns(name);
        }
        self.sign("localhost", Some(&subject), ExtendedKeyUsage::new().server_auth())
    }

    /// A certificate by which a client shows who it is.
    ///
    /// # Errors
    /// As for [`Authority::new`].
    pub fn client(&self, common_name: &str) -> Result<Certified, TlsError> {
        self.sign(common_name, None, ExtendedKeyUsage::new().client_auth())
    }

    fn sign(
        &self,
        common_name: &str,
        subject: Option<&SubjectAlternativeName>,
        usage: &ExtendedKeyUsage,
    ) -> Result<Certified, TlsError> {
        let key = key()?;
        let mut builder = builder(common_name, &key, self.certificate.subject_name())?;
        if let Some(subject) = subject {
            let subject = subject.build(&builder.x509v3_context(Some(&self.certificate), None))?;
            builder.append_extension(subject)?;
        }
        builder.append_extension(usage.build()?)?;
        builder.sign(&self.key, MessageDigest::sha256())?;
        Ok(Certified {
            certificate: text(builder.build().to_pem()?),
            key: text(key.private_key_to_pem_pkcs8()?),
        })
    }
}

impl Certified {
    /// What accepts connections with it.
    ///
    /// # Errors
    /// When OpenSSL does not take it.
    pub fn acceptor(&self) -> Result<TlsAcceptor, TlsError> {
        let identity = Identity::from_pkcs8(self.certificate.as_bytes(), self.key.as_bytes())?;
        Ok(native_tls::TlsAcceptor::new(identity)?.into())
    }
}

fn text(pem: Vec<u8>) -> String {
    String::from_utf8(pem).expect("PEM is ASCII")
}

fn key() -> Result<PKey<Private>, ErrorStack> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
    PKey::from_ec_key(EcKey::generate(&group)?)
}

fn name(common_name: &str) -> Result<X509Name, ErrorStack> {
    let mut name = X509Name::builder()?;
    name.append_entry_by_nid(Nid::COMMONNAME, common_name)?;
    Ok(name.build())
}

fn builder(subject: &str, key: &PKey<Private>, issuer: &X509NameRef) -> Result<X509Builder, ErrorStack> {
    let mut builder = X509::builder()?;
    builder.set_version(2)?;
    let mut serial = BigNum::new()?;
    serial.rand(120, openssl::bn::MsbOption::MAYBE_ZERO, false)?;
    builder.set_serial_number(&*serial.to_asn1_integer()?)?;
    builder.set_subject_name(&*name(subject)?)?;
    builder.set_issuer_name(issuer)?;
    builder.set_not_before(&*Asn1Time::days_from_now(0)?)?;
    builder.set_not_after(&*Asn1Time::days_from_now(DAYS)?)?;
    builder.set_pubkey(key)?;
    Ok(builder)
}

fn write(dir: &Path, path: &Path, pem: &str) -> Result<(), TlsError> {
    fs::create_dir_all(dir)
        .and_then(|()| fs::write(path, pem))
        .map_err(|source| TlsError::Write {
            path: path.to_owned(),
            source,
        })
}
