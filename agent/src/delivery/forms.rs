//! In which form an account reads the letters of a delivery, as far as its behaviour tells: deployed wallets read one form and
//! pass over the other without a word.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use einmal_flows::message_pickup::AttachedAs;
use einmal_storage::mail::MailboxId;

/// Most accounts remembered; then all are forgotten, and begin anew.
const MAX_REMEMBERED: usize = 100_000;
/// As often a letter is handed over in one form before the other is tried: a wallet may ask again for other reasons, and read
/// this form only.
const PATIENCE: u8 = 5;

/// Forms by account.
#[derive(Debug, Default)]
pub(crate) struct ReadForms(Mutex<HashMap<MailboxId, Standing>>);

#[derive(Debug)]
struct Standing {
    form: AttachedAs,
    /// The first letter of the last delivery.
    first: String,
    /// How often it was handed over in this form.
    times: u8,
}

impl ReadForms {
    /// The form for the next delivery; `None` if nothing is known of the account.
    pub(crate) fn of(&self, account: MailboxId) -> Option<AttachedAs> {
        self.lock().get(&account).map(|standing| standing.form)
    }

    /// Letters were handed over in `form`, `first` before the others.
    pub(crate) fn handed_over(&self, account: MailboxId, form: AttachedAs, first: &str) {
        let mut known = self.lock();
        if known.len() >= MAX_REMEMBERED && !known.contains_key(&account) {
            known.clear();
        }
        let fresh = Standing { form, first: first.to_owned(), times: 0 };
        let standing = known.entry(account).or_insert(fresh);
        if standing.first != first {
            first.clone_into(&mut standing.first);
            standing.times = 0;
        }
        standing.times += 1;
        if standing.times >= PATIENCE {
            *standing = Standing { form: form.other(), first: first.to_owned(), times: 0 };
        }
    }

    /// The account confirms that it has received nothing of what was handed over last.
    pub(crate) fn nothing_read(&self, account: MailboxId) {
        if let Some(standing) = self.lock().get_mut(&account).filter(|standing| standing.times > 0) {
            standing.form = standing.form.other();
            standing.times = 0;
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

    /// Hands a letter over in the form that is due, and says which that was.
    fn deliver(forms: &ReadForms, first: &str) -> AttachedAs {
        let form = forms.of(ACCOUNT).unwrap_or(AttachedAs::Json);
        forms.handed_over(ACCOUNT, form, first);
        form
    }

    #[test]
    fn a_letter_that_is_not_confirmed_comes_in_the_other_form_and_what_is_read_stays() {
        use AttachedAs::{Base64, Json};
        let forms = ReadForms::default();
        let tries: Vec<_> = (0..3).map(|_| [(); PATIENCE as usize].map(|()| deliver(&forms, "a"))).collect();
        assert_eq!(tries, [[Json; 5], [Base64; 5], [Json; 5]]);
        // Confirmed in this form: another letter is the first.
        assert_eq!(deliver(&forms, "a"), Base64);
        assert_eq!([deliver(&forms, "b"), deliver(&forms, "c"), deliver(&forms, "d")], [Base64; 3]);
    }

    #[test]
    fn who_confirms_nothing_at_all_gets_the_other_form_at_once() {
        let forms = ReadForms::default();
        forms.nothing_read(ACCOUNT);
        assert_eq!(deliver(&forms, "a"), AttachedAs::Json, "nothing was handed over before");
        forms.nothing_read(ACCOUNT);
        assert_eq!(deliver(&forms, "a"), AttachedAs::Base64);
        forms.nothing_read(ACCOUNT);
        forms.nothing_read(ACCOUNT);
        assert_eq!(deliver(&forms, "a"), AttachedAs::Json, "said twice of one delivery");
    }

    #[test]
    fn accounts_remembered_are_bounded() {
        let forms = ReadForms::default();
        for number in 0..=MAX_REMEMBERED as u64 {
            let mut id = [0; 20];
            id[..8].copy_from_slice(&number.to_be_bytes());
            forms.handed_over(MailboxId(id), AttachedAs::Json, "a");
        }
        assert!(forms.lock().len() <= MAX_REMEMBERED);
    }
}
