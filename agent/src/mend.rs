//! After the disk refused records: detects when it takes them again, so that the node can restart by itself.

use std::{io::Write, path::Path, sync::Arc, time::Duration};

use crate::{
    config::Role,
    home::{self, MAIL_FOLDER, STORE_FOLDER},
    node::Node,
};

/// Pause between two checks, and between two attempts to restart the node.
pub(crate) const PAUSE: Duration = Duration::from_secs(2);
/// How much the disk must take before it counts as mended, in bytes: starting writes as well.
const PROBE_BYTES: usize = 4 * 1024 * 1024;

/// Resolves when the records or the mail of the node in `dir` cannot be written any more although the disk would take
/// them again.
///
/// After a failed write, memory and disk may differ, so only reading everything anew helps. Never resolves if a person
/// would have to type a passphrase for that.
pub(crate) async fn due(node: &Arc<Node>, dir: &Path) {
    if !home::opens_unattended(&node.shared().config) {
        std::future::pending::<()>().await;
    }
    let mut folders = vec![dir.join(STORE_FOLDER)];
    if node.shared().config.role == Role::Mediator {
        // It may lie on a disk of its own.
        folders.push(dir.join(MAIL_FOLDER));
    }
    loop {
        tokio::time::sleep(PAUSE).await;
        if node.shared().db.store().stats().is_ok() && node.shared().mail.is_open() {
            continue;
        }
        let folders = folders.clone();
        let probes = move || folders.iter().try_for_each(|folder| probe(folder));
        if let Ok(Ok(())) = tokio::task::spawn_blocking(probes).await {
            return;
        }
    }
}

/// Writes a file into `folder` as durably as records are written, and removes it.
fn probe(folder: &Path) -> std::io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(&vec![0x5a; PROBE_BYTES])?;
    file.as_file().sync_all()?;
    file.close()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_takes_a_file_is_left_as_it_was_and_one_that_is_gone_takes_none() {
        let folder = tempfile::tempdir().unwrap();
        probe(folder.path()).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(probe(&folder.path().join("gone")).is_err());
    }
}
