//! What integration tests share.
#![allow(dead_code, reason = "each test uses a part")]

pub mod live;
pub mod node;
