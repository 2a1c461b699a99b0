//! To be written.

pub mod load;
pub mod node;
