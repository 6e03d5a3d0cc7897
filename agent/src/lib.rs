//! The node of einmal: the part that runs.
//!
//! Everything that waits, connects, reads a clock or touches a file lives here. The rules of messages, envelopes and
//! credentials live in `protocols/`, and what survives a restart in `storage/`. Start with [`node`], the one loop every
//! event goes through; [`net`] is its network, the roles and services are its work.

pub mod backup;
pub mod bench;
mod child;
pub mod cli;
pub mod clock;
pub mod command;
pub mod config;
pub mod conformance;
pub mod control;
pub mod db;
mod delivery;
pub mod demo;
mod doctor;
pub mod error;
pub mod guard;
mod handler;
pub mod home;
pub mod identity;
mod log;
mod mailbox;
mod mend;
pub mod net;
pub mod node;
mod open_files;
mod passphrase;
mod rates;
pub mod resolve;
mod role;
pub mod run;
mod service;
pub mod steady;
mod transport;
