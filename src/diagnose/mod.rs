//! Why a service is not ready, with the remedy.

use kube::Client;

use crate::error::Failure;
use crate::view::View;

/// Everything that is known to keep a service from being ready, the likeliest first.
pub async fn why(_client: &Client, _view: &View, _service: &str) -> Vec<Failure> {
    Vec::new()
}
