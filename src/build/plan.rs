//! What to build and under which name: the tag is the digest of all that goes into the image.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Failure, Result};
use crate::stack::{BuildSpec, ServiceId, Stack};

use super::context::{Context, Unreadable};
use super::digests::Digests;
use super::dockerignore::Dockerignore;
use super::heard::{Heard, Moment};

/// One image to be built, or found.
#[derive(Clone)]
pub struct ImagePlan {
    /// Whose image it is; of several that share it, the one it was planned for.
    pub service: ServiceId,
    /// That service's name.
    pub name: String,
    /// The stack's name.
    pub stack: String,
    /// Full name and tag, such as `llmdev.local/shop/api:0123456789abcdef`.
    pub reference: String,
    /// As in `stack.yaml`.
    pub spec: BuildSpec,
    /// Build arguments, with the references of required images in.
    pub args: BTreeMap<String, String>,
    /// The Dockerfile's text, as it was when the digest was taken.
    pub dockerfile: Arc<str>,
    /// How the Dockerfile is called in messages: relative to the stack's folder where it is in it.
    pub dockerfile_name: String,
    /// What Docker is sent.
    pub context: Arc<Context>,
}

/// Names it only: arguments may be secret, and files are many.
impl fmt::Debug for ImagePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ImagePlan({} for {})", self.reference, self.name)
    }
}

/// Reads what builds take in. Remembers digests of files, so that the second time costs no reading; and contexts, so that
/// what a watcher has not told of costs no asking.
///
/// Its methods read the file system and use the processor: call them where blocking is allowed.
#[derive(Debug, Default)]
pub struct Planner {
    digests: Digests,
    /// By service.
    kept: BTreeMap<String, Kept>,
    heard: Arc<Heard>,
    /// Files were taken as they were, so that their digests were not asked for.
    spared: bool,
}

/// A context as it was read last.
#[derive(Debug)]
struct Kept {
    context: Arc<Context>,
    ignore: Dockerignore,
    /// What was heard of later is not in it.
    read: Moment,
}

impl Planner {
    /// With the memory of an earlier process, if the file has one.
    pub fn load(file: &Path) -> Self {
        Planner {
            digests: Digests::load(file),
            ..Planner::default()
        }
    }

    /// Where a watcher tells of changes.
    pub fn heard(&self) -> Arc<Heard> {
        Arc::clone(&self.heard)
    }

    /// Writes the memory down for the next process, if there is anything new in it.
    pub fn save(&mut self, file: &Path) -> io::Result<()> {
        self.digests.save(file)
    }

    /// Plans every service that has a `build`, an image before those that require it.
    pub fn plan(&mut self, stack: &Stack) -> Result<Vec<ImagePlan>> {
        let mut plans: Vec<ImagePlan> = Vec::new();
        let mut references = BTreeMap::new();
        self.spared = false;
        for id in build_order(stack)? {
            let plan = self.plan_one(stack, id, &references)?;
            references.insert(id, plan.reference.clone());
            plans.push(plan);
        }
        if !self.spared {
            self.digests.sweep();
        }
        self.kept
            .retain(|name, _| plans.iter().any(|plan| plan.name == *name));
        self.heard.forget(
            self.kept
                .values()
                .map(|kept| kept.read)
                .min()
                .unwrap_or_default(),
        );
        Ok(plans)
    }

    /// Plans one service that has a `build`. `required`: the references of the images that it requires.
    pub fn plan_one(
        &mut self,
        stack: &Stack,
        id: ServiceId,
        required: &BTreeMap<ServiceId, String>,
    ) -> Result<ImagePlan> {
        let service = stack.service(id);
        let name = &service.name;
        let spec = service
            .build
            .clone()
            .ok_or_else(|| Failure::config(format!("{name} has no build")))?;
        let dockerfile_name = relative(&stack.root, &spec.dockerfile);
        let dockerfile = read_dockerfile(name, &dockerfile_name, &spec.dockerfile)?;
        let ignore = read_dockerignore(stack, &spec)?;
        let context = self.read_context(stack, name, &spec, ignore)?;
        let mut args = spec.args.clone();
        for (arg, needed) in &spec.requires {
            let reference = required.get(needed).ok_or_else(|| {
                let needed = &stack.service(*needed).name;
                Failure::config(format!(
                    "{name} requires the image of {needed}, which is not built"
                ))
            })?;
            args.insert(arg.clone(), reference.clone());
        }
        let tag = tag(&spec, &args, &dockerfile, &context);
        let prefix = prefix(stack.cluster.registry.as_deref(), &stack.name);
        let reference = format!("{prefix}{}:{tag}", repository(&spec.image));
        Ok(ImagePlan {
            service: id,
            name: name.clone(),
            stack: stack.name.clone(),
            reference,
            spec,
            args,
            dockerfile: dockerfile.into(),
            dockerfile_name,
            context,
        })
    }

