//! TLS with the operator's certificate files: loaded at the start, and again when the files change.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use tokio::net::TcpStream;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
    server::TlsStream,
};

use crate::{config::TlsSettings, error::SetupError};

/// Longest a client takes for the handshake.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the files are checked.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// The certificate in force.
pub struct Tls {
    settings: TlsSettings,
    present: Mutex<Present>,
}

struct Present {
    acceptor: TlsAcceptor,
    /// When the files it was loaded from were written.
    written: [Option<SystemTime>; 2],
    /// When those were written that did not load last, and were complained of.
    complained: Option<[Option<SystemTime>; 2]>,
    looked_at: Instant,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Tls {
    /// Loads certificate and key.
    ///
    /// # Errors
    ///
    /// [`SetupError::Setting`] naming the file and the remedy.
    pub fn load(settings: &TlsSettings) -> Result<Self, SetupError> {
        let written = stamps(settings);
        let acceptor = acceptor(settings)?;
        let present = Mutex::new(Present { acceptor, written, complained: None, looked_at: Instant::now() });
        Ok(Self { settings: settings.clone(), present })
    }

    /// The acceptor in force; changed files are loaded first. If they do not load, the old one stays in force.
    fn acceptor(&self) -> TlsAcceptor {
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        if present.looked_at.elapsed() >= LOOK_EVERY {
            present.looked_at = Instant::now();
            self.look(&mut present);
        }
        present.acceptor.clone()
    }

    fn look(&self, present: &mut Present) {
        let written = stamps(&self.settings);
        if written == present.written {
            return;
        }
        match acceptor(&self.settings) {
            Ok(acceptor) => {
                present.acceptor = acceptor;
                present.written = written;
                tracing::info!("the certificate was loaded again");
            }
            // Tried again at each look: what mends it, such as other rights, need not change when the files were written.
            Err(error) if present.complained != Some(written) => {
                present.complained = Some(written);
                tracing::error!(%error, "the changed certificate is not used");
            }
            Err(_) => {}
        }
    }

    /// Shakes hands with a client; `None` if that fails or takes too long.
    pub(super) async fn accept(&self, stream: TcpStream) -> Option<TlsStream<TcpStream>> {
        tokio::time::timeout(HANDSHAKE_TIMEOUT, self.acceptor().accept(stream)).await.ok()?.ok()
    }
}

fn stamps(settings: &TlsSettings) -> [Option<SystemTime>; 2] {
    let written = |path: &PathBuf| std::fs::metadata(path).and_then(|about| about.modified()).ok();
    [written(&settings.certificate), written(&settings.key)]
}

fn acceptor(settings: &TlsSettings) -> Result<TlsAcceptor, SetupError> {
    let wrong = |path: &Path, problem: &dyn fmt::Display, remedy: &str| SetupError::Setting {
        problem: format!("{}: {problem}", path.display()),
        remedy: remedy.to_owned(),
    };
    let certificate = &settings.certificate;
    let chain =
        CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(
            |error| wrong(certificate, &error, "name the certificate chain in PEM under [tls] certificate"),
        )?;
    if chain.is_empty() {
        return Err(wrong(
            certificate,
            &"holds no certificate",
            "name the certificate chain in PEM under [tls] certificate",
        ));
    }
    check_rights(&settings.key)?;
    let key = PrivateKeyDer::from_pem_file(&settings.key)
        .map_err(|error| wrong(&settings.key, &error, "name the private key in PEM under [tls] key"))?;
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(SetupError::internal)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| wrong(&settings.key, &error, "take the key the certificate was made for"))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Nobody else may read the key.
fn check_rights(key: &Path) -> Result<(), SetupError> {
    use std::os::unix::fs::PermissionsExt;
    let Ok(about) = std::fs::metadata(key) else { return Ok(()) };
    let mode = about.permissions().mode() & 0o7777;
    if mode & 0o007 == 0 {
        return Ok(());
    }
    Err(SetupError::Setting {
        problem: format!("{} can be used by everybody (mode {mode:04o})", key.display()),
        remedy: format!("run: chmod 600 {}", key.display()),
    })
}
