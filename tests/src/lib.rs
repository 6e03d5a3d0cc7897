//! Harness of the stories: nodes on a network inside one process, and peers driven by hand.
//!
//! Everything in a [`World`] follows from its seed: one thread, a manually set clock, one random stream per node, and a
//! network that loses, doubles and delays messages by the same seed. Nothing sleeps. Stories about real sockets use the
//! loopback interface instead.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a harness of tests: whatever goes wrong here is a failed test"
)]

mod acquaintance;
mod by_name;
mod city;
mod courier;
mod dialogue;
mod held_mail;
mod peers;
mod process;
mod simulator;
mod stranger;
mod wire;
mod world;

pub use acquaintance::{befriended, card_offer, lone_city, offer, offering, proposal, request};
pub use by_name::ByName;
pub use city::{ADULT, city_folder, own_city_folder};
pub use courier::{Answered, Courier};
pub use dialogue::{REPORT, code, did_of, invitation_in, letters, name, stranger_of};
pub use held_mail::HeldMail;
pub use peers::{Keeper, described, node_on, node_with, peer_host, published, web_server};
pub use process::{Einmal, Running, first_line};
pub use simulator::{Fault, MediatorSimulator};
pub use stranger::Stranger;
pub use wire::Wire;
pub use world::{START_MS, World};

use std::future::Future;

/// Runs a story on one thread.
pub fn play<T>(story: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(story)
}
