//! Build secrets: read when a build begins, given to BuildKit when it asks, kept out of all that is said.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use bollard::grpc::build::moby::buildkit::secrets::v1::{
    GetSecretRequest, GetSecretResponse, secrets_server::Secrets as Service,
};
use tonic::{Request, Response, Status};

use crate::error::{Failure, Result};
use crate::stack::SecretSource;

use super::plan::ImagePlan;
use super::scrub::{Scrub, sounds_secret};

/// BuildKit takes no larger ones.
const LARGEST: usize = 500 * 1024;

/// The secrets of one build.
#[derive(Clone, Default)]
pub struct Secrets {
    values: HashMap<String, Vec<u8>>,
    /// Takes them, and build arguments that sound secret, out of a text.
    pub scrub: Scrub,
}

impl Secrets {
    /// Reads the secrets of a plan, each of which must be there.
    pub fn read(plan: &ImagePlan) -> Result<Self> {
        let values = read_all(&plan.name, &plan.spec.secrets)?;
        let texts: Vec<_> = values
            .values()
            .map(|value| String::from_utf8_lossy(value))
            .collect();
        let args = plan
            .args
            .iter()
            .filter(|(name, _)| sounds_secret(name))
            .map(|(_, value)| value.as_str());
        let scrub = Scrub::new(texts.iter().map(AsRef::as_ref).chain(args));
        Ok(Secrets { values, scrub })
    }
}

fn read_all(
    service: &str,
    secrets: &BTreeMap<String, SecretSource>,
) -> Result<HashMap<String, Vec<u8>>> {
    let mut values = HashMap::new();
    for (id, source) in secrets {
        let missing = || Failure::config(format!("the build secret {id} of {service} is missing"));
        let value = match source {
            SecretSource::File(path) => std::fs::read(path).map_err(|error| {
                missing().cause(format!("{}: {error}", path.display())).remedy("write the file that `build.secrets` names")
            })?,
            SecretSource::Env(name) => std::env::var_os(name).map(|value| value.into_encoded_bytes()).ok_or_else(|| {
                missing().cause(format!("the environment variable {name} is not set")).remedy(format!(
                    "export {name}, then `llmdev daemon stop`, since the daemon keeps the environment it was started in"
                ))
            })?,
        };
        if value.len() > LARGEST {
            return Err(Failure::config(format!(
                "the build secret {id} of {service} is larger than 500 KiB"
            )));
        }
        values.insert(id.clone(), value);
    }
    Ok(values)
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}

#[tonic::async_trait]
impl Service for Secrets {
    async fn get_secret(
        &self,
        request: Request<GetSecretRequest>,
    ) -> Result<Response<GetSecretResponse>, Status> {
        let id = request.into_inner().id;
        match self.values.get(&id) {
            Some(value) => Ok(Response::new(GetSecretResponse {
                data: value.clone(),
            })),
            None => Err(Status::not_found(format!("secret {id} not found"))),
        }
    }
}
