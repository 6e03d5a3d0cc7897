//! When and to whom the outbox sends: recipients side by side, so none waits for another that does not answer.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use einmal_storage::StoreError;
use tokio::{
    task::{JoinError, JoinSet, spawn_blocking},
    time::Instant,
};

use super::{
    Item, LONGEST_PAUSE_MS, due_ms,
    seats::{MAX_SERVED, Round, Served, Standing},
};
use crate::{handler::Origin, node::Node};

/// Most messages read at once.
const PAGE: usize = 500;
/// Most pages searched for recipients that are not being served.
const MAX_PAGES: usize = 20;
/// How soon the outbox looks again for what was due and had to be left.
const LEFT_PAUSE: Duration = Duration::from_secs(1);
/// Longest time between two looks.
const LONGEST_REST: Duration = Duration::from_secs(60);
/// Pause after the store failed: a message whose outcome cannot be recorded must not be sent again and again.
const FAILED_PAUSE: Duration = Duration::from_secs(5);
/// Most bytes of messages one look takes in: what is left comes with the next.
const MAX_LOOK_BYTES: usize = 64 * 1024 * 1024;
/// Under load one look serves the messages of this period.
const GATHERED: Duration = Duration::from_millis(5);
/// Under load, pause between looks as a multiple of the last look's duration: a full outbox must not take a processor.
const REST_AFTER_LOOK: u32 = 4;

/// A recipient's seat; given back when dropped.
struct Seat {
    node: Arc<Node>,
    recipient: String,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.node.outbox_served.leave(&self.recipient);
    }
}

type Sending = JoinSet<Result<(), StoreError>>;

/// What a look into the outbox found.
#[derive(Debug, Default)]
struct Look {
    /// When the next message falls due, in Unix milliseconds.
    next: Option<u64>,
    /// Something due was left: its recipient is being served already, or all seats are taken.
    left: bool,
    /// The message after which the next look begins; `None` for the first.
    turn: Option<Vec<u8>>,
}

impl Look {
    fn pause(&self, now_ms: u64) -> Duration {
        let due = self.next.map(|due| Duration::from_millis(due.saturating_sub(now_ms).max(10)));
        let pause = due.map_or(LONGEST_REST, |due| due.min(LONGEST_REST));
        if self.left { pause.min(LEFT_PAUSE) } else { pause }
    }
}

/// What is due, by recipient; recipients in the order of their first message.
#[derive(Default)]
struct Due {
    order: Vec<String>,
    groups: HashMap<String, Group>,
    of: HashMap<Standing, usize>,
    of_one: HashMap<(Standing, Origin), usize>,
    /// Recipients that find no seat: none of their further messages may pass the first.
    left: HashSet<String>,
    /// What the looks before this one saw.
    round: Round,
    /// The present, in Unix milliseconds.
    now: u64,
    /// When the first of the messages that are put off falls due.
    put_off: Option<u64>,
    /// Bytes of the messages taken in.
    bytes: usize,
}

/// What is due for one recipient.
struct Group {
    standing: Standing,
    /// The origin of the first of them.
    from: Option<Origin>,
    items: Vec<(Vec<u8>, Item)>,
}

impl Due {
    /// Takes messages in; true if any is left, because its recipient is among those `served`, or because no seat
    /// remains for its standing, or for its standing and origin.
    fn take_in(&mut self, items: Vec<(Vec<u8>, Item)>, served: &HashSet<String>, seats: &Served) -> bool {
        let mut left = false;
        for (id, item) in items {
            let recipient = item.to.canonical().to_string();
            if let Some(due) = seats.is_put_off(&recipient, self.now, 2 * LONGEST_PAUSE_MS) {
                self.put_off = Some(self.put_off.map_or(due, |first| first.min(due)));
                continue;
            }
            if served.contains(&recipient) || self.left.contains(&recipient) || self.round.has_met(&recipient)
            {
                self.left.insert(recipient);
                left = true;
                continue;
            }
            if let Some(group) = self.groups.get_mut(&recipient) {
                self.bytes = self.bytes.saturating_add(item.bytes);
                group.items.push((id, item));
                continue;
            }
            let standing = seats.standing(&recipient, item.attempts);
            if !self.count(standing, item.from) {
                self.left.insert(recipient);
                left = true;
                continue;
            }
            self.bytes = self.bytes.saturating_add(item.bytes);
            self.order.push(recipient.clone());
            self.groups.insert(recipient, Group { standing, from: item.from, items: vec![(id, item)] });
        }
        left
    }

