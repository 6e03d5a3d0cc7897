//! The four roles: what each does with messages, timers and its user's commands.

mod citizen;
mod city;
mod mediator;
mod merchant;

use crate::{
    config::Role,
    error::SetupError,
    handler::{RoleService, Shared},
};

/// The service of the configured role.
pub(crate) fn service(shared: &Shared) -> Result<Box<dyn RoleService>, SetupError> {
    Ok(match shared.config.role {
        Role::City => Box::new(city::City::new(shared)?),
        Role::Merchant => Box::new(merchant::Merchant::new(shared)?),
        Role::Citizen => Box::new(citizen::Citizen::default()),
        Role::Mediator => Box::new(mediator::Mediator::new(shared)?),
    })
}
