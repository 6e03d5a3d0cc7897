//! Letters whose clearing is on its way to the disk: they are still there, but stand for no other.

use std::collections::HashMap;

use super::job::Work;
use crate::mail::{LetterId, MailboxId};

/// What clearings will take that are not carried out yet.
///
/// Not what removals will take: whoever has a letter removed has read it, and the same letter, sent again by somebody who had not heard
/// that it was taken, need not come to it once more.
#[derive(Default)]
pub(super) struct Leaving {
    /// For each mailbox up to which letter it is cleared, and how many clearings are on their way.
    cleared: HashMap<MailboxId, (u64, u32)>,
}

impl Leaving {
    /// Whether the letter will be gone, unread.
    pub(super) fn takes(&self, mailbox: MailboxId, letter: LetterId) -> bool {
        self.cleared.get(&mailbox).is_some_and(|(last, _)| letter.0 <= *last)
    }

    pub(super) fn enter(&mut self, work: &Work) {
        if let Work::Clear(mailbox, last) = work {
            let (up_to, count) = self.cleared.entry(*mailbox).or_default();
            *up_to = (*last).max(*up_to);
            *count += 1;
        }
    }

    /// Undoes [`Leaving::enter`] once the work is done, or will never be. While one of several clearings of a mailbox is on its
    /// way, the latest letter of all counts: what the others took is gone.
    pub(super) fn retire(&mut self, work: &Work) {
        if let Work::Clear(mailbox, _) = work {
            match self.cleared.get_mut(mailbox) {
                Some((_, count)) if *count > 1 => *count -= 1,
                _ => drop(self.cleared.remove(mailbox)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: MailboxId = MailboxId([1; 20]);

    #[test]
    fn letter_stands_for_others_again_only_when_all_that_would_take_it_unread_is_done() {
        let works = [Work::Remove(ALICE, vec![LetterId(9)]), Work::Clear(ALICE, 3), Work::Clear(ALICE, 2)];
        let mut leaving = Leaving::default();
        works.iter().for_each(|work| leaving.enter(work));
        let taken = |leaving: &Leaving| [1, 3, 4, 9].map(|id| leaving.takes(ALICE, LetterId(id)));
        assert_eq!(taken(&leaving), [true, true, false, false]);
        assert!(!leaving.takes(MailboxId([2; 20]), LetterId(3)), "another mailbox");
        leaving.retire(&works[0]);
        leaving.retire(&works[1]);
        assert_eq!(taken(&leaving), [true, true, false, false]);
        leaving.retire(&works[2]);
        assert_eq!(taken(&leaving), [false; 4]);
        assert!(leaving.cleared.is_empty());
    }
}
