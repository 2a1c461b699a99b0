//! The images of a stack in Docker.

use std::collections::{BTreeSet, HashMap};

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{ImageHistoryResponseItem, ImageSummary};
use bollard::query_parameters::{ListContainersOptionsBuilder, ListImagesOptionsBuilder};
use futures::{StreamExt, TryStreamExt, stream};
use tokio_util::sync::CancellationToken;

use crate::cluster::load::image::chain_ids;
use crate::cluster::load::layers::{self, Layer, Layers};
use crate::error::{Failure, Result};
use crate::owner;

/// Questions to Docker at a time.
const BESIDE: usize = 8;

/// A reference that Docker has.
#[derive(Debug, Clone)]
pub struct DockerImage {
    pub reference: String,
    pub created: i64,
    /// Whether a container has the image, running or not.
    pub used: bool,
}

/// What Docker let go of.
#[derive(Debug, Default)]
pub struct Freed {
    pub references: Vec<String>,
    /// Bytes of the layers that are gone.
    pub bytes: u64,
    /// Bytes of the layers that no image has any more and that are there all the same.
    pub cached: u64,
}

/// The images that llmdev made for a stack.
pub async fn list(docker: &Docker, stack: &str, prefixes: &[String]) -> Result<Vec<DockerImage>> {
    let filters = HashMap::from([("label", vec![format!("{}={stack}", owner::STACK)])]);
    let options = ListImagesOptionsBuilder::new().filters(&filters).build();
    let containers = ListContainersOptionsBuilder::new().all(true).build();
    let asked = futures::try_join!(
        docker.list_images(Some(options)),
        docker.list_containers(Some(containers))
    );
    let (images, containers) = asked.map_err(unasked)?;
    let used: BTreeSet<String> = containers
        .into_iter()
        .flat_map(|container| [container.image_id, container.image])
        .flatten()
        .collect();
    let of_image = |image: ImageSummary| {
        let id_used = used.contains(&image.id);
        let made = image.created;
        let used = &used;
        image
            .repo_tags
            .into_iter()
            .map(move |reference| DockerImage {
                used: id_used || used.contains(&reference),
                reference,
                created: made,
            })
    };
    let found = images.into_iter().flat_map(of_image);
    // An image that is made from one of llmdev's has its labels as well.
    let ours = |image: &DockerImage| prefixes.iter().any(|it| image.reference.starts_with(it));
    Ok(found.filter(ours).collect())
}

/// Takes references away, and with the last one of an image its layers; none that a container has got by now.
pub async fn remove(
    docker: &Docker,
    images: &[DockerImage],
    dry_run: bool,
    cancel: &CancellationToken,
) -> Result<Freed> {
    let (layers, going, staying) = layers_of_all(docker, images).await?;
    let free = layers::only(
        &layers,
        going.iter().map(String::as_str),
        staying.iter().map(String::as_str),
    );
    let all = layers::bytes(&layers, &free);
    if dry_run {
        let references = images.iter().map(|image| image.reference.clone()).collect();
        return Ok(Freed {
            references,
            bytes: all,
            cached: 0,
        });
    }
    let mut freed = Freed::default();
    let mut deleted = BTreeSet::new();
    for image in images {
        if cancel.is_cancelled() {
            break;
        }
        let none = None::<bollard::query_parameters::RemoveImageOptions>;
        match docker.remove_image(&image.reference, none, None).await {
            Ok(items) => {
                freed.references.push(image.reference.clone());
                deleted.extend(items.into_iter().filter_map(|item| item.deleted));
            }
            // Gone, or used by a container, since it was listed.
            Err(Error::DockerResponseServerError {
                status_code: 404 | 409,
                ..
            }) => {}
            Err(error) => {
                return Err(Failure::environment(format!(
                    "cannot remove image {} from Docker",
                    image.reference
                ))
                .because(error));
            }
        }
    }
    freed.bytes = layers::bytes(
        &layers,
        free.iter().filter(|chain| deleted.contains(*chain)),
    );
    freed.cached = if cancel.is_cancelled() {
        0
    } else {
        all - freed.bytes
    };
    Ok(freed)
}

