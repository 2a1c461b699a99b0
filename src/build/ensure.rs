//! From a service to its image: planned, found or built.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio_util::sync::CancellationToken;

use crate::error::{Failure, Kind, Result};
use crate::stack::{ServiceId, Stack};

use super::docker::{Docker, Outcome};
use super::plan::{ImagePlan, Planner};

/// An image that the engine has.
#[derive(Debug, Clone)]
pub struct Image {
    /// What went into it.
    pub plan: ImagePlan,
    /// Docker's id of it.
    pub id: String,
    /// It was there already.
    pub found: bool,
}

/// How often files may change under a build before it is given up.
const TRIES: usize = 2;

/// Plans a service's image, and builds it unless Docker has it. `required`: the references of the images that it
/// requires. A build whose files change while they are sent is begun anew, once.
///
/// `lines`, `cancel` and failures are those of [`Docker::build`] and [`Planner::plan_one`].
pub async fn ensure(
    docker: &Docker,
    planner: &Arc<Mutex<Planner>>,
    stack: &Arc<Stack>,
    service: ServiceId,
    required: &BTreeMap<ServiceId, String>,
    lines: &mut (dyn FnMut(&str) + Send),
    cancel: &CancellationToken,
) -> Result<Image> {
    let mut changed = String::new();
    for _ in 0..TRIES {
        let plan = plan(planner, stack, service, required).await?;
        if cancel.is_cancelled() {
            return Err(Failure::new(
                Kind::Interrupted,
                format!("building {} was stopped", plan.name),
            ));
        }
        if let Some(id) = docker.image_id(&plan.reference).await? {
            return Ok(Image {
                plan,
                id,
                found: true,
            });
        }
        match docker.build(&plan, lines, cancel).await? {
            Outcome::Built(id) => {
                return Ok(Image {
                    plan,
                    id,
                    found: false,
                });
            }
            Outcome::Changed(path) => changed = path.display().to_string(),
        }
    }
    let name = &stack.service(service).name;
    Err(Failure::failed(format!(
        "the files of {name} keep changing while they are sent to Docker"
    ))
    .cause(format!("{changed} is not what it was a moment ago"))
    .remedy(
        "if the image needs no such file, list it in .dockerignore; else build again when it rests",
    ))
}

async fn plan(
    planner: &Arc<Mutex<Planner>>,
    stack: &Arc<Stack>,
    service: ServiceId,
    required: &BTreeMap<ServiceId, String>,
) -> Result<ImagePlan> {
    let (planner, stack, required) = (planner.clone(), stack.clone(), required.clone());
    let planning = move || {
        let mut planner = planner
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        planner.plan_one(&stack, service, &required)
    };
    tokio::task::spawn_blocking(planning)
        .await
        .unwrap_or_else(|gone| Err(Failure::failed("planning a build was stopped").because(gone)))
}
