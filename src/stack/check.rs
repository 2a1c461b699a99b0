//! From names to indices and absolute paths: what goes together, what is missing, what goes round in circles.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use super::build::BuildFile;
use super::decode::At;
use super::diagnostic::{Diagnostic, Report, Span};
use super::file::{RenderFile, SecretFile, StackFile};
use super::service::ServiceFile;
use super::{
    BuildSpec, Chart, ForwardSpec, HelmRelease, RenderStep, SecretSource, SecretSpec, Service,
    ServiceId, Stack, graph, paths,
};

/// The names that kustomize looks for, in its order.
pub const KUSTOMIZATIONS: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// Resolves a file that lies at `path` in the folder `root`. The stack is only as good as `report` is empty.
pub fn check(file: StackFile, root: &Path, path: &Path, report: &mut Report) -> Stack {
    let names: Vec<String> = file
        .services
        .iter()
        .map(|service| service.name.it.clone())
        .collect();
    let names = Names(&names);
    ports(&file.services, report);
    images(&file.services, report);
    secret_names(&file.secrets, report);
    circles(&file.services, &names, report);
    let config = file
        .cluster_config
        .as_ref()
        .map(|config| paths::file(root, config, report));
    let mut cluster = file.cluster;
    cluster.config = config;
    let render = file
        .render
        .into_iter()
        .map(|step| render_step(step, root, report))
        .collect();
    let services = file
        .services
        .into_iter()
        .map(|it| service(it, &names, root, report))
        .collect();
    let secrets = file.secrets.into_iter().map(|secret| SecretSpec {
        name: secret.name.it,
        env_file: paths::absolute(root, &secret.env_file),
        keys: secret.keys,
    });
    Stack {
        name: file.name,
        root: root.to_owned(),
        file: path.to_owned(),
        cluster,
        namespace: file.namespace.unwrap_or_else(|| "default".to_owned()),
        render,
        services,
        secrets: secrets.collect(),
        hooks: file.hooks,
        dev: file.dev,
        strict: file.strict,
        ignore: file.ignore,
    }
}

/// The services' names, in order.
struct Names<'a>(&'a [String]);

impl Names<'_> {
    fn find(&self, name: &str) -> Option<ServiceId> {
        self.0.iter().position(|known| known == name).map(ServiceId)
    }

    fn need(&self, name: &At<String>, report: &mut Report) -> Option<ServiceId> {
        let found = self.find(&name.it);
        if found.is_none() {
            let mistake = Diagnostic::new(
                name.span.clone(),
                format!("there is no service {:?}", name.it),
            );
            report.add(mistake.suggest(&name.it, self.0.iter().map(String::as_str)));
        }
        found
    }
}

fn service(file: ServiceFile, names: &Names<'_>, root: &Path, report: &mut Report) -> Service {
    let mut depends_on = Vec::new();
    for name in &file.depends_on {
        let Some(id) = names.need(name, report) else {
            continue;
        };
        if depends_on.contains(&id) {
            let message = format!("{:?} is in `dependsOn` twice", name.it);
            report.add(Diagnostic::new(name.span.clone(), message));
        } else {
            depends_on.push(id);
        }
    }
    Service {
        name: file.name.it,
        build: file.build.map(|it| build(it, names, root, report)),
        workload: file.workload,
        image_in: file.image_in,
        depends_on,
        forwards: file
            .forwards
            .into_iter()
            .map(|forward| forward.it)
            .collect(),
        sync: file.sync,
        ready_timeout: file.ready_timeout,
        fast_rollout: file.fast_rollout,
    }
}

