//! The form in which an account reads letters, inferred from its behaviour: deployed wallets silently skip the other.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use einmal_flows::message_pickup::AttachedAs;
use einmal_storage::mail::MailboxId;

/// Most accounts remembered; beyond that all are forgotten.
const MAX_REMEMBERED: usize = 100_000;
/// Deliveries in one form without any confirmation before the other form is tried: a wallet may ask again for other
/// reasons, and read only this form.
const PATIENCE: u8 = 5;

/// Forms by account.
#[derive(Debug, Default)]
pub(crate) struct ReadForms(Mutex<HashMap<MailboxId, Standing>>);

#[derive(Debug)]
struct Standing {
    form: AttachedAs,
    /// Deliveries in this form of which nothing was confirmed.
    unread: u8,
    /// Something in this form was confirmed; from then on, unconfirmed letters do not count against it.
    is_read: bool,
}

impl Standing {
    fn new(form: AttachedAs) -> Self {
        Self { form, unread: 0, is_read: false }
    }
}

impl ReadForms {
    /// The form for the next delivery; `None` if nothing is known of the account.
    pub(crate) fn of(&self, account: MailboxId) -> Option<AttachedAs> {
        self.lock().get(&account).map(|standing| standing.form)
    }

    /// Letters were handed over in `form`.
    pub(crate) fn handed_over(&self, account: MailboxId, form: AttachedAs) {
        let mut known = self.lock();
        if known.len() >= MAX_REMEMBERED && !known.contains_key(&account) {
            known.clear();
        }
        let standing = known.entry(account).or_insert_with(|| Standing::new(form));
        standing.unread = standing.unread.saturating_add(1);
        if standing.unread >= PATIENCE && !standing.is_read {
            *standing = Standing::new(form.other());
        }
    }

    /// The account confirms letters it was handed.
    pub(crate) fn read(&self, account: MailboxId) {
        if let Some(standing) = self.lock().get_mut(&account).filter(|standing| standing.unread > 0) {
            *standing = Standing { is_read: true, ..Standing::new(standing.form) };
        }
    }

    /// The account confirms that it received nothing of what it was handed last.
    pub(crate) fn nothing_read(&self, account: MailboxId) {
        if let Some(standing) = self.lock().get_mut(&account).filter(|standing| standing.unread > 0) {
            *standing = Standing::new(standing.form.other());
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<MailboxId, Standing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNT: MailboxId = MailboxId([1; 20]);

    /// Hands letters over in the form that is due, and returns that form.
    fn deliver(forms: &ReadForms) -> AttachedAs {
        let form = forms.of(ACCOUNT).unwrap_or(AttachedAs::Json);
        forms.handed_over(ACCOUNT, form);
        form
    }

    #[test]
    fn where_nothing_is_confirmed_the_other_form_is_tried_and_what_is_read_stays() {
        use AttachedAs::{Base64, Json};
        let forms = ReadForms::default();
        let tries: Vec<_> = (0..3).map(|_| [(); PATIENCE as usize].map(|()| deliver(&forms))).collect();
        assert_eq!(tries, [[Json; 5], [Base64; 5], [Json; 5]]);
        assert_eq!(deliver(&forms), Base64);
        forms.read(ACCOUNT);
        // A letter that nobody can read lies before the others and is never confirmed.
        assert!((0..50).all(|_| deliver(&forms) == Base64));
    }

    #[test]
    fn who_confirms_nothing_at_all_gets_the_other_form_at_once() {
        let forms = ReadForms::default();
        forms.nothing_read(ACCOUNT);
        assert_eq!(deliver(&forms), AttachedAs::Json, "nothing was handed over before");
        forms.nothing_read(ACCOUNT);
        assert_eq!(deliver(&forms), AttachedAs::Base64);
        forms.nothing_read(ACCOUNT);
        forms.nothing_read(ACCOUNT);
        assert_eq!(deliver(&forms), AttachedAs::Json, "said twice of one delivery");
    }

    #[test]
    fn accounts_remembered_are_bounded() {
        let forms = ReadForms::default();
        for number in 0..=MAX_REMEMBERED as u64 {
            let mut id = [0; 20];
            id[..8].copy_from_slice(&number.to_be_bytes());
            forms.handed_over(MailboxId(id), AttachedAs::Json);
        }
        assert!(forms.lock().len() <= MAX_REMEMBERED);
    }
}