    /// Counts one more recipient; false if there are enough like it.
    fn count(&mut self, standing: Standing, from: Option<Origin>) -> bool {
        let alike = self.of.entry(standing).or_default();
        let mut none = 0;
        let of_one = from.map_or(&mut none, |from| self.of_one.entry((standing, from)).or_default());
        let fits = *alike < standing.most() && *of_one < standing.most_of_one();
        if fits {
            *alike += 1;
            *of_one += 1;
        }
        fits
    }

    /// Whether reading more would be in vain. Only recipients that answer count: others get some of the seats at most,
    /// and must not hide those behind them.
    fn fills_all_seats(&self) -> bool {
        self.of.get(&Standing::Answers).is_some_and(|count| *count >= MAX_SERVED)
    }

    /// Takes in what is due by `now`, in Unix milliseconds, page by page, from behind `begin` or from the first
    /// message.
    fn take_in_pages(
        &mut self,
        begin: Option<Vec<u8>>,
        now: u64,
        page_behind: impl Fn(Option<&[u8]>) -> Result<Vec<(Vec<u8>, Item)>, StoreError>,
        take_in: impl Fn(&mut Self, Vec<(Vec<u8>, Item)>) -> bool,
    ) -> Result<Look, StoreError> {
        let mut look = Look { left: begin.is_some(), ..Look::default() };
        let mut after = begin;
        for _ in 0..MAX_PAGES {
            let mut page = page_behind(after.as_deref())?;
            // A page of long messages may hold fewer than were asked for: only an empty one is the end.
            let Some((last, _)) = page.last() else { return Ok(look) };
            after = Some(last.clone());
            let later = page.iter().position(|(id, _)| due_ms(id) > now);
            if let Some(later) = later {
                look.next = page.get(later).map(|(id, _)| due_ms(id));
                page.truncate(later);
            }
            look.left |= take_in(self, page);
            if later.is_some() {
                return Ok(look);
            }
            if self.fills_all_seats() {
                return Ok(Look { left: true, ..look });
            }
            if self.bytes > MAX_LOOK_BYTES {
                break;
            }
        }
        // More is due than one look takes in: the next one goes on here, so nobody stands behind a pile for ever.
        Ok(Look { left: true, turn: after, ..look })
    }

    /// The round after this look, which ended at `turn`.
    fn round_after(&mut self, turn: Option<&Vec<u8>>) -> Round {
        let mut round = std::mem::take(&mut self.round);
        round.turn = turn.cloned();
        if round.turn.is_none() {
            return Round::default();
        }
        self.left.iter().chain(self.groups.keys()).for_each(|recipient| round.meet(recipient));
        round
    }

    fn into_groups(mut self) -> impl Iterator<Item = (String, Group)> {
        let order = std::mem::take(&mut self.order).into_iter();
        order.filter_map(move |recipient| {
            let (recipient, mut group) = self.groups.remove_entry(&recipient)?;
            // Some may have been put off and others not: they go in the order they were queued.
            group.items.sort_by_key(|(_, item)| item.queued_ms);
            Some((recipient, group))
        })
    }
}

impl Node {
    /// Sends what is due until told to stop; wakes when something is committed or falls due.
    pub async fn run_outbox(self: Arc<Self>) {
        let mut sending = Sending::new();
        loop {
            let begun = Instant::now();
            let look = self.look_aside().await.map(|(due, look)| self.launch(due, look, &mut sending));
            let rest = begun.elapsed().saturating_mul(REST_AFTER_LOOK);
            let (pause, left) = match &look {
                Ok(look) => (look.pause(self.shared.present().steady_ms), look.left),
                Err(error) => {
                    tracing::error!(%error, "the outbox cannot be read");
                    (FAILED_PAUSE, false)
                }
            };
            self.wait(&mut sending, pause, left).await;
            if !sending.is_empty() {
                tokio::time::sleep(rest.max(GATHERED)).await;
            }
        }
    }

    /// Looks from a thread that may block: a full outbox is long.
    async fn look_aside(self: &Arc<Self>) -> Result<(Due, Look), StoreError> {
        let node = Arc::clone(self);
        spawn_blocking(move || node.look()).await.map_err(|_| StoreError::TaskPanicked)?
    }

    /// Waits until there may be something to send.
    async fn wait(&self, sending: &mut Sending, pause: Duration, left: bool) {
        let mut timer = std::pin::pin!(tokio::time::sleep(pause));
        loop {
            tokio::select! {
                () = self.outbox_bell.notified() => return,
                () = timer.as_mut() => return,
                Some(done) = sending.join_next() => {
                    if let Err(error) = settled(done) {
                        tracing::error!(%error, "the outbox cannot be written");
                        return tokio::time::sleep(FAILED_PAUSE).await;
                    }
                    if left && sending.len() <= MAX_SERVED / 2 {
                        return;
                    }
                }
            }
        }
    }

