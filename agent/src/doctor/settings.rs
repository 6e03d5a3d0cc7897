//! What the configuration names: files that must exist, a certificate that must be valid, a port that must be free.

use std::net::TcpListener;

use einmal_didcomm::UnixSeconds;
use tokio_rustls::rustls::pki_types::{CertificateDer, pem::PemObject};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use super::Finding;
use crate::{
    config::{Config, Role},
    error::SetupError,
    net::{p2p, tls::Tls},
    run,
    service::templates::{CityFiles, read_requests},
};

/// Days before its expiry from which a certificate should be renewed.
const RENEW_DAYS: u64 = 14;
const DAY_SECS: u64 = 24 * 3600;

/// Whether everything the configuration names is there and can be read.
pub(super) fn files(config: &Config, now: UnixSeconds) -> Finding {
    match config.role {
        Role::City => city_files(config, now),
        Role::Merchant => merchant_files(config),
        _ => Finding::ok("files", "it names none"),
    }
}

/// Whether the addresses it is to be reached at are such: of HTTP for its role, of libp2p if that is on. All is well if nothing is said.
pub(super) fn addresses(config: &Config) -> Vec<Finding> {
    let refused =
        |part, outcome: Result<(), SetupError>| outcome.err().map(|error| Finding::of_error(part, &error));
    let listening = refused("listen", run::check_listening(config));
    let by_peers = p2p::check(config).and_then(|outcome| refused("libp2p", outcome));
    listening.into_iter().chain(by_peers).collect()
}

fn missing(section: &str, member: &str, what: &str) -> Finding {
    let detail = format!("[{section}] has no `{member}`");
    Finding::failed("files", detail, format!("set `{member}` under [{section}] in einmal.toml to {what}"))
}

fn city_files(config: &Config, now: UnixSeconds) -> Finding {
    let settings = config.city.clone().unwrap_or_default();
    if settings.description.as_os_str().is_empty() {
        return missing("city", "description", "the path of a city.toml");
    }
    let files = match CityFiles::read(&settings.description, now) {
        Ok(files) => files,
        Err(error) => return Finding::of_error("files", &error),
    };
    let (people, skipped) = (files.register.people.len(), files.register.report.bad_row_count);
    let detail =
        format!("{people} people, {} templates, {} requests", files.templates.len(), files.requests.len());
    if skipped > 0 {
        let detail = format!("{detail}; {skipped} rows of the register are skipped");
        return Finding::note("files", detail, "see them with: einmal city register");
    }
    Finding::ok("files", detail)
}

fn merchant_files(config: &Config) -> Finding {
    let settings = config.merchant.clone().unwrap_or_default();
    if settings.requests.as_os_str().is_empty() {
        return missing("merchant", "requests", "a folder of request templates");
    }
    match read_requests(&settings.requests) {
        Err(error) => Finding::of_error("files", &error),
        Ok(requests) if requests.is_empty() => {
            let detail = format!("{} holds no request template", settings.requests.display());
            Finding::note("files", detail, "put a request template there, such as examples/wetzlar/requests")
        }
        Ok(_) if settings.trusted_issuers.is_empty() => Finding::note(
            "files",
            "no issuer is trusted, so every proof is refused",
            "name issuers in `trusted_issuers` under [merchant] in einmal.toml",
        ),
        Ok(requests) => Finding::ok("files", format!("{} requests", requests.len())),
    }
}

/// Whether certificate and key match and stay valid for some time; `None` if the node has none.
pub(super) fn certificate(config: &Config, now: UnixSeconds) -> Option<Finding> {
    let settings = config.tls.as_ref()?;
    if let Err(error) = Tls::load(settings) {
        return Some(Finding::of_error("certificate", &error));
    }
    let unreadable = |problem: String| {
        Finding::of_error("certificate", &SetupError::input(&settings.certificate, problem))
    };
    let der = match CertificateDer::from_pem_file(&settings.certificate) {
        Ok(der) => der,
        Err(error) => return Some(unreadable(error.to_string())),
    };
    Some(match X509Certificate::from_der(&der) {
        Ok((_, certificate)) => {
            let validity = certificate.validity();
            let seconds = |time: i64| UnixSeconds(u64::try_from(time).unwrap_or(0));
            judge_validity(
                now,
                seconds(validity.not_before.timestamp()),
                seconds(validity.not_after.timestamp()),
            )
        }
        Err(error) => unreadable(error.to_string()),
    })
}

fn judge_validity(now: UnixSeconds, from: UnixSeconds, until: UnixSeconds) -> Finding {
    let days = until.0.saturating_sub(now.0) / DAY_SECS;
    let remedy = "renew it: a changed file is loaded within a minute, without a restart";
    if now > until {
        return Finding::failed("certificate", "it has expired", remedy);
    }
    if now < from {
        return Finding::failed("certificate", "it is not valid yet", "set the clock right, or wait");
    }
    if days < RENEW_DAYS {
        return Finding::note("certificate", format!("it expires in {days} days"), remedy);
    }
    Finding::ok("certificate", format!("valid for {days} days"))
}

/// Whether a stopped node could listen; `None` if it never does.
pub(super) fn port(config: &Config) -> Option<Finding> {
    let address = config.listen.filter(|_| config.role != Role::Citizen)?;
    if address.ip().is_unspecified() && config.public_url.is_none() {
        return Some(Finding::failed(
            "listening",
            format!("listening on {address} does not say how others reach this node"),
            "set `public_url` in einmal.toml, or listen on one address",
        ));
    }
    Some(match TcpListener::bind(address) {
        Ok(_) => Finding::ok("listening", format!("{address} is free")),
        Err(error) => {
            let error = SetupError::Listen { address, problem: error.to_string() };
            let mut finding = Finding::of_error("listening", &error);
            finding.remedy = Some("stop what listens there, or set another `listen` in einmal.toml".into());
            finding
        }
    })
}

#[cfg(test)]
mod tests {
    use super::{super::State, *};

    #[test]
    fn a_certificate_is_good_within_its_time_and_a_note_before_its_end() {
        let day = |day: u64| UnixSeconds(day * DAY_SECS);
        let judged = |now| judge_validity(now, day(10), day(100)).state;
        assert_eq!(judged(day(9)), State::Failed);
        assert_eq!(judged(day(10)), State::Ok);
        assert_eq!(judged(day(86)), State::Ok);
        assert_eq!(judged(day(87)), State::Note);
        assert_eq!(judged(day(101)), State::Failed);
        let expired = judge_validity(day(101), day(10), day(100));
        assert!(expired.detail.contains("expired") && expired.remedy.unwrap().contains("renew"));
    }
}