    fn read_context(
        &mut self,
        stack: &Stack,
        name: &str,
        spec: &BuildSpec,
        ignore: Dockerignore,
    ) -> Result<Arc<Context>> {
        let now = self.heard.now();
        let heard = self.heard_of(name, spec, &ignore);
        let before = self.kept.remove(name).zip(heard);
        self.spared |= before.is_some();
        let context = match before {
            Some((kept, heard)) if heard.is_empty() => kept.context,
            before => {
                let read = match &before {
                    Some((kept, heard)) => {
                        kept.context.read_again(heard, &ignore, &mut self.digests)
                    }
                    None => Context::read(&spec.context, &ignore, &mut self.digests),
                };
                // A file that went away between being listed and being read: editors and git do that.
                let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
                let read = read.or_else(|unreadable| {
                    if gone(&unreadable.error) && spec.context.exists() {
                        Context::read(&spec.context, &ignore, &mut self.digests)
                    } else {
                        Err(unreadable)
                    }
                });
                let read =
                    read.map_err(|unreadable| cannot_read(stack, name, spec, &unreadable))?;
                match before {
                    // The plans of the time before have it: one copy is enough.
                    Some((kept, _)) if *kept.context == read => kept.context,
                    _ => Arc::new(read),
                }
            }
        };
        // A watcher may have other names for what is behind a link.
        if spec
            .context
            .canonicalize()
            .is_ok_and(|real| real == spec.context)
        {
            let kept = Kept {
                context: Arc::clone(&context),
                ignore,
                read: now,
            };
            self.kept.insert(name.to_owned(), kept);
        }
        Ok(context)
    }

    /// What was heard of in a context since it was read. None: it is to be read anew.
    fn heard_of(
        &self,
        name: &str,
        spec: &BuildSpec,
        ignore: &Dockerignore,
    ) -> Option<BTreeSet<PathBuf>> {
        let kept = self.kept.get(name)?;
        if kept.context.root != spec.context || kept.ignore != *ignore {
            return None;
        }
        let mut heard = self.heard.after(kept.read)?;
        // Nobody knows what else may have changed with a path that is in no context.
        let of_some = |path: &PathBuf| {
            let mut roots = self.kept.values().map(|kept| &kept.context.root);
            roots.any(|root| path.starts_with(root))
        };
        if !heard.iter().all(of_some) {
            return None;
        }
        heard.retain(|path| path.starts_with(&spec.context));
        Some(heard)
    }
}

/// The services with a build, in the order in which `requires` wants them.
fn build_order(stack: &Stack) -> Result<Vec<ServiceId>> {
    fn visit(
        stack: &Stack,
        id: ServiceId,
        path: &mut Vec<ServiceId>,
        order: &mut Vec<ServiceId>,
    ) -> Result<()> {
        if order.contains(&id) {
            return Ok(());
        }
        let circle = path.contains(&id);
        path.push(id);
        if circle {
            let names: Vec<_> = path
                .iter()
                .map(|id| stack.service(*id).name.as_str())
                .collect();
            return Err(Failure::config(format!(
                "images require each other: {}",
                names.join(" requires ")
            )));
        }
        if let Some(build) = &stack.service(id).build {
            for needed in build.requires.values() {
                visit(stack, *needed, path, order)?;
            }
            order.push(id);
        }
        path.pop();
        Ok(())
    }
    let mut order = Vec::new();
    for id in stack.ids() {
        visit(stack, id, &mut Vec::new(), &mut order)?;
    }
    Ok(order)
}

/// 16 hex digits of the digest of all that makes the image what it is.
///
/// Of secrets only the ids count: their values must not be guessable from a name that everybody sees, and BuildKit's
/// own cache leaves them out likewise, since a renewed token does not make another image.
fn tag(
    spec: &BuildSpec,
    args: &BTreeMap<String, String>,
    dockerfile: &str,
    context: &Context,
) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut field = |text: &str| {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    };
    field("llmdev image 1");
    field(&spec.image);
    field(dockerfile);
    field(spec.target.as_deref().unwrap_or_default());
    field(&format!("{} args", args.len()));
    for (name, value) in args {
        field(name);
        field(value);
    }
    field(&format!("{} secrets", spec.secrets.len()));
    for id in spec.secrets.keys() {
        field(id);
    }
    context.digest_into(&mut hasher);
    hasher.finalize().to_hex()[..16].to_owned()
}

/// What the references of all images of a stack begin with, where they are pulled from a registry and where not.
pub fn prefix(registry: Option<&str>, stack: &str) -> String {
    format!("{}/{stack}/", registry.unwrap_or("llmdev.local"))
}

/// An image's name as the path of a repository under llmdev's own.
fn repository(image: &str) -> String {
    let part = |part: &str| -> String {
        let fit = |c: char| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        };
        let fitted: String = part.chars().map(fit).collect();
        let words: Vec<_> = fitted.split('-').filter(|word| !word.is_empty()).collect();
        words.join("-")
    };
    let parts: Vec<_> = image
        .split('/')
        .map(part)
        .filter(|part| !part.is_empty())
        .collect();
    if parts.is_empty() {
        "image".to_owned()
    } else {
        parts.join("/")
    }
}