fn build(file: BuildFile, names: &Names<'_>, root: &Path, report: &mut Report) -> BuildSpec {
    let context = paths::folder(root, &file.context, report);
    let dockerfile = match &file.dockerfile {
        Some(dockerfile) if context.is_dir() => paths::file(&context, dockerfile, report),
        Some(dockerfile) => context.join(&dockerfile.it),
        None => {
            if context.is_dir() && !context.join("Dockerfile").is_file() {
                let message = format!("the folder {:?} has no Dockerfile", file.context.it);
                let mistake = Diagnostic::new(file.context.span.clone(), message);
                report.add(mistake.help("`dockerfile` names it if it is called otherwise"));
            }
            context.join("Dockerfile")
        }
    };
    let secret = |(id, source)| match source {
        SecretSource::File(file) => (id, SecretSource::File(root.join(file))),
        env => (id, env),
    };
    let mut requires = BTreeMap::new();
    for (argument, name) in file.requires {
        if let Some(id) = names.need(&name, report) {
            requires.insert(argument, id);
        }
    }
    BuildSpec {
        image: file.image.it,
        context,
        dockerfile,
        target: file.target,
        args: file.args,
        secrets: file.secrets.into_iter().map(secret).collect(),
        requires,
    }
}

fn render_step(step: RenderFile, root: &Path, report: &mut Report) -> RenderStep {
    match step {
        RenderFile::Kustomize(folder) => {
            RenderStep::Kustomize(paths::folder_with(root, &folder, &KUSTOMIZATIONS, report))
        }
        RenderFile::Manifests(globs) => {
            for glob in &globs {
                paths::matched(root, glob, report);
            }
            RenderStep::Manifests(globs.into_iter().map(|glob| glob.it).collect())
        }
        RenderFile::Helm {
            release,
            chart,
            repo,
            version,
            values,
            set,
            namespace,
        } => {
            let chart = self::chart(chart, repo, version, root, report);
            let values = values
                .iter()
                .map(|it| paths::file(root, it, report))
                .collect();
            RenderStep::Helm(HelmRelease {
                release,
                chart,
                values,
                set,
                namespace,
            })
        }
    }
}

fn chart(
    chart: At<String>,
    repo: Option<At<String>>,
    version: Option<At<String>>,
    root: &Path,
    report: &mut Report,
) -> Chart {
    let in_registry = chart.it.starts_with("oci://");
    if !in_registry && repo.is_none() {
        if let Some(version) = version {
            let message = "a chart in a folder has the version that its Chart.yaml says";
            let mistake = Diagnostic::new(version.span, message);
            report.add(mistake.help("take it away, or say the chart's `repo`"));
        }
        return Chart::Folder(paths::folder_with(root, &chart, &["Chart.yaml"], report));
    }
    if let Some(repo) = repo.as_ref().filter(|_| in_registry) {
        let mistake = Diagnostic::new(repo.span.clone(), "an oci:// chart says where it is itself");
        report.add(mistake.help("take `repo` away"));
    }
    if version.is_none() {
        let message = "a chart that is fetched needs its `version`";
        let mistake = Diagnostic::new(chart.span, message);
        report.add(mistake.help("so that what comes up tomorrow is what comes up today"));
    }
    Chart::Fetched {
        name: chart.it,
        repo: repo.map(|repo| repo.it),
        version: version.map(|version| version.it).unwrap_or_default(),
    }
}

fn ports(services: &[ServiceFile], report: &mut Report) {
    let mut taken: Vec<(&At<ForwardSpec>, &str)> = Vec::new();
    for service in services {
        for forward in &service.forwards {
            let clash = taken
                .iter()
                .find(|(other, _)| overlap(&other.it, &forward.it));
            if let Some((other, owner)) = clash {
                let message = format!("the local port {} is used twice", forward.it.local);
                let mistake = Diagnostic::new(forward.span.clone(), message)
                    .also(other.span.clone(), format!("service {owner:?} has it"));
                report.add(mistake.help(format!(
                    "give one of them another local port, for example \"{}:{}\"",
                    u32::from(forward.it.local) % 55_535 + 10_000,
                    forward.it.remote
                )));
            } else {
                taken.push((forward, &service.name.it));
            }
        }
    }
}

/// Whether both cannot be listened on at once.
fn overlap(a: &ForwardSpec, b: &ForwardSpec) -> bool {
    let loopback = |it: &ForwardSpec| it.address.is_none_or(|address| is_default(&address));
    let any = |it: &ForwardSpec| it.address.is_some_and(|address| address.is_unspecified());
    a.local == b.local
        && (a.address == b.address || any(a) || any(b) || default_clash(a, b, loopback))
}

