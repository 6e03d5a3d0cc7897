//! TLS with certificate files: served, refused with a remedy if they do not fit, and plain HTTP is ignored.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{os::unix::fs::PermissionsExt, path::Path, process::Output, sync::Arc, time::Duration};

use einmal_tests::{Einmal, Running};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};

const PATIENCE: Duration = Duration::from_secs(20);

/// The program under test.
const EINMAL: Einmal = Einmal(env!("CARGO_BIN_EXE_einmal-under-test"));

/// A mediator's folder with a certificate for `localhost` and `key` as its key file.
fn mediator(folder: &Path, key: Option<&str>) -> String {
    let dir = folder.join("mediator");
    let text = dir.to_str().unwrap().to_owned();
    assert!(EINMAL.command(&["init", "mediator", "--dir", &text]).status().unwrap().success());
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(dir.join("cert.pem"), made.cert.pem()).unwrap();
    let own = made.key_pair.serialize_pem();
    std::fs::write(dir.join("key.pem"), key.unwrap_or(&own)).unwrap();
    std::fs::set_permissions(dir.join("key.pem"), PermissionsExt::from_mode(0o600)).unwrap();
    let config = std::fs::read_to_string(dir.join("einmal.toml")).unwrap();
    let tls = "\n[tls]\ncertificate = \"cert.pem\"\nkey = \"key.pem\"\n";
    std::fs::write(dir.join("einmal.toml"), config + tls).unwrap();
    text
}

fn start(dir: &str) -> Running {
    EINMAL.start(dir, &["--listen", "127.0.0.1:0"])
}

#[track_caller]
fn refused(dir: &str, words: &str) {
    let output: Output = EINMAL.command(&["run", "--dir", dir, "--listen", "127.0.0.1:0"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains(words), "`{words}` is not in: {text}");
}

async fn get(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin) -> String {
    let request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn https_is_served_with_the_nodes_own_certificate_and_plain_http_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let dir = mediator(folder.path(), None);
    let node = start(&dir);
    assert!(node.about["endpoints"][0].as_str().unwrap().starts_with("https://"), "{}", node.about);
    let address = node.said("listen").to_owned();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(Path::new(&dir).join("cert.pem")).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    // A client that never finishes the handshake blocks nobody.
    let _silent = TcpStream::connect(&address).await.unwrap();
    let tcp = TcpStream::connect(&address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let answer = get(connector.connect(name, tcp).await.unwrap()).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let plain = get(TcpStream::connect(&address).await.unwrap()).await;
    assert!(!plain.contains("HTTP/1.1"), "{plain}");
    // A certificate for another name is not accepted.
    let tcp = TcpStream::connect(&address).await.unwrap();
    assert!(connector.connect(ServerName::try_from("city.example").unwrap(), tcp).await.is_err());
}

#[test]
fn a_key_that_does_not_fit_is_open_to_all_or_missing_is_refused_with_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let dir = mediator(folder.path(), Some(&other.key_pair.serialize_pem()));
    refused(&dir, "take the key the certificate was made for");
    let key = Path::new(&dir).join("key.pem");
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o644)).unwrap();
    refused(&dir, "chmod 600");
    std::fs::remove_file(&key).unwrap();
    refused(&dir, "under [tls] key");
    std::fs::write(Path::new(&dir).join("cert.pem"), "nothing").unwrap();
    refused(&dir, "under [tls] certificate");
}
