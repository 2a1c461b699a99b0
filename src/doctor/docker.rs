//! Docker: does it answer, which one is it, has it room.

use std::path::Path;

use super::{Check, gib};
use crate::build::Docker;

/// Less than this and builds fail soon.
const ROOM: (u64, u64) = (2 << 30, 10 << 30);

pub(super) async fn check() -> Vec<Check> {
    let docker = match Docker::connect().await {
        Ok(docker) => docker,
        Err(failure) => return vec![Check::failed("docker", &failure)],
    };
    let (version, info) = match tokio::try_join!(docker.api().version(), docker.api().info()) {
        Ok(answers) => answers,
        Err(error) => {
            return vec![Check::bad(
                "docker",
                format!("does not say what it is: {error}"),
            )];
        }
    };
    let store = info.driver.unwrap_or_default();
    let containerd = info
        .driver_status
        .iter()
        .flatten()
        .flatten()
        .any(|text| text.contains("io.containerd.snapshotter"));
    let found = format!(
        "{}, API {}, images in {store}{}",
        version.version.unwrap_or_default(),
        docker.api().client_version(),
        if containerd { " (containerd)" } else { "" },
    );
    let mut checks = vec![Check::good("docker", found)];
    // Docker Desktop's folder is in a machine that cannot be looked into from here.
    if let Some(root) = info.docker_root_dir.filter(|root| Path::new(root).is_dir()) {
        checks.extend(room(&root));
    }
    checks
}

fn room(root: &str) -> Option<Check> {
    let stat = rustix::fs::statvfs(root).ok()?;
    let free = stat.f_bavail * stat.f_frsize;
    let found = format!("{} free in {root}", gib(free));
    let remedy = "`docker system df` says what fills it; `docker system prune` makes room";
    Some(match free {
        free if free < ROOM.0 => Check::bad("disk", found).remedy(remedy),
        free if free < ROOM.1 => Check::warning("disk", found).remedy(remedy),
        _ => Check::good("disk", found),
    })
}
