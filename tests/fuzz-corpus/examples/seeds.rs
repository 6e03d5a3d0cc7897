//! Writes the seeds of all corpora into `fuzz/corpus`, replacing the existing ones.

use std::{fs, io, path::Path};

fn main() -> io::Result<()> {
    let corpus = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus"));
    for target in einmal_fuzz_corpus::TARGETS {
        let folder = corpus.join(target.name);
        fs::create_dir_all(&folder)?;
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if name.starts_with("valid-") || name.starts_with("bent-") {
                fs::remove_file(&path)?;
            }
        }
    }
    for seed in einmal_fuzz_corpus::seeds::seeds() {
        fs::write(corpus.join(seed.target).join(&seed.name), &seed.bytes)?;
    }
    Ok(())
}
