//! The short way for changed files: into running containers, without a build.
//!
//! What has to be in a container is a function of two things: the build context that its image was made from
//! ([`base`]) and the build context as it is now. When every file between the two is covered by a rule ([`rules`]), no
//! image is built: the `keeper` sees to it that every container of the service holds the difference, also those that
//! start later, and holds connections back from those that do not have it yet.

pub mod base;
mod copies;
mod keeper;
mod mask;
mod plan;
pub mod rules;
mod send;
pub mod tar;

pub use base::Base;
pub use keeper::{Keeper, Reply, Said};
pub use plan::Wanted;
pub use rules::Rules;
pub use send::Means;
