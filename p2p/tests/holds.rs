//! Held connections, and messages pushed over them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use common::{Keeper, LARGEST, PATIENCE, Slow, config, host, named};
use einmal_p2p::{Bounds, Held, HoldError, Host, HostConfig, PeerId, SendError, Status};

/// Time after which an unused connection is closed in these tests.
const IDLE: Duration = Duration::from_secs(1);

/// Two hosts with a connection made by the second, which nobody uses any more.
async fn connected(seed: u8, keeper: &Arc<Keeper>) -> (Host, Host) {
    let bounds = Bounds { idle: IDLE, holds: 2, ..config(seed).bounds };
    let listener = host(HostConfig { bounds: bounds.clone(), ..config(seed) }).await;
    let dialer = HostConfig { bounds, listen: Vec::new(), ..config(seed + 1) };
    let dialer = Host::start(dialer, Arc::clone(keeper) as _).await.unwrap();
    dialer.send(&named(&listener), b"hello".to_vec()).await.unwrap();
    (listener, dialer)
}

async fn ends(held: &mut Held) {
    tokio::time::timeout(PATIENCE, held.ended()).await.expect("the connection did not end");
}

#[tokio::test]
async fn a_held_connection_outlives_the_idle_time_and_a_released_one_is_closed() {
    let (listener, dialer) = connected(50, &Keeper::new(Status::Accepted)).await;
    let here = listener.hold(dialer.peer_id()).unwrap();
    let mut there = dialer.hold(listener.peer_id()).unwrap();
    assert!(tokio::time::timeout(4 * IDLE, there.ended()).await.is_err(), "closed although it was held");
    let released = Instant::now();
    drop(here);
    ends(&mut there).await;
    // Not only at the next ping.
    assert!(released.elapsed() < 5 * IDLE, "{:?}", released.elapsed());
    assert_eq!(dialer.route_to(listener.peer_id()).await, None);
}

#[tokio::test]
async fn a_connection_that_only_one_side_holds_is_closed_by_the_other() {
    let (listener, dialer) = connected(52, &Keeper::new(Status::Accepted)).await;
    ends(&mut listener.hold(dialer.peer_id()).unwrap()).await;
}

#[tokio::test]
async fn what_is_pushed_goes_back_on_the_connection_and_says_from_whom() {
    let keeper = Keeper::new(Status::Accepted);
    let (listener, dialer) = connected(54, &keeper).await;
    listener.push(dialer.peer_id(), b"back".to_vec()).await.unwrap();
    assert_eq!(keeper.kept(), [b"back".to_vec()]);
    assert_eq!(*keeper.from.lock().unwrap(), [listener.peer_id()]);
    assert_eq!(listener.push(dialer.peer_id(), vec![0; LARGEST + 1]).await, Err(SendError::TooLarge));
    let unwilling = Keeper::new(Status::Refused);
    let (listener, dialer) = connected(56, &unwilling).await;
    let told = listener.push(dialer.peer_id(), b"back".to_vec()).await;
    assert_eq!(told, Err(SendError::Refused { status: Status::Refused }));
}

#[tokio::test]
async fn nobody_is_dialled_for_what_is_pushed() {
    let keeper = Keeper::new(Status::Accepted);
    let receiver = Host::start(config(58), Arc::clone(&keeper) as _).await.unwrap();
    let sender = host(config(59)).await;
    // It knows the receiver's address, but the connection is gone.
    sender.send(&named(&receiver), b"hello".to_vec()).await.unwrap();
    let mut held = receiver.hold(sender.peer_id()).unwrap();
    sender.hold(receiver.peer_id()).unwrap().hang_up();
    ends(&mut held).await;
    let refused = Err(SendError::Unreachable { reason: "it is not connected" });
    assert_eq!(sender.push(receiver.peer_id(), b"packed".to_vec()).await, refused);
    assert_eq!(sender.push(PeerId::random(), b"packed".to_vec()).await, refused);
    assert_eq!(sender.route_to(receiver.peer_id()).await, None);
    assert_eq!(keeper.kept(), [b"hello".to_vec()]);
}

#[tokio::test]
async fn a_peer_that_does_not_answer_what_is_pushed_is_given_up_in_time() {
    let bounds = Bounds { request: Duration::from_secs(1), ..Bounds::default() };
    let listener = host(HostConfig { bounds, ..config(60) }).await;
    let dialer = Host::start(config(61), Arc::new(Slow::default())).await.unwrap();
    dialer.send(&named(&listener), b"hello".to_vec()).await.unwrap();
    let begun = Instant::now();
    let told = listener.push(dialer.peer_id(), b"packed".to_vec()).await;
    assert!(matches!(told, Err(SendError::Unreachable { .. })), "{told:?}");
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_hold_ends_with_either_host_and_when_one_hangs_up() {
    let (listener, dialer) = connected(62, &Keeper::new(Status::Accepted)).await;
    let (mut here, mut there) =
        (listener.hold(dialer.peer_id()).unwrap(), dialer.hold(listener.peer_id()).unwrap());
    assert!(!here.is_over() && !there.is_over());
    drop(dialer);
    ends(&mut here).await;
    ends(&mut there).await;
    assert!(here.is_over() && there.is_over());
    let (listener, dialer) = connected(64, &Keeper::new(Status::Accepted)).await;
    let mut there = dialer.hold(listener.peer_id()).unwrap();
    listener.hold(dialer.peer_id()).unwrap().hang_up();
    ends(&mut there).await;
}

#[tokio::test]
async fn hanging_up_after_the_end_leaves_a_new_connection_alone() {
    let (listener, dialer) = connected(68, &Keeper::new(Status::Accepted)).await;
    let mut old = listener.hold(dialer.peer_id()).unwrap();
    dialer.hold(listener.peer_id()).unwrap().hang_up();
    ends(&mut old).await;
    dialer.send(&named(&listener), b"again".to_vec()).await.unwrap();
    let mut new = listener.hold(dialer.peer_id()).unwrap();
    let _there = dialer.hold(listener.peer_id()).unwrap();
    old.hang_up();
    assert!(tokio::time::timeout(IDLE, new.ended()).await.is_err());
}

#[tokio::test]
async fn a_hold_goes_on_with_a_new_connection_also_where_all_holds_are_taken() {
    let (listener, dialer) = connected(76, &Keeper::new(Status::Accepted)).await;
    let mut held = listener.hold(dialer.peer_id()).unwrap();
    let other = listener.hold(dialer.peer_id()).unwrap();
    dialer.hold(listener.peer_id()).unwrap().hang_up();
    ends(&mut held).await;
    assert_eq!(held.renew(), Err(HoldError::NotConnected));
    dialer.send(&named(&listener), b"again".to_vec()).await.unwrap();
    assert_eq!(listener.hold(dialer.peer_id()).unwrap_err(), HoldError::TooMany);
    held.renew().unwrap();
    let _there = dialer.hold(listener.peer_id()).unwrap();
    assert!(tokio::time::timeout(2 * IDLE, held.ended()).await.is_err());
    drop(other);
}

#[tokio::test]
async fn only_connected_peers_are_held_and_no_more_than_allowed() {
    let (listener, dialer) = connected(66, &Keeper::new(Status::Accepted)).await;
    assert_eq!(listener.hold(PeerId::random()).unwrap_err(), HoldError::NotConnected);
    let first = listener.hold(dialer.peer_id()).unwrap();
    let _second = listener.hold(dialer.peer_id()).unwrap();
    assert_eq!(listener.hold(dialer.peer_id()).unwrap_err(), HoldError::TooMany);
    drop(first);
    assert!(listener.hold(dialer.peer_id()).is_ok());
}
