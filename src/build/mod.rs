//! Images: the digest of all that goes into one is its tag, and Docker builds what it has not got.
//!
//! [`Planner`] reads what a build takes in and names the image by it; [`Docker::build`] hands BuildKit those very
//! bytes, through a session of BuildKit's file sync that sends only what BuildKit has not got from the build before.

pub mod context;
pub mod digests;
pub mod docker;
pub mod dockerfile;
pub mod dockerignore;
pub mod ensure;
pub mod entries;
pub mod heard;
pub mod plan;

pub(crate) mod credentials;
mod endpoint;
mod explain;
mod filesync;
mod pattern;
mod progress;
mod scrub;
mod secrets;
mod session;
mod solve;
mod walk;

pub use docker::{Docker, Outcome};
pub use ensure::{Image, ensure};
pub use plan::{ImagePlan, Planner};
