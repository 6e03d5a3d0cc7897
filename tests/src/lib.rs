//! Harness of the stories: nodes on a network inside one process.
