//! To be written.

pub mod agent;
pub mod load;
pub mod node;
