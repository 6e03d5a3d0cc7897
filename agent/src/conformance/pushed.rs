//! What is pushed on a socket: whether a letter is among it, bare or as delivery, and whether nothing is.

use super::{
    Run,
    mail::{Delivered, Letter},
    outcome::{Needed, Outcome},
    socket::Socket,
};

/// A message that was pushed.
pub(super) struct Pushed {
    /// Its attachment id, if it came as a delivery.
    pub(super) id: Option<String>,
}

/// Finds the letter in what is pushed next; other letters are skipped.
pub(super) async fn pushed(run: &Run, socket: &mut Socket, letter: &Letter) -> Outcome<Pushed> {
    let end = tokio::time::Instant::now() + run.probe.patience();
    loop {
        let bytes = socket.next(end).await?.ok_or("nothing was pushed in time")?;
        if let Some(found) = contains(run, &bytes, letter).await {
            return Ok(found);
        }
    }
}

/// Whether a frame is the letter itself, or a delivery that holds it.
async fn contains(run: &Run, bytes: &[u8], letter: &Letter) -> Option<Pushed> {
    let opened = run.probe.open(bytes).await.ok()?;
    if opened.message.id == letter.id {
        return Some(Pushed { id: None });
    }
    if !run.probe.is_from_target(&opened) || opened.message.kind.message() != "delivery" {
        return None;
    }
    let (id, _) = Delivered::of(opened.message).find(run, letter).await?;
    Some(Pushed { id: Some(id) })
}

/// Checks that a letter does not arrive on another party's socket for a while; a closed socket passes.
pub(super) async fn kept_from(run: &Run, socket: &mut Socket, letter: &Letter) -> Outcome {
    let end = tokio::time::Instant::now() + run.probe.quiet();
    while let Ok(Some(bytes)) = socket.next(end).await {
        if contains(run, &bytes, letter).await.is_some() {
            return Err("it was pushed to somebody else".into());
        }
    }
    Ok(())
}

/// That the letter is not pushed for a while. By a socket that was closed nothing comes, which proves nothing.
pub(super) async fn silent(run: &Run, socket: &mut Socket, letter: &Letter) -> Outcome {
    let end = tokio::time::Instant::now() + run.probe.quiet();
    loop {
        match socket.next(end).await.needed("the socket")? {
            None => return Ok(()),
            Some(bytes) if contains(run, &bytes, letter).await.is_some() => {
                return Err("it was pushed".into());
            }
            Some(_) => {}
        }
    }
}
