//! Times one envelope over X25519 for one recipient: einmal, two peers and the bare primitives, in one run.
//!
//! `cargo run --release -p bench-envelope [--features aws-lc]`

mod affinidi;
mod floor;
mod ours;
mod sicpa;

use std::hint::black_box;

use bench_harness::{Case, Results, Rounds, print_table, run};
use didcomm::algorithms::AnonCryptAlg::{A256cbcHs512EcdhEsA256kw, Xc20pEcdhEsA256kw};
use einmal_didcomm::{
    ContentEncryption::{A256CbcHs512, Xc20P},
    SenderProtection::{Anoncrypt, Authcrypt},
};

use crate::{
    affinidi::Affinidi,
    ours::{
        Contact::{First, Known, Often},
        Ours,
    },
    sicpa::Sicpa,
};

const ALICE: &str = "did:example:alice";
const BOB: &str = "did:example:bob";
const ID: &str = "1234567890";
const KIND: &str = "https://example.org/p/1.0/m";
const CREATED: u64 = 1_516_269_022;
const FAST: bool = cfg!(feature = "aws-lc");

/// One row of the table: what is done, and what it is compared with.
struct Line {
    what: &'static str,
    sicpa: &'static str,
    /// `None` if the peer does not support the content encryption.
    affinidi: Option<&'static str>,
    floor: Option<floor::Work>,
}

const PACK: [&str; 3] = ["didcomm authcrypt pack", "didcomm anoncrypt pack", "didcomm XC20P pack"];
const OPEN: [&str; 3] = ["didcomm authcrypt open", "didcomm anoncrypt open", "didcomm XC20P open"];
const AFFINIDI_PACK: [&str; 2] = ["affinidi authcrypt pack", "affinidi anoncrypt pack"];
const AFFINIDI_OPEN: [&str; 2] = ["affinidi authcrypt open", "affinidi anoncrypt open"];

const LINES: [Line; 10] = [
    line("authcrypt pack, first contact", PACK[0], AFFINIDI_PACK[0], floor::Work::pack(2)),
    line("authcrypt open, first contact", OPEN[0], AFFINIDI_OPEN[0], floor::Work::open(2)),
    line("authcrypt pack, talked before", PACK[0], AFFINIDI_PACK[0], floor::Work::pack(1)),
    line("authcrypt open, talked before", OPEN[0], AFFINIDI_OPEN[0], floor::Work::open(1)),
    line(
        "authcrypt pack, to a key written to often",
        PACK[0],
        AFFINIDI_PACK[0],
        floor::Work::pack_by_table(),
    ),
    line("anoncrypt pack, A256CBC-HS512", PACK[1], AFFINIDI_PACK[1], floor::Work::pack(1)),
    line("anoncrypt open, A256CBC-HS512", OPEN[1], AFFINIDI_OPEN[1], floor::Work::open(1)),
    line(
        "anoncrypt pack, to a key written to often",
        PACK[1],
        AFFINIDI_PACK[1],
        floor::Work::pack_by_table(),
    ),
    Line { what: "anoncrypt pack, XC20P", sicpa: PACK[2], affinidi: None, floor: None },
    Line { what: "anoncrypt open, XC20P", sicpa: OPEN[2], affinidi: None, floor: None },
];

const fn line(what: &'static str, sicpa: &'static str, affinidi: &'static str, floor: floor::Work) -> Line {
    Line { what, sicpa, affinidi: Some(affinidi), floor: Some(floor) }
}

fn secret() -> [u8; 32] {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

fn our_cases(ours: &Ours) -> Vec<Case<'_>> {
    let auth = ours.pack(Authcrypt, First, A256CbcHs512);
    let (again, cbc) = (auth.clone(), ours.pack(Anoncrypt, First, A256CbcHs512));
    let xc = ours.pack(Anoncrypt, First, Xc20P);
    vec![
        Case::new(LINES[0].what, || drop(black_box(ours.pack(Authcrypt, First, A256CbcHs512)))),
        Case::new(LINES[1].what, move || drop(black_box(ours.open(&auth, First)))),
        Case::new(LINES[2].what, || drop(black_box(ours.pack(Authcrypt, Known, A256CbcHs512)))),
        Case::new(LINES[3].what, move || drop(black_box(ours.open(&again, Known)))),
        Case::new(LINES[4].what, || drop(black_box(ours.pack(Authcrypt, Often, A256CbcHs512)))),
        Case::new(LINES[5].what, || drop(black_box(ours.pack(Anoncrypt, First, A256CbcHs512)))),
        Case::new(LINES[6].what, move || drop(black_box(ours.open(&cbc, First)))),
        Case::new(LINES[7].what, || drop(black_box(ours.pack(Anoncrypt, Often, A256CbcHs512)))),
        Case::new(LINES[8].what, || drop(black_box(ours.pack(Anoncrypt, First, Xc20P)))),
        Case::new(LINES[9].what, move || drop(black_box(ours.open(&xc, First)))),
    ]
}

