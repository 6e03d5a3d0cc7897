//! `einmal init`: a folder for a node, with the configuration its flags ask for.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::{args::Init, output};
use crate::{
    config::{self, CitizenSettings, CitySettings, Config, MerchantSettings, Role, TrustedIssuer},
    error::SetupError,
    home,
};

/// Makes the folder and says what to do next.
pub(super) fn make(init: &Init, json: bool) -> Result<(), SetupError> {
    let config = configuration(init)?;
    home::init(&init.dir.dir, &config)?;
    let next = format!("einmal run --dir {}", init.dir.dir.display());
    output::answer(&json!({"role": config.role, "dir": init.dir.dir, "next": next}), json);
    Ok(())
}

fn configuration(init: &Init) -> Result<Config, SetupError> {
    let role: Role = init.role.parse()?;
    refuse_flags_of_others(init, role)?;
    let mut config = Config::new(role);
    config.passphrase = init.passphrase;
    config.listen = init.listen.or(config.listen);
    if let Some(url) = &init.public_url {
        config::check_public_url(url).map_err(wrong)?;
        config.public_url = Some(url.clone());
    }
    if let Some(city) = &mut config.city {
        set_city(init, city)?;
    }
    if let Some(merchant) = &mut config.merchant {
        set_merchant(init, merchant)?;
    }
    if let Some(citizen) = &mut config.citizen {
        set_citizen(init, citizen)?;
    }
    config.check().map_err(wrong)?;
    Ok(config)
}

/// A flag that does nothing for this role is a misunderstanding, and must not be ignored.
fn refuse_flags_of_others(init: &Init, role: Role) -> Result<(), SetupError> {
    use Role::{Citizen, City, Mediator, Merchant};
    let flags: [(&str, bool, &[Role]); 10] = [
        ("listen", init.listen.is_some(), &[City, Merchant, Mediator]),
        ("public-url", init.public_url.is_some(), &[City, Merchant, Mediator]),
        ("description", init.description.is_some(), &[City]),
        ("status-ttl", init.status_ttl.is_some(), &[City]),
        ("requests", init.requests.is_some(), &[Merchant]),
        ("trust", !init.trust.is_empty(), &[Merchant]),
        ("clock-skew", init.clock_skew.is_some(), &[Merchant]),
        ("mediator", init.mediator.is_some(), &[Citizen]),
        ("poll-ms", init.poll_ms.is_some(), &[Citizen]),
        ("name", init.name.is_some(), &[City, Merchant]),
    ];
    match flags.into_iter().find(|(_, given, roles)| *given && !roles.contains(&role)) {
        Some((flag, ..)) => Err(wrong(format!("--{flag} is not for a {role}"))),
        None => Ok(()),
    }
}

fn set_city(init: &Init, city: &mut CitySettings) -> Result<(), SetupError> {
    if let Some(path) = &init.description {
        city.description = absolute(path, "examples/wetzlar/city.toml")?;
    }
    city.status_ttl_seconds = init.status_ttl.or(city.status_ttl_seconds);
    if let Some(name) = &init.name {
        city.display_name.clone_from(name);
    }
    Ok(())
}

fn set_merchant(init: &Init, merchant: &mut MerchantSettings) -> Result<(), SetupError> {
    if let Some(path) = &init.requests {
        merchant.requests = absolute(path, "examples/wetzlar/requests")?;
    }
    merchant.trusted_issuers = init.trust.iter().cloned().map(TrustedIssuer::Any).collect();
    merchant.clock_skew_seconds = init.clock_skew.or(merchant.clock_skew_seconds);
    if let Some(name) = &init.name {
        merchant.display_name.clone_from(name);
    }
    Ok(())
}

fn set_citizen(init: &Init, citizen: &mut CitizenSettings) -> Result<(), SetupError> {
    if let Some(url) = &init.mediator {
        config::mediator_of(url).map_err(wrong)?;
        citizen.mediator = Some(url.clone());
    }
    citizen.poll_ms = init.poll_ms.or(citizen.poll_ms);
    Ok(())
}

/// The absolute path, which stays valid wherever the node is started from.
fn absolute(path: &Path, example: &str) -> Result<PathBuf, SetupError> {
    path.canonicalize().map_err(|error| {
        let problem = format!("{error}; give a path that is there, such as {example}");
        SetupError::Input { path: path.to_owned(), problem }
    })
}

fn wrong(problem: String) -> SetupError {
    SetupError::Usage { problem, remedy: "see: einmal init --help".into() }
}
