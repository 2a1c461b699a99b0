//! Which clusters llmdev created. Forgotten with the state folder: then they are no longer taken for its own, and kept.

use std::fs;
use std::path::PathBuf;

use crate::state;

fn mark(context: &str) -> Option<PathBuf> {
    Some(state::home().ok()?.join("clusters").join(context))
}

/// Notes that llmdev created the cluster of a context.
pub fn remember(context: &str) {
    let Some(mark) = mark(context) else { return };
    let made = mark
        .parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(&mark, ""));
    if let Err(error) = made {
        tracing::warn!(%error, context, "cannot note that this cluster was created here");
    }
}

/// Whether llmdev created the cluster of a context.
pub fn by_us(context: &str) -> bool {
    mark(context).is_some_and(|mark| mark.exists())
}

/// Notes that it is gone.
pub fn forget(context: &str) {
    if let Some(mark) = mark(context) {
        let _ = fs::remove_file(mark);
    }
}
