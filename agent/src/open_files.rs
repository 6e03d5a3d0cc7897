//! How many files and connections the system lets this process open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::{Config, Limits, Role};

/// Files beside the connections of others: stores, the mail's segments, connections of our own.
const OF_OUR_OWN: u64 = 512;
/// Connections by libp2p: of a mediator, and of others.
const BY_LIBP2P: (u64, u64) = (4_096, 512);

/// Files that are not for connections by HTTP.
fn set_apart(config: &Config) -> u64 {
    let by_libp2p = match config.p2p.as_ref().filter(|settings| settings.enabled) {
        Some(_) if config.role == Role::Mediator => BY_LIBP2P.0,
        Some(_) => BY_LIBP2P.1,
        None => 0,
    };
    OF_OUR_OWN + by_libp2p
}

/// Raises the number as far as the system lets this process: the usual one is meant for programs that wait for one file at a time, and
/// one visitor alone could use it up.
pub(crate) fn raise() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

/// Permits no more connections than there may be files, unless somebody has set how many there may be. Nobody's share is more than an
/// eighth then.
pub(crate) fn fit(config: &mut Config) {
    fit_to(getrlimit(Resource::Nofile).current, config);
}

fn fit_to(open: Option<u64>, config: &mut Config) {
    let is_ours_to_set = config.role != Role::Citizen && config.limits.max_connections.is_none();
    let Some((open, needed)) = lacks(open, config).filter(|_| is_ours_to_set) else { return };
    // Even where others may need as many, some remain.
    let left = open.saturating_sub(set_apart(config)).max(open / 4).max(16);
    let left = usize::try_from(left).unwrap_or(usize::MAX);
    tracing::info!(
        open,
        needed,
        connections = left,
        "fewer files may be open than all connections need: fewer are taken"
    );
    let Limits { max_connections, max_connections_per_address, max_pending, max_pending_per_address, .. } =
        &mut config.limits;
    *max_connections = Some(left);
    max_connections_per_address.get_or_insert((left / 8).min(1_024));
    max_pending.get_or_insert((left / 4).min(4_096));
    max_pending_per_address.get_or_insert((left / 16).clamp(1, 256));
}

/// The number of files that may be open, if it is less than what the configuration permits would take; and how many those are.
pub(crate) fn too_few(config: &Config) -> Option<(u64, u64)> {
    lacks(getrlimit(Resource::Nofile).current, config)
}

/// `None` stands for no limit.
fn lacks(open: Option<u64>, config: &Config) -> Option<(u64, u64)> {
    let needed = (config.limits.connections() as u64).saturating_add(set_apart(config));
    open.filter(|open| *open < needed).map(|open| (open, needed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set_to(connections: Option<usize>) -> Config {
        let mut config = Config::new(Role::Mediator);
        config.limits.max_connections = connections;
        config
    }

    #[test]
    fn fewer_files_than_connections_are_told_and_enough_are_not() {
        let mut config = set_to(Some(1_000));
        assert_eq!(lacks(Some(1_511), &config), Some((1_511, 1_512)));
        assert_eq!((lacks(Some(1_512), &config), lacks(None, &config)), (None, None));
        config.p2p = Some(crate::config::P2pSettings::default());
        assert_eq!(lacks(Some(1_512), &config), Some((1_512, 5_608)));
    }

    #[test]
    fn the_number_is_raised_as_far_as_it_may_be() {
        raise();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!(current, maximum);
    }

    #[test]
    fn where_few_files_may_be_open_no_address_has_more_than_an_eighth_and_what_is_set_stays() {
        let mut few = set_to(None);
        fit_to(Some(1_024), &mut few);
        assert_eq!(lacks(Some(1_024), &few), None);
        let limits = &few.limits;
        assert_eq!((limits.connections(), limits.connections_per_address()), (512, 64));
        assert_eq!((limits.pending(), limits.pending_per_address()), (128, 32));
        let mut set = set_to(Some(usize::MAX));
        fit_to(Some(1_024), &mut set);
        assert_eq!((set.limits.connections(), set.limits.connections_per_address()), (usize::MAX, 1_024));
        let mut enough = set_to(None);
        fit_to(Some(1_000_000), &mut enough);
        assert_eq!(enough.limits.max_connections, None);
    }
}
