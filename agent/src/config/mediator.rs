//! The mediator a citizen's configuration names: by an invitation that is not for something else.

use einmal_flows::out_of_band::Invitation;

/// What the goal codes of this program's invitations to other things than mediation begin with.
const OTHER_GOALS: &str = "einmal.";

/// Reads the invitation of a mediator. Mediators of other makes name goals of their own, or none; a city's invitation, though, is
/// certainly none of a mediator.
///
/// # Errors
///
/// A description with the remedy.
pub(crate) fn mediator_of(url: &str) -> Result<Invitation, String> {
    let remedy = "give the URL that `einmal run` or `einmal invite` prints at the mediator";
    let invitation = Invitation::from_url(url)
        .map_err(|error| format!("`mediator` is no invitation that can be taken ({error}); {remedy}"))?;
    match invitation.goal_code.as_deref().filter(|goal| goal.starts_with(OTHER_GOALS)) {
        Some(goal) => {
            Err(format!("`mediator` is no mediator's invitation, it is one for `{goal:.40}`; {remedy}"))
        }
        None => Ok(invitation),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn url(goal: Option<&str>) -> String {
        let from = "did:web:city.example".parse().unwrap();
        let mut invitation = Invitation::new("1".try_into().unwrap(), from);
        invitation.goal_code = goal.map(str::to_owned);
        invitation.to_url("https://city.example")
    }

    #[test]
    fn an_invitation_to_something_else_is_refused_as_mediator_and_so_is_what_is_none() {
        let configured = |url: &str| {
            let parsed = Config::parse(&format!("role = \"citizen\"\n[citizen]\nmediator = \"{url}\""));
            parsed.map(|_| ())
        };
        for goal in ["einmal.connect", "einmal.credential.issue"] {
            let problem = configured(&url(Some(goal))).unwrap_err();
            assert!(problem.contains(goal) && problem.contains("at the mediator"), "{problem}");
        }
        for goal in [None, Some("request-mediate"), Some("of-another-make")] {
            assert_eq!(configured(&url(goal)), Ok(()));
        }
        let problem = configured("foo").unwrap_err();
        assert!(problem.contains("`mediator`") && problem.contains("einmal invite"), "{problem}");
    }
}
