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
use openssl::x509::{X509, X509Builder, X509Name};
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
    let ca_key = key()?;
    let ca_name = name("d02-source simulator CA")?;
    let mut builder = builder("d02-source simulator CA", &ca_key, &ca_name)?;
    builder.append_extension(BasicConstraints::new().critical().ca().build()?)?;
    builder.append_extension(KeyUsage::new().critical().key_cert_sign().build()?)?;
    builder.sign(&ca_key, MessageDigest::sha256())?;
    let ca = builder.build();

    let server_key = key()?;
    let mut builder = self::builder("localhost", &server_key, &ca_name)?;
    let mut subject = SubjectAlternativeName::new();
    subject.dns("localhost").ip(&address.to_string());
    for name in names {
        subject.dns(name);
    }
    let subject = subject.build(&builder.x509v3_context(Some(&ca), None))?;
    builder.append_extension(subject)?;
    builder.append_extension(ExtendedKeyUsage::new().server_auth().build()?)?;
    builder.sign(&ca_key, MessageDigest::sha256())?;
    let server = builder.build();

    let ca_file = ca_file(dir);
    write(dir, &ca_file, &ca)?;
    write(dir, &dir.join("server.pem"), &server)?;
    let identity = Identity::from_pkcs8(&server.to_pem()?, &server_key.private_key_to_pem_pkcs8()?)?;
    let acceptor = native_tls::TlsAcceptor::new(identity)?;
    Ok((acceptor.into(), ca_file))
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

fn builder(subject: &str, key: &PKey<Private>, issuer: &X509Name) -> Result<X509Builder, ErrorStack> {
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

fn write(dir: &Path, path: &Path, certificate: &X509) -> Result<(), TlsError> {
    let pem = certificate.to_pem()?;
    fs::create_dir_all(dir)
        .and_then(|()| fs::write(path, pem))
        .map_err(|source| TlsError::Write {
            path: path.to_owned(),
            source,
        })
}
