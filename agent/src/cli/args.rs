//! Verbs and flags, with an example for each.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand};

use crate::control::MAX_WAIT_SECS;

/// A self-sovereign DIDComm v2.1 agent node: city, merchant, citizen and mediator in one binary.
#[derive(Debug, Parser)]
#[command(name = "einmal", version, propagate_version = true)]
pub struct Cli {
    /// Print machine-readable JSON.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The folder of a node.
#[derive(Clone, Debug, Args)]
pub struct Dir {
    /// Folder of the node.
    #[arg(long, value_name = "DIR", env = "EINMAL_DIR")]
    pub dir: PathBuf,
}

/// What can be measured.
#[derive(Debug, Subcommand)]
pub enum Bench {
    /// How many forwards, pickups and live deliveries per second, and what they cost.
    #[command(after_help = "Example: einmal bench mediator --only forward-8 --only pickup --runs 3")]
    Mediator {
        /// Only this scenario; may be given several times.
        #[arg(long, value_name = "NAME")]
        only: Vec<String>,
        /// Runs of each scenario; the median is shown.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
        runs: u8,
        /// Make the mediators' folders here: it decides which disk is measured.
        #[arg(long, value_name = "DIR")]
        folder: Option<PathBuf>,
    },
    /// Kill a mediator under load again and again; fails if anything it had accepted is lost.
    #[command(after_help = "Example: einmal bench crash --kills 1000")]
    Crash {
        /// How often it is killed.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        kills: u32,
        /// Make the mediator's folder here.
        #[arg(long, value_name = "DIR")]
        folder: Option<PathBuf>,
    },
}

/// What the command can do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Play the whole story on this machine with real nodes in a temporary folder.
    #[command(after_help = "Example: einmal demo --json")]
    Demo {
        /// Folder of the city's description; by default the one of Wetzlar in the source tree.
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
        /// Keep the nodes' folders here instead of in a temporary folder.
        #[arg(long, value_name = "DIR")]
        keep: Option<PathBuf>,
    },
    /// Put load on a mediator of this program, as a process of its own on this machine.
    #[command(subcommand)]
    Bench(Bench),
    /// Make a new node: keys, configuration, sealed store.
    #[command(after_help = "Examples:\n  einmal init mediator --dir ./mediator\n  \
        einmal init city --dir ./city --description examples/wetzlar/city.toml\n  \
        einmal init merchant --dir ./library --requests examples/wetzlar/requests --trust did:web:city.example\n  \
        einmal init citizen --dir ./phone --mediator 'http://127.0.0.1:7000/?_oob=...'")]
    Init(Box<Init>),
    /// Run the node of a folder until it is told to stop.
    #[command(after_help = "Example: einmal run --dir ./mediator --listen 127.0.0.1:7000 --json")]
    Run {
        /// The node's folder.
        #[command(flatten)]
        dir: Dir,
        /// Listen on this address instead of the configured one.
        #[arg(long, value_name = "ADDRESS:PORT")]
        listen: Option<SocketAddr>,
        /// Write the log as JSON lines.
        #[arg(long)]
        log_json: bool,
    },
    /// Make an out-of-band invitation: a URL, and a QR code in a terminal.
    #[command(after_help = "Example: einmal invite --dir ./city --person W-10423-77")]
    Invite {
        /// The node's folder.
        #[command(flatten)]
        dir: Dir,
        /// City: whoever answers is this person of the register.
        #[arg(long, value_name = "ID")]
        person: Option<String>,
    },
    /// Take an invitation, an offer or a request; asks before it gives or takes anything, unless --yes.
    #[command(after_help = "Example: einmal accept 'http://localhost:7001/?_oob=...' --dir ./phone --yes")]
    Accept {
        /// Invitation URL, or the thread of an offer or request that waits; by default all that wait.
        what: Option<String>,
        /// The node's folder.
        #[command(flatten)]
        dir: Dir,
        /// Agree without asking.
        #[arg(long)]
        yes: bool,
        /// Seconds to wait for the other side.
        #[arg(long, default_value_t = 30, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(..=MAX_WAIT_SECS))]
        wait: u64,
    },
    /// What a city does.
    City {
        /// What to do.
        #[command(subcommand)]
        verb: CityVerb,
    },
    /// What a citizen does.
    Citizen {
        /// What to do.
        #[command(subcommand)]
        verb: CitizenVerb,
    },
    /// What a merchant does.
    Merchant {
        /// What to do.
        #[command(subcommand)]
        verb: MerchantVerb,
    },
    /// What a mediator's operator does.
    Mediator {
        /// What to do.
        #[command(subcommand)]
        verb: MediatorVerb,
    },
    /// Send a text message to a peer, named by its DID or, at a city, by the person's id: in the newest relationship with it.
    #[command(after_help = "Example: einmal send --dir ./city --to W-10423-77 'Your book is due on Friday'")]
    Send {
        /// The node's folder.
        #[command(flatten)]
        dir: Dir,
        /// Peer: DID, or (city) person id.
        #[arg(long, value_name = "PEER")]
        to: String,
        /// Also in the older relationships, as with other devices; a device shows it once for each of its own.
        #[arg(long)]
        all: bool,
        /// The text.
        text: String,
    },
    /// Everything a node is, in one encrypted file; the node may go on running.
    #[command(after_help = "Example: EINMAL_BACKUP_PASSPHRASE='…' einmal backup --dir ./city --out city.age")]
    Backup {
        /// The node's folder.
        #[command(flatten)]
        dir: Dir,
        /// The file to make; it must not be there yet.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Make a node of a backup, in a folder that is empty or not there yet.
    #[command(
        after_help = "Example: EINMAL_BACKUP_PASSPHRASE='…' einmal restore city.age --dir ./city-again"
    )]
    Restore {
        /// The backup.
        file: PathBuf,
        /// The node's new folder.
        #[command(flatten)]
        dir: Dir,
    },
    /// Text messages that arrived, newest first.
    #[command(after_help = "Example: einmal inbox --dir ./phone --json")]
    Inbox {
        /// The node's folder.
        #[command(flatten)]
        dir: Dir,
    },
    /// Counters and queues of the running node.
    #[command(after_help = "Example: einmal status --dir ./mediator")]
    Status {
        /// The node's folder.
        #[command(flatten)]
        dir: Dir,
    },
    /// Look how well any DIDComm v2 mediator or agent keeps to the specifications; see docs/conformance.md.
    #[command(after_help = "Examples:\n  einmal conformance 'https://mediator.example/?_oob=...'\n  \
        einmal conformance did:web:mediator.example --only MP3 --json")]
    Conformance(Conformance),
    /// Green or red for each part of a node, with the remedy.
    #[command(after_help = "Example: einmal doctor --dir ./city")]
    Doctor {
        /// The node's folder.
        #[command(flatten)]
        dir: Dir,
    },
}

