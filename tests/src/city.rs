//! The example city with only the first rows of its register, so that its node starts quickly.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

/// An adult among the first rows of the register, living in the city.
pub const ADULT: &str = "SAZPE-R7CC7";

/// Rows of the register that are kept, including its header.
const ROWS: usize = 30;

static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();

/// The folder of the city's description, made once per process.
pub fn city_folder() -> &'static Path {
    FOLDER.get_or_init(own_city_folder).path()
}

/// A separate folder with the city's description, for a test to change.
pub fn own_city_folder() -> tempfile::TempDir {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/wetzlar");
    let target = tempfile::tempdir().unwrap();
    for file in files(&source) {
        let place = target.path().join(file.strip_prefix(&source).unwrap());
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        if file.ends_with("einwohner.csv") {
            let text = fs::read_to_string(&file).unwrap();
            let kept: String = text.lines().take(ROWS).map(|row| format!("{row}\r\n")).collect();
            fs::write(&place, kept).unwrap();
        } else {
            fs::copy(&file, &place).unwrap();
        }
    }
    target
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}