fn read_dockerfile(service: &str, shown: &str, path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).map_err(|error| {
        let failure = Failure::config(format!("cannot read {shown}, the Dockerfile of {service}"))
            .cause(error.to_string());
        match error.kind() {
            io::ErrorKind::NotFound => {
                failure.remedy("write it, or set `build.dockerfile` to where it is")
            }
            _ => failure.remedy(READABLE),
        }
    })?;
    String::from_utf8(bytes).map_err(|_| {
        Failure::config(format!(
            "{shown}, the Dockerfile of {service}, is not UTF-8"
        ))
    })
}

/// The Dockerfile's own ignore file goes before that of the context.
fn read_dockerignore(stack: &Stack, spec: &BuildSpec) -> Result<Dockerignore> {
    let mut own = spec.dockerfile.clone().into_os_string();
    own.push(".dockerignore");
    for path in [PathBuf::from(own), spec.context.join(".dockerignore")] {
        let shown = relative(&stack.root, &path);
        match std::fs::read(&path) {
            Ok(bytes) => {
                return Dockerignore::parse(&String::from_utf8_lossy(&bytes)).map_err(|bad| {
                    Failure::config(format!("Docker does not take {shown}"))
                        .detail([format!(
                            "{shown}:{}: error: no pattern: {}",
                            bad.line, bad.text
                        )])
                        .remedy("brackets must be closed, and `!` needs a pattern after it")
                });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(Failure::config(format!("cannot read {shown}"))
                    .because(error)
                    .remedy(READABLE));
            }
        }
    }
    Ok(Dockerignore::default())
}

const READABLE: &str = "make it readable for you: chmod u+r";

fn cannot_read(stack: &Stack, name: &str, spec: &BuildSpec, unreadable: &Unreadable) -> Failure {
    let shown = relative(&stack.root, &unreadable.path);
    if unreadable.path == spec.context {
        return Failure::config(format!("cannot read {shown}, the build context of {name}"))
            .cause(unreadable.error.to_string())
            .remedy("set `build.context` to the folder that the image is made from");
    }
    let failure = Failure::failed(format!(
        "cannot read {shown}, which goes into the image of {name}"
    ))
    .cause(unreadable.error.to_string());
    let ignore = format!(
        "list it in {}",
        relative(&stack.root, &spec.context.join(".dockerignore"))
    );
    match unreadable.error.kind() {
        io::ErrorKind::PermissionDenied => failure.remedy(format!(
            "{READABLE}; or {ignore} if the image needs no such file"
        )),
        _ => failure.remedy(format!("{ignore} if the image needs no such file")),
    }
}

fn relative(root: &Path, path: &Path) -> String {
    match path.strip_prefix(root) {
        Ok(inside) if !inside.as_os_str().is_empty() => inside.display().to_string(),
        _ => path.display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_names_become_repositories() {
        for (image, path) in [
            ("api", "api"),
            ("ghcr.io/Me/api", "ghcr-io/me/api"),
            ("localhost:5000/a__b", "localhost-5000/a-b"),
            ("-", "image"),
        ] {
            assert_eq!(repository(image), path);
        }
    }

    #[test]
    fn only_what_a_watcher_told_of_is_asked() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let write = |path: &str, text: &str| std::fs::write(root.join(path), text).unwrap();
        for service in ["a", "b"] {
            std::fs::create_dir(root.join(service)).unwrap();
            write(&format!("{service}/Dockerfile"), "FROM scratch\nCOPY . /\n");
            write(&format!("{service}/file"), "old");
        }
        write("k8s.yaml", "");
        let text = "apiVersion: llmdev/v1\nname: x\nrender: [manifests: [k8s.yaml]]\n\
                    services: {a: {build: a}, b: {build: b}}\n";
        let stack = crate::stack::parse(text, &root.join("stack.yaml"), None).unwrap();
        let mut planner = Planner::default();
        let heard = planner.heard();
        let tags = |planner: &mut Planner| -> Vec<String> {
            let plans = planner.plan(&stack).unwrap();
            plans.into_iter().map(|plan| plan.reference).collect()
        };
        let all_change = |text: &str| ["a/file", "b/file"].map(|path| write(path, text));

        let first = tags(&mut planner);
        all_change("nobody watches");
        let second = tags(&mut planner);
        assert!(first[0] != second[0] && first[1] != second[1]);

        heard.listen(true);
        all_change("before the first look of a watcher");
        let third = tags(&mut planner);
        assert!(second[0] != third[0] && second[1] != third[1]);
        all_change("a watcher would have told");
        assert_eq!(tags(&mut planner), third);
        heard.hear([&root.join("a/file")]);
        let fourth = tags(&mut planner);
        assert!(third[0] != fourth[0] && third[1] == fourth[1]);

        // What a path outside has to do with it, nobody knows; and another .dockerignore matters for all.
        heard.hear([&root.join("k8s.yaml")]);
        let fifth = tags(&mut planner);
        assert!(fourth[0] == fifth[0] && fourth[1] != fifth[1]);
        write("b/.dockerignore", "file\n");
        assert!(fifth[1] != tags(&mut planner)[1]);
    }
}