/// Flags of `conformance`.
#[derive(Debug, Args)]
pub struct Conformance {
    /// Out-of-band invitation URL, or DID.
    pub target: String,
    /// Only requirements whose id begins so, such as MP3 or DCv2.1-envelope.
    #[arg(long, value_name = "PREFIX")]
    pub only: Option<String>,
    /// Seconds an answer may take.
    #[arg(long, default_value_t = 10, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=60))]
    pub timeout: u64,
    /// Also connect to private addresses and by plain http; a target on this machine needs no flag.
    #[arg(long)]
    pub allow_private: bool,
    /// Address the target can call, for answers that do not come back on the connection.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// The URL by which the target reaches that address, if it is another, such as https://me.example/answers.
    #[arg(long, value_name = "URL", requires = "listen")]
    pub public_url: Option<String>,
}

/// Flags of `init`.
#[derive(Debug, Args)]
pub struct Init {
    /// city, merchant, citizen or mediator.
    pub role: String,
    /// The node's folder.
    #[command(flatten)]
    pub dir: Dir,
    /// Address to listen on.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// The URL others reach this node by, such as https://city.example.
    #[arg(long, value_name = "URL")]
    pub public_url: Option<String>,
    /// Seal the store by a passphrase instead of a key file.
    #[arg(long)]
    pub passphrase: bool,
    /// City: its description, such as examples/wetzlar/city.toml.
    #[arg(long, value_name = "FILE")]
    pub description: Option<PathBuf>,
    /// Merchant: folder of request templates.
    #[arg(long, value_name = "DIR")]
    pub requests: Option<PathBuf>,
    /// Merchant: DID of an issuer whose credentials count; may be repeated.
    #[arg(long, value_name = "DID")]
    pub trust: Vec<String>,
    /// Merchant: tolerated difference between clocks, in seconds.
    #[arg(long, value_name = "SECONDS")]
    pub clock_skew: Option<u64>,
    /// City: seconds its status list may be cached.
    #[arg(long, value_name = "SECONDS")]
    pub status_ttl: Option<u64>,
    /// Citizen: invitation URL of the mediator to use.
    #[arg(long, value_name = "URL")]
    pub mediator: Option<String>,
    /// Citizen: milliseconds between two looks into the mailbox.
    #[arg(long, value_name = "MS")]
    pub poll_ms: Option<u64>,
    /// City, merchant: name shown in invitations; a city's is in its description otherwise.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
}