    /// Sends everything that is due, once. Returns when the next message falls due, in Unix milliseconds.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the outbox cannot be read or written.
    pub async fn outbox_pass(self: &Arc<Self>) -> Result<Option<u64>, StoreError> {
        let mut sending = Sending::new();
        let (due, look) = self.look()?;
        let look = self.launch(due, look, &mut sending);
        let sent_something = !sending.is_empty();
        while let Some(done) = sending.join_next().await {
            settled(done)?;
        }
        if sent_something || look.left {
            // Failed messages were put back with a later instant, and new ones may have come.
            let first = self.queued(None, 1)?;
            return Ok(first.first().map(|(id, _)| due_ms(id)));
        }
        Ok(look.next)
    }

    /// Begins to send what is due to recipients that are not being served.
    fn launch(self: &Arc<Self>, due: Due, mut look: Look, sending: &mut Sending) -> Look {
        for (recipient, group) in due.into_groups() {
            if !self.outbox_served.take(&recipient, group.standing, group.from) {
                look.left = true;
                continue;
            }
            let seat = Seat { node: Arc::clone(self), recipient };
            let node = Arc::clone(self);
            sending.spawn(async move {
                let _seat = seat;
                node.send_group(group.items).await
            });
        }
        look
    }

    /// Reads what is due, except for recipients that are being served.
    fn look(&self) -> Result<(Due, Look), StoreError> {
        let seats = &self.outbox_served;
        // Asked first: messages read for a recipient while it is served may be stale by the time its seat is free.
        let served = &seats.recipients();
        let now = self.shared.present().steady_ms;
        // No pause is that long: these instants come from a clock that was ahead, and must not wait until it is right.
        let too_late = now.saturating_add(LONGEST_PAUSE_MS * 2);
        let page = |after: Option<&[u8]>| self.queued(after, PAGE);
        self.recall_what_was_put_off(now)?;
        let mut due = Due { round: seats.round(), now, ..Due::default() };
        let ahead = page(Some(&too_late.to_be_bytes()))?;
        let left = due.take_in(ahead, served, seats);
        let begin = due.round.turn.take();
        let look = due.take_in_pages(begin, now, page, |due, page| due.take_in(page, served, seats))?;
        seats.go_on(due.round_after(look.turn.as_ref()));
        let next = look.next.filter(|due| *due < too_late).into_iter().chain(due.put_off).min();
        Ok((due, Look { left: look.left || left, next, ..look }))
    }
}

impl Node {
    /// Once after the start: finds the recipients whose messages were put off before it, and until when.
    fn recall_what_was_put_off(&self, now: u64) -> Result<(), StoreError> {
        if self.outbox_served.has_recalled() {
            return Ok(());
        }
        let mut after = now.saturating_add(1).to_be_bytes().to_vec();
        loop {
            let page = self.queued(Some(&after), PAGE)?;
            let Some((last, _)) = page.last() else { break };
            after.clone_from(last);
            for (id, item) in page {
                self.outbox_served.put_off_until_first(item.to.canonical().as_str(), due_ms(&id));
            }
        }
        self.outbox_served.recalled();
        Ok(())
    }
}

/// What became of one recipient's messages; a task that panicked is a failure like any other.
fn settled(done: Result<Result<(), StoreError>, JoinError>) -> Result<(), StoreError> {
    done.map_err(|_| StoreError::TaskPanicked)?
}

#[cfg(test)]
mod tests {
    use einmal_did::Did;
    use einmal_didcomm::UnixSeconds;
    use serde_json::Value;

    use super::*;

    fn items(name: &str, numbers: std::ops::Range<usize>, attempts: u32) -> Vec<(Vec<u8>, Item)> {
        let item = |number| {
            let to = Did::parse(&format!("did:example:{name}-{number}")).unwrap();
            (
                Vec::new(),
                Item {
                    message: Value::Null,
                    to,
                    attempts,
                    give_up_at: UnixSeconds(1),
                    from: None,
                    transient: false,
                    queued_ms: 0,
                    bytes: 0,
                },
            )
        };
        numbers.map(item).collect()
    }

    type Page = Vec<(Vec<u8>, Item)>;

    /// An outbox of these messages, in their order.
    fn outbox(items: impl IntoIterator<Item = (Vec<u8>, Item)>) -> Page {
        let numbered = items.into_iter().enumerate();
        numbered.map(|(at, (_, item))| ((at as u64).to_be_bytes().to_vec(), item)).collect()
    }