fn default_clash(
    a: &ForwardSpec,
    b: &ForwardSpec,
    loopback: impl Fn(&ForwardSpec) -> bool,
) -> bool {
    (a.address.is_none() || b.address.is_none()) && loopback(a) && loopback(b)
}

/// What a forward without an address listens on.
fn is_default(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => *v4 == Ipv4Addr::LOCALHOST,
        IpAddr::V6(v6) => v6.is_loopback(),
    }
}

fn images(services: &[ServiceFile], report: &mut Report) {
    let mut built: BTreeMap<&str, (&Span, &str)> = BTreeMap::new();
    for service in services {
        let Some(build) = &service.build else {
            continue;
        };
        match built.get(build.image.it.as_str()) {
            Some((span, owner)) => {
                let message = format!("the image {:?} is built twice", build.image.it);
                let mistake = Diagnostic::new(build.image.span.clone(), message);
                let help = "a service whose image another one builds needs no `build`";
                report.add(
                    mistake
                        .also((*span).clone(), format!("by service {owner:?}"))
                        .help(help),
                );
            }
            None => {
                built.insert(&build.image.it, (&build.image.span, &service.name.it));
            }
        }
    }
}

fn secret_names(secrets: &[SecretFile], report: &mut Report) {
    for (i, secret) in secrets.iter().enumerate() {
        if let Some(first) = secrets[..i]
            .iter()
            .find(|first| first.name.it == secret.name.it)
        {
            let message = format!("the secret {:?} is here twice", secret.name.it);
            let mistake = Diagnostic::new(secret.name.span.clone(), message);
            report.add(mistake.also(first.name.span.clone(), "the first"));
        }
    }
}

/// An edge and where the file says it.
type Edges<'a> = Vec<((usize, usize), &'a Span)>;

fn circles(services: &[ServiceFile], names: &Names<'_>, report: &mut Report) {
    let mut depends: Edges<'_> = Vec::new();
    let mut requires: Edges<'_> = Vec::new();
    for (from, service) in services.iter().enumerate() {
        let edge = |name: &'_ At<String>| Some((from, names.find(&name.it)?.0));
        depends.extend(
            service
                .depends_on
                .iter()
                .filter_map(|it| Some((edge(it)?, &it.span))),
        );
        for name in service
            .build
            .iter()
            .flat_map(|build| build.requires.values())
        {
            let Some(edge) = edge(name) else { continue };
            requires.push((edge, &name.span));
            if services[edge.1].build.is_none() {
                let message = format!("service {:?} has no build, so no image of its own", name.it);
                report.add(Diagnostic::new(name.span.clone(), message));
            }
        }
    }
    report_circles("dependsOn", &depends, names, report);
    report_circles("requires", &requires, names, report);
}

fn report_circles(key: &str, edges: &Edges<'_>, names: &Names<'_>, report: &mut Report) {
    let plain: Vec<(usize, usize)> = edges.iter().map(|(edge, _)| *edge).collect();
    for graph::Cycle(path) in graph::cycles(names.0.len(), &plain) {
        let steps = path.iter().zip(path.iter().cycle().skip(1));
        let spans = steps.map(|(&a, &b)| {
            let span = edges
                .iter()
                .find(|(edge, _)| *edge == (a, b))
                .map_or(0..0, |it| it.1.clone());
            (span, format!("{} → {}", names.0[a], names.0[b]))
        });
        let mut spans: Vec<(Span, String)> = spans.collect();
        let first = spans.remove(0);
        let round = path
            .iter()
            .chain(path.first())
            .map(|&it| names.0[it].as_str());
        let round = round.collect::<Vec<_>>().join(" → ");
        let message = format!("`{key}` goes round in a circle: {round}");
        let mut mistake = Diagnostic::new(first.0, message);
        mistake.also = spans;
        report.add(mistake);
    }
}
