//! What goes wrong when a node is set up, started or given a command; every text names the remedy.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use einmal_storage::StoreError;

/// A node could not be set up, started or commanded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The command was used wrongly; exit status 2.
    #[error("{problem}; {remedy}")]
    Usage {
        /// What is wrong.
        problem: String,
        /// What to do instead.
        remedy: String,
    },
    /// A setting, or a file it names, is not as it should be.
    #[error("{problem}; {remedy}")]
    Setting {
        /// What is wrong.
        problem: String,
        /// What to do about it.
        remedy: String,
    },
    /// The folder holds no node.
    #[error("{} holds no node; make one with: einmal init ROLE --dir {}", .dir.display(), .dir.display())]
    NotInitialised {
        /// The folder.
        dir: PathBuf,
    },
    /// The folder already holds a node.
    #[error("{} already holds a node; choose an empty folder, or remove {} first", .dir.display(), .dir.display())]
    AlreadyInitialised {
        /// The folder.
        dir: PathBuf,
    },
    /// A configuration file is wrong.
    #[error("{}: {problem}", .path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong and where.
        problem: String,
    },
    /// A file of the city or merchant cannot be read.
    #[error("{}: {problem}", .path.display())]
    Input {
        /// The file.
        path: PathBuf,
        /// What is wrong and where.
        problem: String,
    },
    /// The store cannot be opened.
    #[error("the store of this node cannot be opened: {0}")]
    Store(#[from] StoreError),
    /// Store or mail of a node that has been there before is not where it was.
    #[error(
        "{} is missing or empty, and this node had its {what} there, which is not made anew; mount the volume it lies on, or restore a backup into another folder: einmal restore FILE --dir DIR", .path.display()
    )]
    Missing {
        /// Where it should be.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {problem}; choose another with --listen ADDRESS:PORT")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// What the system said.
        problem: String,
    },
    /// No node runs in the folder.
    #[error("no node runs in {}; start it with: einmal run --dir {}", .dir.display(), .dir.display())]
    NotRunning {
        /// The folder.
        dir: PathBuf,
    },
    /// The running node refused or failed.
    #[error("{0}")]
    Refused(String),
    /// Something of ours failed that a user cannot mend.
    #[error("internal failure: {0}")]
    Internal(String),
}

impl SetupError {
    pub(crate) fn config(path: &Path, problem: impl fmt::Display) -> Self {
        Self::Config { path: path.to_owned(), problem: problem.to_string() }
    }

    pub(crate) fn input(path: &Path, problem: impl fmt::Display) -> Self {
        // Those who read a file name it themselves.
        let (problem, named) = (problem.to_string(), format!("{}: ", path.display()));
        let problem = problem.strip_prefix(&named).map_or(problem.clone(), str::to_owned);
        Self::Input { path: path.to_owned(), problem }
    }

    /// The same, of the node in `dir`: what knows no folder names its configuration by the bare name.
    pub(crate) fn within(self, dir: &Path) -> Self {
        match self {
            Self::Config { path, problem } if path.is_relative() => {
                Self::Config { path: dir.join(path), problem }
            }
            other => other,
        }
    }

    pub(crate) fn internal(problem: impl fmt::Display) -> Self {
        Self::Internal(problem.to_string())
    }

    /// The process exit status: 2 for wrong use, 1 for everything else.
    pub fn exit_status(&self) -> u8 {
        if matches!(self, Self::Usage { .. }) { 2 } else { 1 }
    }
}
