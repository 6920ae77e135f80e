//! The broker behind TLS: who the broker is, and who the client is.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rumqttc::{TlsConfiguration, Transport};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::*;

/// A certificate authority in a directory, and what it has signed.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: tempfile::TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "shoal test authority");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("ca.pem"), &issuer.pem());
        Self { issuer, dir }
    }

    /// Signs a certificate for 127.0.0.1 with this common name and returns the files.
    fn sign(&self, common_name: Option<&str>, file: &str) -> TlsFiles {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(name) = common_name {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        let key = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        let files = TlsFiles { cert: self.file(file, "crt"), key: self.file(file, "key"), client_ca: None };
        write(&files.cert, &signed.pem());
        write(&files.key, &key.serialize_pem());
        files
    }

    fn file(&self, name: &str, ending: &str) -> std::path::PathBuf {
        self.dir.path().join(name).with_extension(ending)
    }

    fn ca(&self) -> std::path::PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// A client's side: it trusts this authority and shows these files.
    fn trusted_by(
        &self,
        mut options: rumqttc::MqttOptions,
        shown: Option<&TlsFiles>,
    ) -> rumqttc::MqttOptions {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.ca()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match shown {
            None => builder.with_no_client_auth(),
            Some(files) => builder
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_file(&files.cert).unwrap()],
                    PrivateKeyDer::from_pem_file(&files.key).unwrap(),
                )
                .unwrap(),
        };
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::new(config))));
        options
    }
}

#[expect(clippy::disallowed_methods, reason = "files of a test need no atomic write")]
fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

#[tokio::test]
async fn a_client_that_trusts_the_authority_speaks_tls_and_another_does_not() {
    let authority = Authority::new();
    let broker = broker_with(OpenAccess, Some(authority.sign(Some("hub"), "broker"))).await.unwrap();
    let mut press =
        Client::connect_with(authority.trusted_by(options(&broker, "press-07"), None)).await.unwrap();
    assert!(press.subscribe("a").await);
    press.publish("b", "x").await;

    let stranger = Authority::new().trusted_by(options(&broker, "press-08"), None);
    assert!(Client::connect_with(stranger).await.is_err());
    assert!(Client::connect_with(options(&broker, "press-08")).await.is_err(), "plain text on the TLS port");
}

#[tokio::test]
async fn under_mutual_tls_the_certificate_names_the_device() {
    let authority = Authority::new();
    let files = TlsFiles { client_ca: Some(authority.ca()), ..authority.sign(Some("hub"), "broker") };
    let access = DeviceAccess::new(SECRET, DeviceIdentity::UserName);
    let broker = broker_with(access, Some(files)).await.unwrap();
    let hub = authority.sign(Some("hub"), "hub");
    let press = authority.sign(Some("press-07"), "press");
    let nameless = authority.sign(None, "nameless");

    let mut core =
        Client::connect_with(authority.trusted_by(options(&broker, "hub-core"), Some(&hub))).await.unwrap();
    assert!(core.subscribe("shoal/v1/d/+/+/up/#").await);
    let mut device =
        Client::connect_with(authority.trusted_by(options(&broker, "press-07"), Some(&press))).await.unwrap();
    device.publish("shoal/v1/d/3f/press-07/up/sync", "over TLS").await;
    assert_eq!(core.next_message().await.payload, "over TLS");

    // The user name in the packet counts for nothing.
    let mut claiming = options(&broker, "press-08");
    claiming.set_credentials("press-08", "");
    for (shown, options) in [
        (Some(&press), claiming.clone()),
        (Some(&nameless), claiming.clone()),
        (Some(&press), options(&broker, "hub-core")),
        (None, claiming),
    ] {
        assert!(Client::connect_with(authority.trusted_by(options, shown)).await.is_err(), "{shown:?}");
    }
    assert_eq!(broker.stats().refused_connects, 3);
    assert_eq!(broker.stats().connections, 2);
}

#[tokio::test]
async fn a_missing_certificate_file_is_named() {
    let files = TlsFiles { cert: "no-such.crt".into(), key: "no-such.key".into(), client_ca: None };
    let error = broker_with(OpenAccess, Some(files)).await.unwrap_err();
    assert!(matches!(error, BrokerError::Tls { .. }) && error.to_string().contains("no-such.crt"), "{error}");
}