    /// Reads it as a store does: at most `most` messages behind an id.
    fn pages(outbox: &Page, most: usize) -> impl Fn(Option<&[u8]>) -> Result<Page, StoreError> {
        move |after| {
            let start = outbox.partition_point(|(id, _)| after.is_some_and(|after| id.as_slice() <= after));
            Ok(outbox.iter().skip(start).take(most).cloned().collect())
        }
    }

    #[test]
    fn neither_recipients_tried_before_nor_unknown_ones_end_the_look_for_those_who_answer() {
        let (mut due, seats, none) = (Due::default(), Served::default(), HashSet::new());
        (0..MAX_SERVED).for_each(|n| seats.note(&format!("did:example:friend-{n}"), true));
        assert!(due.take_in(items("dead", 0..2 * MAX_SERVED, 1), &none, &seats), "some find no seat");
        assert!(due.take_in(items("new", 0..2 * MAX_SERVED, 0), &none, &seats));
        assert!(!due.fills_all_seats());
        assert!(!due.take_in(items("friend", 1..MAX_SERVED, 0), &none, &seats), "nobody is left");
        assert!(!due.fills_all_seats());
        due.take_in(items("friend", 0..1, 0), &none, &seats);
        assert!(due.fills_all_seats());
        let kept = due.into_groups().count();
        assert_eq!(kept, MAX_SERVED + Standing::Failed.most() + Standing::Unknown.most());
    }

    #[test]
    fn message_held_up_by_one_that_finds_no_seat_does_not_pass_it() {
        let (mut due, seats, none) = (Due::default(), Served::default(), HashSet::new());
        let most = Standing::Failed.most();
        assert!(due.take_in(items("dead", 0..most + 1, 1), &none, &seats));
        let behind = items("dead", most..most + 1, 0);
        assert!(due.take_in(behind, &none, &seats), "what was not tried stands behind what was");
        assert_eq!(due.into_groups().count(), most);
    }

    #[test]
    fn messages_put_off_are_waited_for_and_then_go_before_those_that_came_later() {
        let (seats, none) = (Served::default(), HashSet::new());
        let item = |queued_ms| {
            let mut items = items("peer", 0..1, 0);
            items[0].1.queued_ms = queued_ms;
            items
        };
        seats.put_off("did:example:peer-0", 500);
        let mut early = Due { now: 400, ..Due::default() };
        assert!(!early.take_in(item(300), &none, &seats));
        assert!(early.groups.is_empty() && early.put_off == Some(500));
        let mut later = Due { now: 500, ..Due::default() };
        for queued_ms in [300, 100, 200] {
            later.take_in(item(queued_ms), &none, &seats);
        }
        let (_, group) = later.into_groups().next().unwrap();
        assert_eq!(group.items.iter().map(|(_, item)| item.queued_ms).collect::<Vec<_>>(), [100, 200, 300]);
        // A clock that was years ahead puts nobody off for years.
        seats.put_off("did:example:peer-0", u64::MAX);
        let mut due = Due { now: 400, ..Due::default() };
        due.take_in(item(1), &none, &seats);
        assert_eq!(due.groups.len(), 1);
    }

    #[test]
    fn nobody_stands_behind_a_pile_that_one_look_cannot_take_in() {
        let (seats, none) = (Served::default(), HashSet::new());
        let pile = items("dead", 0..2 * MAX_PAGES * PAGE, 1).into_iter().chain(items("new", 0..1, 0));
        let outbox = outbox(pile);
        let look = |begin| {
            let mut due = Due::default();
            let look = due.take_in_pages(begin, u64::MAX, pages(&outbox, PAGE), |due, page| {
                due.take_in(page, &none, &seats)
            });
            (due.groups.contains_key("did:example:new-0"), look.unwrap())
        };
        let (found, first) = look(None);
        assert!(!found && first.left);
        let (found, second) = look(first.turn);
        assert!(!found && second.left);
        let (found, third) = look(second.turn);
        assert!(found && third.turn.is_none() && third.left, "the front was not seen this time");
    }

    #[test]
    fn nobody_stands_behind_more_bytes_than_one_look_takes_in() {
        let (seats, none) = (Served::default(), HashSet::new());
        let mut long = items("long", 0..6, 0);
        long.iter_mut().for_each(|(_, item)| item.bytes = MAX_LOOK_BYTES / 4);
        let outbox = outbox(long.into_iter().chain(items("behind", 0..1, 0)));
        let look = |begin| {
            let mut due = Due::default();
            let look = due
                .take_in_pages(begin, u64::MAX, pages(&outbox, 3), |due, page| {
                    due.take_in(page, &none, &seats)
                })
                .unwrap();
            (due.groups.contains_key("did:example:behind-0"), look.turn)
        };
        let (found, turn) = look(None);
        assert!(!found && turn.is_some());
        let (found, _) = look(turn);
        assert!(found);
    }

