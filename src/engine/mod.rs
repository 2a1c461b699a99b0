//! What happens when: the pure [`machine`], which decides, and the [`driver`], which does.

pub mod bus;
pub mod driver;
mod hooks;
pub mod live;
pub mod machine;
mod old_pod;
pub mod prepare;
pub mod remove;
mod rest;
mod rows;
mod settle;
mod stages;
mod world;
