//! How many files and connections the system lets this process open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Limits;

/// Files beside the connections of others: stores, the mail's segments, connections of our own.
const OF_OUR_OWN: u64 = 512;

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

/// Permits no more connections than there may be files, unless somebody has set how many there may be.
pub(crate) fn fit(limits: &mut Limits) {
    if limits.max_connections.is_none()
        && let Some((open, _)) = too_few(limits)
    {
        let connections = usize::try_from(open.saturating_sub(OF_OUR_OWN)).unwrap_or(usize::MAX);
        limits.max_connections = Some(connections.max(1));
    }
}

/// The number, if it is less than the connections that `limits` permit would take; and how many those are.
pub(crate) fn too_few(limits: &Limits) -> Option<(u64, u64)> {
    lacks(getrlimit(Resource::Nofile).current, limits)
}

/// `None` stands for no limit.
fn lacks(open: Option<u64>, limits: &Limits) -> Option<(u64, u64)> {
    let needed = (limits.connections() as u64).saturating_add(OF_OUR_OWN);
    open.filter(|open| *open < needed).map(|open| (open, needed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewer_files_than_connections_are_told_and_enough_are_not() {
        let limits = Limits { max_connections: Some(1_000), ..Limits::default() };
        assert_eq!(lacks(Some(1_511), &limits), Some((1_511, 1_512)));
        assert_eq!((lacks(Some(1_512), &limits), lacks(None, &limits)), (None, None));
    }

    #[test]
    fn the_number_is_raised_as_far_as_it_may_be() {
        raise();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!(current, maximum);
        let (mut fitting, mut set) =
            (Limits::default(), Limits { max_connections: Some(usize::MAX), ..Limits::default() });
        fit(&mut fitting);
        fit(&mut set);
        assert_eq!((too_few(&fitting), set.max_connections), (None, Some(usize::MAX)));
    }
}