/// All layers, those of `images` with their sizes; then the topmost layers of the images that go with their last
/// reference, and of all others.
async fn layers_of_all(
    docker: &Docker,
    images: &[DockerImage],
) -> Result<(Layers, Vec<String>, Vec<String>)> {
    let all = docker
        .list_images(None::<bollard::query_parameters::ListImagesOptions>)
        .await
        .map_err(unasked)?;
    let goes = |image: &ImageSummary| {
        let listed = |tag: &String| images.iter().any(|image| image.reference == *tag);
        !image.repo_tags.is_empty() && image.repo_tags.iter().all(listed)
    };
    let ids: Vec<(String, bool)> = all
        .iter()
        .map(|image| (image.id.clone(), goes(image)))
        .collect();
    let asked = stream::iter(ids).map(|(id, goes)| ask(docker.clone(), id, goes));
    let asked: Vec<Asked> = asked.buffer_unordered(BESIDE).try_collect().await?;
    let mut layers = Layers::new();
    let (mut going, mut staying) = (Vec::new(), Vec::new());
    for image in asked {
        for (position, chain) in image.chains.iter().enumerate() {
            let layer = layers.entry(chain.clone()).or_default();
            let below = position
                .checked_sub(1)
                .map(|below| image.chains[below].clone());
            let size = image.sizes.get(position).copied().unwrap_or_default();
            *layer = Layer {
                below,
                size: layer.size.max(size),
            };
        }
        let tops = if image.goes { &mut going } else { &mut staying };
        tops.extend(image.chains.last().cloned());
    }
    Ok((layers, going, staying))
}

struct Asked {
    goes: bool,
    chains: Vec<String>,
    /// Lowest first; none of images that stay.
    sizes: Vec<u64>,
}

async fn ask(docker: Docker, id: String, goes: bool) -> Result<Asked> {
    let gone = |error: &Error| {
        matches!(
            error,
            Error::DockerResponseServerError {
                status_code: 404,
                ..
            }
        )
    };
    let found = match docker.inspect_image(&id).await {
        Ok(found) => found,
        Err(error) if gone(&error) => {
            return Ok(Asked {
                goes,
                chains: vec![],
                sizes: vec![],
            });
        }
        Err(error) => return Err(unasked(error)),
    };
    let chains = chain_ids(
        &found
            .root_fs
            .and_then(|root| root.layers)
            .unwrap_or_default(),
    );
    let sizes = match goes {
        true => sizes(
            chains.len(),
            &docker.image_history(&id).await.unwrap_or_default(),
        ),
        false => Vec::new(),
    };
    Ok(Asked {
        goes,
        chains,
        sizes,
    })
}

/// Bytes of each layer, lowest first, by an image's history, newest step first. Rather too few where it is not clear
/// which steps made a layer.
fn sizes(layers: usize, history: &[ImageHistoryResponseItem]) -> Vec<u64> {
    let size = |step: &ImageHistoryResponseItem| u64::try_from(step.size).unwrap_or_default();
    let steps = || history.iter().rev();
    let all: Vec<u64> = steps()
        .filter(|step| step.size > 0 || is_made(&step.created_by))
        .map(size)
        .collect();
    if all.len() == layers {
        return all;
    }
    let mut some: Vec<u64> = steps().map(size).filter(|size| *size > 0).collect();
    some.resize(layers, 0);
    some
}

/// Whether a step makes a layer, be it an empty one.
fn is_made(step: &str) -> bool {
    let step = step
        .strip_prefix("/bin/sh -c #(nop)")
        .unwrap_or(step)
        .trim_start();
    let words = ["COPY ", "ADD ", "RUN ", "WORKDIR ", "/bin/sh -c "];
    words.iter().any(|word| step.starts_with(word))
}

fn unasked(error: Error) -> Failure {
    Failure::environment("cannot ask Docker for its images").because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_matched_with_layers() {
        let steps = |steps: &[(i64, &str)]| -> Vec<ImageHistoryResponseItem> {
            let step = |(size, by): &(i64, &str)| ImageHistoryResponseItem {
                size: *size,
                created_by: (*by).to_owned(),
                ..Default::default()
            };
            steps.iter().map(step).collect()
        };
        let history = steps(&[
            (0, "CMD [\"sleep\"]"),
            (5, "COPY big /big # buildkit"),
            (0, "WORKDIR /app"),
            (0, "ENV A=b"),
            (9, ""),
        ]);
        assert_eq!(sizes(3, &history), [9, 0, 5]);
        assert_eq!(
            sizes(2, &history),
            [9, 5],
            "a WORKDIR that was there already"
        );
        assert_eq!(sizes(4, &history), [9, 5, 0, 0], "rather too few");
        let old = steps(&[
            (0, "/bin/sh -c #(nop)  CMD [\"x\"]"),
            (0, "/bin/sh -c #(nop) COPY dir:1 in / "),
            (7, "x"),
        ]);
        assert_eq!(sizes(2, &old), [7, 0]);
    }
}
