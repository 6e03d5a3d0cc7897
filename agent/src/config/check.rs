//! What the types of the settings do not say: values that would refuse everybody, lose mail, or end the node.

use std::ops::RangeInclusive;

use einmal_did::Did;

use super::{Config, Limits, MediatorSettings, Role, mediator_of};

/// Most connections that can be asked for, open or pending, of one address or in all.
const MAX_CONNECTIONS: u64 = 1_000_000;
/// Longest a connection may be given for its first request, in seconds.
const MAX_PENDING_SECONDS: u64 = 3_600;
/// Largest difference between clocks that can be tolerated, in seconds.
const MAX_CLOCK_SKEW_SECONDS: u64 = 3_600;
/// Longest a status list may be cached, in seconds: a year.
const MAX_STATUS_TTL_SECONDS: u64 = 365 * 24 * 3_600;
/// Most DIDs one account can be allowed to register.
const MAX_RECIPIENTS: u64 = 1_000;

/// A number among the settings: its name, what it is set to, and what it may be.
type Number = (&'static str, Option<u64>, RangeInclusive<u64>);

impl Config {
    /// Checks what a type does not say.
    ///
    /// # Errors
    ///
    /// A description of what is wrong, with the remedy.
    pub fn check(&self) -> Result<(), String> {
        if let Some(url) = &self.public_url {
            check_public_url(url)?;
            if matches!(self.role, Role::City | Role::Merchant) && is_elsewhere_by_address(url) {
                return Err(format!(
                    "`public_url = \"{url}\"` names no host: the DID of a city or merchant is made of it, and did:web needs a DNS name; write it like https://city.example"
                ));
            }
        }
        if self.mediator.as_ref().is_some_and(|mediator| mediator.keep_seconds == Some(0)) {
            return Err(
                "`keep_seconds = 0` would accept mail and keep none of it; leave it out for 30 days".into()
            );
        }
        if self.citizen.as_ref().is_some_and(|citizen| citizen.poll_ms == Some(0)) {
            return Err("`poll_ms = 0` would ask the mediator without pause; leave it out".into());
        }
        if let Some(url) = self.citizen.as_ref().and_then(|citizen| citizen.mediator.as_deref()) {
            mediator_of(url)?;
        }
        let limits = self.limits.numbers();
        let mediator = self.mediator.iter().flat_map(MediatorSettings::numbers);
        limits.into_iter().chain(mediator).chain(self.other_numbers()).try_for_each(check_number)?;
        for trusted in self.merchant.iter().flat_map(|merchant| &merchant.trusted_issuers) {
            Did::parse(trusted.did()).map_err(|error| {
                format!(
                    "`{}` among `trusted_issuers` is no DID ({error}); write it like did:web:city.example",
                    trusted.did()
                )
            })?;
        }
        Ok(())
    }

    fn other_numbers(&self) -> [Number; 2] {
        let ttl = self.city.as_ref().and_then(|city| city.status_ttl_seconds);
        let skew = self.merchant.as_ref().and_then(|merchant| merchant.clock_skew_seconds);
        [
            ("status_ttl_seconds", ttl, 1..=MAX_STATUS_TTL_SECONDS),
            ("clock_skew_seconds", skew, 0..=MAX_CLOCK_SKEW_SECONDS),
        ]
    }
}

impl Limits {
    /// Zero of any would refuse everybody, and more cannot be counted, or added to a time.
    fn numbers(&self) -> [Number; 5] {
        let few = 1..=MAX_CONNECTIONS;
        [
            ("max_connections", wide(self.max_connections), few.clone()),
            ("max_connections_per_address", wide(self.max_connections_per_address), few.clone()),
            ("max_pending", wide(self.max_pending), few.clone()),
            ("max_pending_per_address", wide(self.max_pending_per_address), few),
            ("pending_seconds", self.pending_seconds, 1..=MAX_PENDING_SECONDS),
        ]
    }
}

impl MediatorSettings {
    fn numbers(&self) -> [Number; 5] {
        let some = 1..=u64::MAX;
        [
            ("max_queue", self.max_queue, some.clone()),
            ("max_queue_bytes", self.max_queue_bytes, some.clone()),
            ("max_total_queue", self.max_total_queue, some.clone()),
            ("max_total_bytes", self.max_total_bytes, some),
            ("max_recipients", wide(self.max_recipients), 1..=MAX_RECIPIENTS),
        ]
    }
}

fn wide(number: Option<usize>) -> Option<u64> {
    number.map(|number| u64::try_from(number).unwrap_or(u64::MAX))
}

fn check_number((name, set, may): Number) -> Result<(), String> {
    let Some(number) = set.filter(|number| !may.contains(number)) else { return Ok(()) };
    let (least, most) = (may.start(), may.end());
    let bounds = if *most == u64::MAX { format!("at least {least}") } else { format!("{least} to {most}") };
    Err(format!("`{name} = {number}` is out of range: {bounds}; correct it, or leave it out for the default"))
}

/// A public URL is `http(s)://host[:port]`, with nothing behind it.
///
/// # Errors
///
/// A description with the remedy.
pub fn check_public_url(text: &str) -> Result<(), String> {
    let remedy = "write it like https://city.example or https://city.example:8443";
    let url = url::Url::parse(text).map_err(|error| format!("`public_url` is no URL ({error}); {remedy}"))?;
    // As written: DIDs and the address of the socket are made of the text.
    let plain = (text.starts_with("http://") || text.starts_with("https://"))
        && url.host().is_some()
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && !text.contains('@');
    if plain { Ok(()) } else { Err(format!("`public_url` must be scheme, host and port only; {remedy}")) }
}

/// Whether a URL names another machine by its address.
fn is_elsewhere_by_address(url: &str) -> bool {
    match url::Url::parse(url).ok().as_ref().and_then(url::Url::host) {
        Some(url::Host::Ipv4(ip)) => !ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => !ip.is_loopback(),
        Some(url::Host::Domain(_)) | None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_would_lose_mail_or_refuse_everybody_are_refused_with_the_remedy() {
        for (text, remedy) in [
            ("role = \"mediator\"\n[mediator]\nkeep_seconds = 0", "leave it out for 30 days"),
            ("role = \"citizen\"\n[citizen]\npoll_ms = 0", "leave it out"),
            ("role = \"merchant\"\n[merchant]\ntrusted_issuers = [\"city.example\"]", "did:web:city.example"),
            ("role = \"city\"\npublic_url = \"HTTPS://city.example\"", "https://city.example"),
        ] {
            let problem = Config::parse(text).unwrap_err();
            assert!(problem.contains(remedy), "{problem}");
        }
        assert!(Config::parse("role = \"mediator\"\n[mediator]\nkeep_seconds = 1").is_ok());
        for (role, refused) in [("city", true), ("merchant", true), ("mediator", false)] {
            let at =
                |host: &str| Config::parse(&format!("role = \"{role}\"\npublic_url = \"https://{host}\""));
            assert_eq!(at("192.0.2.1").is_err(), refused, "{role}");
            assert!(at("127.0.0.1:7001").is_ok() && at("city.example").is_ok());
        }
    }

    #[test]
    fn numbers_that_would_refuse_everybody_or_overflow_are_refused_and_their_bounds_are_named() {
        let parse = |section: &str, name: &str, number: u64| {
            let role = if section == "limits" { "mediator" } else { section };
            Config::parse(&format!("role = \"{role}\"\n[{section}]\n{name} = {number}"))
        };
        let check = |section: &str, (name, _, may): Number| {
            let wrong = [may.start().checked_sub(1), may.end().checked_add(1)];
            for number in wrong.into_iter().flatten() {
                let problem = parse(section, name, number).unwrap_err();
                assert!(problem.contains(name) && problem.contains("leave it out"), "{problem}");
            }
            let most = *may.end().min(&(i64::MAX.unsigned_abs()));
            for number in [*may.start(), most] {
                assert!(parse(section, name, number).is_ok(), "{name} = {number}");
            }
        };
        Limits::default().numbers().into_iter().for_each(|number| check("limits", number));
        MediatorSettings::default().numbers().into_iter().for_each(|number| check("mediator", number));
        let [ttl, skew] = Config::new(Role::City).other_numbers();
        check("city", ttl);
        check("merchant", skew);
        assert!(
            parse("limits", "pending_seconds", i64::MAX.unsigned_abs()).is_err(),
            "it was taken, and the node listened nowhere"
        );
    }

    #[test]
    fn public_url_with_path_or_other_scheme_is_refused_with_the_remedy() {
        for bad in [
            "https://city.example/agent",
            "ftp://city.example",
            "city.example",
            "https://u@c.example",
            "https://:secret@c.example",
        ] {
            assert!(check_public_url(bad).unwrap_err().contains("https://city.example"), "{bad}");
        }
        assert_eq!(check_public_url("https://city.example:8443"), Ok(()));
    }
}
