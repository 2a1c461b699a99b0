//! The background process that does the work for one stack directory, and how clients talk to it.

pub mod client;
mod journal;
pub mod lock;
pub mod protocol;
pub mod server;
pub mod spawn;