fn sicpa_cases(sicpa: &Sicpa) -> Vec<Case<'_>> {
    let auth = sicpa.pack(true, A256cbcHs512EcdhEsA256kw);
    let cbc = sicpa.pack(false, A256cbcHs512EcdhEsA256kw);
    let xc = sicpa.pack(false, Xc20pEcdhEsA256kw);
    vec![
        Case::new(PACK[0], || drop(black_box(sicpa.pack(true, A256cbcHs512EcdhEsA256kw)))),
        Case::new(PACK[1], || drop(black_box(sicpa.pack(false, A256cbcHs512EcdhEsA256kw)))),
        Case::new(PACK[2], || drop(black_box(sicpa.pack(false, Xc20pEcdhEsA256kw)))),
        Case::new(OPEN[0], move || drop(black_box(sicpa.open(&auth)))),
        Case::new(OPEN[1], move || drop(black_box(sicpa.open(&cbc)))),
        Case::new(OPEN[2], move || drop(black_box(sicpa.open(&xc)))),
    ]
}

fn affinidi_cases(affinidi: &Affinidi) -> Vec<Case<'_>> {
    let (auth, anon) = (affinidi.pack(true), affinidi.pack(false));
    vec![
        Case::new(AFFINIDI_PACK[0], || drop(black_box(affinidi.pack(true)))),
        Case::new(AFFINIDI_PACK[1], || drop(black_box(affinidi.pack(false)))),
        Case::new(AFFINIDI_OPEN[0], move || drop(black_box(affinidi.open(&auth, true)))),
        Case::new(AFFINIDI_OPEN[1], move || drop(black_box(affinidi.open(&anon, false)))),
    ]
}

fn measure(size: usize) -> Results {
    let payload = "x".repeat(size);
    let (ours, sicpa, affinidi) = (Ours::new(&payload), Sicpa::new(&payload), Affinidi::new(&payload));
    ours.check();
    let inputs = floor::Inputs::new(ours.plaintext());
    let mut cases = our_cases(&ours);
    cases.extend(sicpa_cases(&sicpa));
    cases.extend(affinidi_cases(&affinidi));
    cases.extend(floor::cases(&inputs));
    run(cases, Rounds::default())
}

/// One row of figures, added up over `lines`: a single line, or packing and opening together.
fn row(what: &str, lines: &[&Line], results: &Results) -> Vec<String> {
    let add =
        |figure: &dyn Fn(&Line) -> Option<f64>| lines.iter().map(|line| figure(line)).sum::<Option<f64>>();
    let ours = add(&|line| Some(results.of(line.what).micros()));
    let sicpa = add(&|line| Some(results.of(line.sicpa).micros()));
    let affinidi = add(&|line| line.affinidi.map(|name| results.of(name).micros()));
    let floor = add(&|line| line.floor.map(|work| work.micros(results, FAST)));
    let faster = sicpa.into_iter().chain(affinidi).fold(f64::INFINITY, f64::min);
    let cell = |micros: Option<f64>| micros.map_or("–".to_owned(), |micros| format!("{micros:.1}"));
    let ratio = format!("{:.2}", faster / ours.unwrap_or(f64::NAN));
    vec![what.to_owned(), cell(ours), cell(sicpa), cell(affinidi), cell(floor), ratio]
}

fn print_envelopes(size: usize, results: &Results) {
    let backend = if FAST { "aws-lc" } else { "portable" };
    println!(
        "**{backend}, payload {size} B**, µs; medians {:.0} % above the least round\n",
        results.spread()
    );
    let [pack_first, open_first, pack_known, open_known, pack_often, anoncrypt @ ..] = &LINES;
    let mut rows: Vec<_> = [pack_first, open_first].map(|line| row(line.what, &[line], results)).into();
    rows.push(row("**pack + open, first contact**", &[pack_first, open_first], results));
    rows.extend([pack_known, open_known].map(|line| row(line.what, &[line], results)));
    rows.push(row("**pack + open, talked before**", &[pack_known, open_known], results));
    rows.push(row(pack_often.what, &[pack_often], results));
    rows.push(row("**pack + open, written to often**", &[pack_often, open_known], results));
    rows.extend(anoncrypt.iter().map(|line| row(line.what, &[line], results)));
    print_table(&["", "einmal", "didcomm 0.4.1", "affinidi 0.15", "floor", "faster peer / einmal"], &rows);
}

fn main() {
    let sizes = [256, 4096, 65536];
    let all: Vec<Results> = sizes.into_iter().map(measure).collect();
    for (size, results) in sizes.into_iter().zip(&all) {
        print_envelopes(size, results);
    }
    println!("**Bare primitives in the same run**, µs\n");
    let rows: Vec<Vec<String>> = floor::NAMES
        .iter()
        .map(|name| {
            let cells = all.iter().map(|results| format!("{:.2}", results.of(name).micros()));
            std::iter::once((*name).to_owned()).chain(cells).collect()
        })
        .collect();
    print_table(&["", "256 B", "4096 B", "65536 B"], &rows);
}