    #[test]
    fn a_page_that_holds_few_long_messages_is_not_taken_for_the_end() {
        let (seats, none) = (Served::default(), HashSet::new());
        let outbox = outbox(items("long", 0..40, 0));
        let mut due = Due::default();
        let look = due
            .take_in_pages(None, u64::MAX, pages(&outbox, 3), |due, page| due.take_in(page, &none, &seats));
        assert_eq!((due.groups.len(), look.unwrap().turn), (40, None));
    }

    #[test]
    fn what_stands_behind_what_an_earlier_look_met_waits_for_the_next_round() {
        let (seats, busy) = (Served::default(), HashSet::from(["did:example:busy-0".to_owned()]));
        let most = Standing::Failed.most();
        let front = items("dead", 0..most + 1, 1).into_iter().chain(items("busy", 0..1, 0));
        let pile = items("pile", 0..MAX_PAGES * PAGE, 1);
        let behind = items("dead", 0..most + 1, 0).into_iter().chain(items("busy", 0..2, 0));
        let outbox = outbox(front.chain(pile).chain(behind));
        let look = |round: Round, served: &HashSet<String>| {
            let mut due = Due { round, ..Due::default() };
            let begin = due.round.turn.take();
            let look = due.take_in_pages(begin, u64::MAX, pages(&outbox, PAGE), |due, page| {
                due.take_in(page, served, &seats)
            });
            let round = due.round_after(look.unwrap().turn.as_ref());
            let mut found: Vec<_> = due.groups.into_keys().filter(|name| !name.contains("pile")).collect();
            found.sort_unstable();
            (found, round)
        };
        let (first, round) = look(Round::default(), &busy);
        assert_eq!(first.len(), most);
        assert!(!first.contains(&format!("did:example:dead-{most}")), "it found no seat");
        assert!(round.turn.is_some());
        // By now those of the first look have been served, and nobody is busy; still nobody's later message goes first.
        let (second, round) = look(round, &HashSet::new());
        assert_eq!(second, ["did:example:busy-1"]);
        assert!(round.turn.is_none() && !round.has_met("did:example:busy-1"));
        let (third, _) = look(round, &HashSet::new());
        assert!(third.contains(&"did:example:busy-0".to_owned()));
    }

    #[test]
    fn newcomers_because_of_one_origin_leave_room_for_others() {
        let (mut due, seats, none) = (Due::default(), Served::default(), HashSet::new());
        let from = |place: &str, numbers: std::ops::Range<usize>| {
            let mut items = items(place, numbers, 0);
            items.iter_mut().for_each(|(_, item)| item.from = Some(seats.origin(place)));
            items
        };
        assert!(due.take_in(from("flood", 0..MAX_SERVED), &none, &seats));
        assert!(!due.take_in(from("other", 0..1), &none, &seats));
        assert_eq!(due.into_groups().count(), Standing::Unknown.most_of_one() + 1);
    }

    #[test]
    fn messages_of_one_recipient_stay_together_and_those_of_a_served_one_are_left() {
        let (mut due, seats) = (Due::default(), Served::default());
        let served = HashSet::from(["did:example:busy-0".to_owned()]);
        assert!(due.take_in(items("busy", 0..1, 0), &served, &seats));
        assert!(!due.take_in(items("new", 0..2, 0), &served, &seats));
        assert!(!due.take_in(items("new", 0..1, 0), &served, &seats));
        let groups: Vec<_> = due.into_groups().map(|(name, group)| (name, group.items.len())).collect();
        assert_eq!(groups, [("did:example:new-0".to_owned(), 2), ("did:example:new-1".to_owned(), 1)]);
    }

    #[test]
    fn what_was_left_is_looked_for_soon_and_an_empty_outbox_rarely() {
        assert_eq!(Look { next: None, left: false, turn: None }.pause(0), LONGEST_REST);
        assert_eq!(Look { next: None, left: true, turn: None }.pause(0), LEFT_PAUSE);
        assert_eq!(Look { next: Some(300), left: true, turn: None }.pause(0), Duration::from_millis(300));
        assert_eq!(Look { next: Some(3_000), left: true, turn: None }.pause(0), LEFT_PAUSE);
        assert_eq!(Look { next: Some(5), left: false, turn: None }.pause(7), Duration::from_millis(10));
        assert_eq!(Look { next: Some(u64::MAX), left: false, turn: None }.pause(0), LONGEST_REST);
    }
}