/// What a city does.
#[derive(Debug, Subcommand)]
pub enum CityVerb {
    /// Offer a credential.
    #[command(
        after_help = "Examples:\n  einmal city offer resident-card --person W-10423-77 --dir ./city\n  \
        einmal city offer library-card --after library-signup --dir ./city"
    )]
    Offer {
        /// Name of the credential template.
        template: String,
        /// The person of the register it is for.
        #[arg(long, value_name = "ID", required_unless_present = "after")]
        person: Option<String>,
        /// For whoever answers this request template with a valid presentation.
        #[arg(long, value_name = "REQUEST", conflicts_with = "person")]
        after: Option<String>,
        /// Shorten the validity to this many seconds.
        #[arg(long, value_name = "SECONDS")]
        valid_for: Option<u64>,
        /// Send it to the person's phone at once, over the relationship there is.
        #[arg(long, requires = "person")]
        direct: bool,
        /// The node's folder.
        #[command(flatten)]
        dir: Dir,
    },
    /// Revoke a credential for good.
    #[command(after_help = "Example: einmal city revoke 3f1c... --reason moved --dir ./city")]
    Revoke {
        /// Id of the credential, as `einmal city issued` lists it.
        credential: String,
        /// One of the template's reasons.
        #[arg(long)]
        reason: String,
        /// The node's folder.
        #[command(flatten)]
        dir: Dir,
    },
    /// The devices of a person: where messages and direct offers for them go. One phone may stand there several times.
    #[command(after_help = "Example: einmal city devices W-10423-77 --dir ./city")]
    Devices {
        /// The person of the register.
        person: String,
        /// The node's folder.
        #[command(flatten)]
        dir: Dir,
    },
    /// Take devices off a person, such as a lost phone; its cards are revoked by `einmal city revoke`.
    #[command(after_help = "Example: einmal city unbind W-10423-77 --device 3f9c... --dir ./city")]
    Unbind {
        /// The person of the register.
        person: String,
        /// Only this one, as `einmal city devices` lists it; by default all of them.
        #[arg(long, value_name = "DEVICE")]
        device: Option<String>,
        /// The node's folder.
        #[command(flatten)]
        dir: Dir,
    },
    /// Offers and invitations that may still lead to something, with the threads to withdraw them by.
    #[command(after_help = "Example: einmal city offers --person W-10423-77 --dir ./city")]
    Offers {
        /// Only those for this person of the register.
        #[arg(long)]
        person: Option<String>,
        /// The node's folder.
        #[command(flatten)]
        dir: Dir,
    },
    /// Take back an offer or invitation that was not carried out yet.
    #[command(after_help = "Example: einmal city withdraw 385fd652-... --dir ./city")]
    Withdraw {
        /// The thread, as `einmal city offer` or `einmal invite` printed it, or `einmal city offers` lists it.
        thread: String,
        /// The node's folder.
        #[command(flatten)]
        dir: Dir,
    },
    /// Read register and templates anew, and list credentials that count although the register says otherwise.
    #[command(after_help = "Example: einmal city reload --dir ./city")]
    Reload {
        /// The node's folder.
        #[command(flatten)]
        dir: Dir,
    },
    /// List issued credentials.
    #[command(after_help = "Example: einmal city issued --person W-10423-77 --dir ./city")]
    Issued {
        /// Only those of this person.
        #[arg(long, value_name = "ID")]
        person: Option<String>,
        /// The node's folder.
        #[command(flatten)]
        dir: Dir,
    },
    /// How the register was read: rows taken, rows skipped with line and column.
    #[command(after_help = "Example: einmal city register --dir ./city --json")]
    Register {
        /// The node's folder.
        #[command(flatten)]
        dir: Dir,
    },
}

