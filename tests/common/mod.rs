//! What several test files need.

#![allow(dead_code, reason = "each test file uses a part")]

pub mod build;