/// What a citizen does.
#[derive(Debug, Subcommand)]
pub enum CitizenVerb {
    /// Cards and their state: valid, expired, revoked, suspended, or unknown with the reason.
    #[command(after_help = "Example: einmal citizen list --dir ./phone")]
    List {
        /// The node's folder.
        #[command(flatten)]
        dir: Dir,
    },
    /// One card with all of its claims.
    #[command(after_help = "Example: einmal citizen show 7b2e... --dir ./phone")]
    Show {
        /// Id of the card.
        card: String,
        /// The node's folder.
        #[command(flatten)]
        dir: Dir,
    },
    /// The card as text, to keep elsewhere; useless without the key, which stays here.
    #[command(after_help = "Example: einmal citizen export 7b2e... --dir ./phone --json")]
    Export {
        /// Id of the card.
        card: String,
        /// The node's folder.
        #[command(flatten)]
        dir: Dir,
    },
    /// Throw a card away, and its key: nobody can bring it back.
    #[command(after_help = "Example: einmal citizen forget 7b2e... --dir ./phone")]
    Forget {
        /// Id of the card.
        card: String,
        /// The node's folder.
        #[command(flatten)]
        dir: Dir,
    },
    /// Take new DIDs towards a peer, in each relationship with it; it is told, and mail goes on arriving.
    #[command(after_help = "Example: einmal citizen rotate did:web:city.example --dir ./phone")]
    Rotate {
        /// The peer's DID, as `einmal citizen peers` lists it.
        peer: String,
        /// The node's folder.
        #[command(flatten)]
        dir: Dir,
    },
    /// With whom there are relationships, and how many.
    #[command(after_help = "Example: einmal citizen peers --dir ./phone")]
    Peers {
        /// The node's folder.
        #[command(flatten)]
        dir: Dir,
    },
    /// Offers and requests that wait for a decision.
    #[command(after_help = "Example: einmal citizen pending --dir ./phone")]
    Pending {
        /// The node's folder.
        #[command(flatten)]
        dir: Dir,
    },
}

/// What a merchant does.
#[derive(Debug, Subcommand)]
pub enum MerchantVerb {
    /// Ask for a proof by a request template.
    #[command(after_help = "Example: einmal merchant request library-accepts --dir ./library")]
    Request {
        /// Name of the request template.
        template: String,
        /// The node's folder.
        #[command(flatten)]
        dir: Dir,
    },
    /// What came of a request.
    #[command(after_help = "Example: einmal merchant result 5a1e... --wait 30 --dir ./library")]
    Result {
        /// The thread `einmal merchant request` printed.
        thread: String,
        /// Seconds to wait for a result.
        #[arg(long, default_value_t = 0, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(..=MAX_WAIT_SECS))]
        wait: u64,
        /// The node's folder.
        #[command(flatten)]
        dir: Dir,
    },
}

/// What a mediator's operator does. Accounts and recipients go by digests: the node shows no DIDs.
#[derive(Debug, Subcommand)]
pub enum MediatorVerb {
    /// Accounts with their registrations and waiting mail.
    #[command(after_help = "Example: einmal mediator accounts --dir ./mediator --json")]
    Accounts {
        /// The node's folder.
        #[command(flatten)]
        dir: Dir,
    },
    /// Mailboxes with mail in them, and totals.
    #[command(after_help = "Example: einmal mediator queues --dir ./mediator")]
    Queues {
        /// The node's folder.
        #[command(flatten)]
        dir: Dir,
    },
    /// Remove an account with everything of it, or the mail of one recipient.
    #[command(after_help = "Example: einmal mediator drop 3f9c... --dir ./mediator")]
    Drop {
        /// Id of the account or recipient, as the lists show it.
        id: String,
        /// The node's folder.
        #[command(flatten)]
        dir: Dir,
    },
    /// The limits in force.
    #[command(after_help = "Example: einmal mediator limits --dir ./mediator")]
    Limits {
        /// The node's folder.
        #[command(flatten)]
        dir: Dir,
    },
}
