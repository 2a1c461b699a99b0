//! Forwards: first against programs on this machine, with pods that exist in a view only; then on the cluster.

#[path = "common/forward.rs"]
mod common;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{Imagined, Space, load};
use futures::future::FutureExt;
use llmdev::event::ForwardStatus;
use llmdev::forward::{Dialer, ForwardChange, Forwards};
use llmdev::stack::ForwardSpec;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Imagined pods, and where each really is.
struct Stage {
    pods: Imagined,
    places: Arc<Mutex<BTreeMap<String, SocketAddr>>>,
    forwards: Forwards,
    changes: mpsc::UnboundedReceiver<ForwardChange>,
}

impl Stage {
    fn new() -> Stage {
        let pods = Imagined::new();
        let places: Arc<Mutex<BTreeMap<String, SocketAddr>>> = Arc::default();
        let known = places.clone();
        let dial = move |pod: Arc<k8s_openapi::api::core::v1::Pod>, _port| {
            let name = pod.metadata.name.clone().unwrap();
            let place = known.lock().unwrap().get(&name).copied();
            async move {
                match place {
                    Some(place) => TcpStream::connect(place).await,
                    None => Err(std::io::Error::other("no route to the pod")),
                }
            }
            .boxed()
        };
        let (sender, changes) = mpsc::unbounded_channel();
        let changed = move |change| drop(sender.send(change));
        let dialer = Dialer::Tcp(Arc::new(dial));
        let forwards = Forwards::new(pods.views(), dialer, changed, CancellationToken::new());
        Stage {
            pods,
            places,
            forwards,
            changes,
        }
    }

    fn place(&self, pod: &str, at: SocketAddr) {
        self.places.lock().unwrap().insert(pod.to_owned(), at);
    }

    /// A pod that is ready, with a server behind it.
    fn ready(&self, pod: &str, server: &Server) {
        self.place(pod, server.address);
        self.pods.pod("web", pod, true);
    }

    /// One forward of the service `web`, to a port that the kernel chose.
    async fn forward(&self) -> u16 {
        let spec = ForwardSpec {
            local: 0,
            remote: 80,
            address: None,
        };
        self.forwards.set(vec![("web".to_owned(), spec)]).await[0].local
    }

    /// Waits for a change after which `is` holds for the service's first forward.
    async fn until(&mut self, is: impl Fn(&ForwardStatus) -> bool) -> ForwardChange {
        let wait = async {
            loop {
                let change = self.changes.recv().await.unwrap();
                if change.forwards.first().is_some_and(&is) {
                    return change;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(30), wait)
            .await
            .expect("a change in 30 s")
    }
}

/// A program in a pod. It ends, with all its connections, when this goes.
struct Server {
    address: SocketAddr,
    _stop: DropGuard,
}

/// What a server does with a connection.
#[derive(Clone, Copy)]
enum Manner {
    /// Answers each line with its name and the line.
    Lines,
    /// Speaks first, then answers as `Lines`.
    Greets,
    /// Reads a line, then hangs up without an answer.
    HangsUp,
    /// Says something only after the client has sent all.
    AfterTheEnd,
    /// Answers each HTTP request after a while.
    Http,
}

impl Server {
    async fn new(name: &'static str, manner: Manner) -> Server {
        Self::at("127.0.0.1:0".parse().unwrap(), name, manner).await
    }

    async fn at(address: SocketAddr, name: &'static str, manner: Manner) -> Server {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let work = async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(talk(stream, name, manner));
                while connections.try_join_next().is_some() {}
            }
        };
        tokio::spawn(stop.clone().run_until_cancelled_owned(work));
        Server {
            address,
            _stop: stop.drop_guard(),
        }
    }
}

async fn talk(stream: TcpStream, name: &str, manner: Manner) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    if let Manner::Greets = manner {
        stream.write_all(b"welcome\n").await?;
    }
    loop {
        let mut line = String::new();
        let count = stream.read_line(&mut line).await?;
        match manner {
            _ if count == 0 => {}
            Manner::HangsUp => return Ok(()),
            Manner::Lines | Manner::Greets => {
                stream
                    .write_all(format!("{name}: {line}").as_bytes())
                    .await?
            }
            Manner::AfterTheEnd => continue,
            Manner::Http if line != "\r\n" => continue,
            Manner::Http => {
                tokio::time::sleep(Duration::from_millis(20)).await;
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}",
                    name.len()
                );
                return stream.write_all(answer.as_bytes()).await;
            }
        }
        if count == 0 {
            if let Manner::AfterTheEnd = manner {
                stream
                    .write_all(format!("{name}: all read").as_bytes())
                    .await?;
            }
            return Ok(());
        }
    }
}

async fn connect(port: u16) -> BufReader<TcpStream> {
    BufReader::new(
        TcpStream::connect(("127.0.0.1", port))
            .await
            .expect("the port is open"),
    )
}

/// Sends a line, and waits for the answer's first line; empty when there is none.
async fn ask(stream: &mut BufReader<TcpStream>, text: &str) -> String {
    let mut answer = String::new();
    stream.write_all(text.as_bytes()).await.unwrap();
    let read = stream.read_line(&mut answer);
    // A connection that is reset has not answered either.
    let _ = tokio::time::timeout(Duration::from_secs(20), read)
        .await
        .expect("an answer in 20 s");
    answer.trim_end().to_owned()
}

#[tokio::test]
async fn a_connection_waits_for_a_ready_pod() {
    let stage = Stage::new();
    let port = stage.forward().await;
    let mut client = connect(port).await;
    let asked = ask(&mut client, "hello\n");
    tokio::pin!(asked);
    let early = tokio::time::timeout(Duration::from_millis(200), &mut asked).await;
    assert!(early.is_err(), "nobody could answer: {early:?}");
    let server = Server::new("first", Manner::Lines).await;
    stage.place("a", server.address);
    stage.pods.pod("web", "a", false);
    stage.pods.pod("web", "a", true);
    assert_eq!(asked.await, "first: hello");
}

#[tokio::test]
async fn both_address_families_are_served() {
    let stage = Stage::new();
    let server = Server::new("a", Manner::Lines).await;
    stage.ready("a", &server);
    let port = stage.forward().await;
    let forward = &stage.forwards.status()["web"][0];
    if forward.address == "localhost" {
        let mut six = BufReader::new(TcpStream::connect(("::1", port)).await.unwrap());
        assert_eq!(ask(&mut six, "six\n").await, "a: six");
    } else {
        let absent = std::net::TcpListener::bind("[::1]:0").is_err();
        assert!(
            absent,
            "only {} is served though there is IPv6",
            forward.address
        );
    }
    assert_eq!(ask(&mut connect(port).await, "four\n").await, "a: four");
}

#[tokio::test]
async fn a_new_connection_goes_to_the_successor_and_an_old_one_stays() {
    let stage = Stage::new();
    let (old, new) = (
        Server::new("old", Manner::Lines).await,
        Server::new("new", Manner::Lines).await,
    );
    stage.ready("old", &old);
    let port = stage.forward().await;
    let mut before = connect(port).await;
    assert_eq!(ask(&mut before, "1\n").await, "old: 1");
    stage.pods.pod("web", "old", false);
    stage.ready("new", &new);
    assert_eq!(ask(&mut connect(port).await, "2\n").await, "new: 2");
    assert_eq!(ask(&mut before, "3\n").await, "old: 3");
}

#[tokio::test]
async fn a_refusing_pod_is_tried_again() {
    let stage = Stage::new();
    let address = Server::new("gone", Manner::Lines).await.address;
    stage.place("a", address);
    stage.pods.pod("web", "a", true);
    let port = stage.forward().await;
    let mut client = connect(port).await;
    let asked = ask(&mut client, "hello\n");
    tokio::pin!(asked);
    assert!(
        tokio::time::timeout(Duration::from_millis(500), &mut asked)
            .await
            .is_err()
    );
    let _server = Server::at(address, "back", Manner::Lines).await;
    assert_eq!(asked.await, "back: hello");
}

#[tokio::test]
async fn a_request_without_an_answer_is_sent_to_the_next_pod_if_it_may_be() {
    let stage = Stage::new();
    let dying = Server::new("dying", Manner::HangsUp).await;
    let next = Server::new("next", Manner::Lines).await;
    stage.ready("dying", &dying);
    let port = stage.forward().await;
    let get = "GET / HTTP/1.1\r\n";
    let mut client = connect(port).await;
    let asked = ask(&mut client, get);
    tokio::pin!(asked);
    assert!(
        tokio::time::timeout(Duration::from_millis(30), &mut asked)
            .await
            .is_err()
    );
    stage.ready("next", &next);
    assert_eq!(asked.await, "next: GET / HTTP/1.1");

    stage.pods.remove("next");
    for text in ["POST / HTTP/1.1\r\n", "EHLO me\r\n"] {
        let mut client = connect(port).await;
        assert_eq!(
            ask(&mut client, text).await,
            "",
            "{text:?} must not be sent twice"
        );
    }
}

#[tokio::test]
async fn a_request_that_kills_its_pod_is_not_sent_for_ever() {
    let stage = Stage::new();
    let dying = Server::new("dying", Manner::HangsUp).await;
    stage.ready("dying", &dying);
    let port = stage.forward().await;
    assert_eq!(
        ask(&mut connect(port).await, "GET / HTTP/1.1\r\n").await,
        ""
    );
}

#[tokio::test]
async fn a_connection_that_has_asked_nothing_moves_on_when_its_pod_goes() {
    let stage = Stage::new();
    let (old, new) = (
        Server::new("old", Manner::Lines).await,
        Server::new("new", Manner::Lines).await,
    );
    stage.ready("old", &old);
    let port = stage.forward().await;
    let mut client = connect(port).await;
    // Until it is through to the old pod: a second one, made later, was answered.
    assert_eq!(ask(&mut connect(port).await, "1\n").await, "old: 1");
    stage.pods.pod("web", "old", false);
    drop(old);
    stage.ready("new", &new);
    assert_eq!(ask(&mut client, "2\n").await, "new: 2");
}

#[tokio::test]
async fn a_client_that_has_sent_all_still_receives() {
    let stage = Stage::new();
    let server = Server::new("a", Manner::AfterTheEnd).await;
    stage.ready("a", &server);
    let port = stage.forward().await;
    let mut client = connect(port).await;
    client.write_all(b"one\ntwo\n").await.unwrap();
    client.shutdown().await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "a: all read");
}

#[tokio::test]
async fn what_was_sent_before_the_pods_first_word_arrives() {
    let pods = Imagined::new();
    let server = Server::new("a", Manner::Greets).await;
    let address = server.address;
    // The pod's first word is there before anything could be passed on to it.
    let dial = move |_, _| {
        async move {
            let stream = TcpStream::connect(address).await?;
            stream.readable().await?;
            Ok(stream)
        }
        .boxed()
    };
    let dialer = Dialer::Tcp(Arc::new(dial));
    let forwards = Forwards::new(pods.views(), dialer, |_| (), CancellationToken::new());
    let spec = ForwardSpec {
        local: 0,
        remote: 80,
        address: None,
    };
    let port = forwards.set(vec![("web".to_owned(), spec)]).await[0].local;
    let mut client = connect(port).await;
    client.write_all(b"hello\n").await.unwrap();
    // Long enough to be read ahead.
    tokio::time::sleep(Duration::from_millis(100)).await;
    pods.pod("web", "a", true);
    assert_eq!(ask(&mut client, "again\n").await, "welcome");
    for line in ["a: hello", "a: again"] {
        assert_eq!(ask(&mut client, "").await, line);
    }
}

#[tokio::test]
async fn many_bytes_arrive_as_they_were_sent() {
    let stage = Stage::new();
    let server = Server::new("", Manner::Lines).await;
    stage.ready("a", &server);
    let port = stage.forward().await;
    let client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (read, mut write) = client.into_split();
    let line = "x".repeat(9999);
    let sent = line.clone();
    let sender = tokio::spawn(async move {
        for number in 0..2000 {
            write
                .write_all(format!("{number} {sent}\n").as_bytes())
                .await
                .unwrap();
        }
        write
    });
    let mut lines = BufReader::new(read).lines();
    for number in 0..2000 {
        let answer = lines.next_line().await.unwrap().unwrap();
        assert!(
            answer == format!(": {number} {line}"),
            "line {number} differs"
        );
    }
    sender.await.unwrap();
}

#[tokio::test]
async fn a_taken_port_is_replaced_and_said_so() {
    let mut stage = Stage::new();
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let wanted = other.local_addr().unwrap().port();
    let spec = ForwardSpec {
        local: wanted,
        remote: 80,
        address: None,
    };
    let status = stage
        .forwards
        .set(vec![("web".to_owned(), spec)])
        .await
        .remove(0);
    assert_eq!(status.wanted, Some(wanted));
    assert_ne!(status.local, wanted);
    connect(status.local).await;
    let said = stage
        .until(|forward| forward.wanted.is_some())
        .await
        .warning
        .unwrap();
    assert!(
        said.contains(&format!("port {wanted} cannot be had")),
        "{said}"
    );
    if cfg!(target_os = "linux") {
        assert!(
            said.contains(&format!("(pid {})", std::process::id())),
            "{said}"
        );
    }
}

#[tokio::test]
async fn an_address_that_is_not_here_is_a_problem_and_not_an_end() {
    let stage = Stage::new();
    let spec = ForwardSpec {
        local: 0,
        remote: 80,
        address: Some("192.0.2.1".parse().unwrap()),
    };
    let status = stage
        .forwards
        .set(vec![("web".to_owned(), spec)])
        .await
        .remove(0);
    assert!(status.problem.unwrap().contains("192.0.2.1"));
    assert!(stage.forwards.status()["web"][0].problem.is_some());
}

#[tokio::test]
async fn only_what_changed_is_touched() {
    let stage = Stage::new();
    let server = Server::new("a", Manner::Lines).await;
    stage.ready("a", &server);
    let spec = |local, remote| ForwardSpec {
        local,
        remote,
        address: None,
    };
    let free = || portpicker::pick_unused_port().expect("a free port");
    let (kept, led_elsewhere, closed) = (free(), free(), free());
    let set = |wanted: Vec<ForwardSpec>| {
        let wanted = wanted
            .into_iter()
            .map(|spec| ("web".to_owned(), spec))
            .collect();
        stage.forwards.set(wanted)
    };
    set(vec![
        spec(kept, 80),
        spec(led_elsewhere, 80),
        spec(closed, 80),
    ])
    .await;
    let mut streams = [
        connect(kept).await,
        connect(led_elsewhere).await,
        connect(closed).await,
    ];
    for stream in &mut streams {
        assert_eq!(ask(stream, "1\n").await, "a: 1");
    }
    let statuses = set(vec![spec(kept, 80), spec(led_elsewhere, 81)]).await;
    assert_eq!(
        statuses.iter().map(|one| one.local).collect::<Vec<_>>(),
        [kept, led_elsewhere]
    );
    assert_eq!(statuses[1].remote, 81);
    assert_eq!(stage.forwards.status()["web"].len(), 2);
    for stream in &mut streams {
        assert_eq!(ask(stream, "2\n").await, "a: 2");
    }
    let refused = async {
        while TcpStream::connect(("127.0.0.1", closed)).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), refused)
        .await
        .expect("the port is closed");
}

#[tokio::test]
async fn a_port_that_nothing_listens_on_is_said_and_unsaid() {
    let mut stage = Stage::new();
    let address = Server::new("gone", Manner::Lines).await.address;
    stage.place("a", address);
    stage.pods.pod("web", "a", true);
    let port = stage.forward().await;
    // By the probe: no client has come yet.
    let change = stage.until(|forward| forward.problem.is_some()).await;
    let problem = change.forwards[0].problem.as_deref().unwrap();
    assert_eq!(problem, "nothing listens on port 80 in the container");
    let begun = Instant::now();
    assert_eq!(ask(&mut connect(port).await, "hello\n").await, "");
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "what is known needs no waiting"
    );
    let _server = Server::at(address, "late", Manner::Lines).await;
    assert_eq!(
        ask(&mut connect(port).await, "hello\n").await,
        "late: hello"
    );
    stage.until(|forward| forward.problem.is_none()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_pods_are_replaced() {
    let stage = Stage::new();
    let mut server = Server::new("0", Manner::Http).await;
    stage.ready("pod0", &server);
    let port = stage.forward().await;
    let mut requests = JoinSet::new();
    let mut tick = tokio::time::interval(Duration::from_millis(5));
    for number in 0..800 {
        tick.tick().await;
        requests.spawn(async move {
            get(port)
                .await
                .map_err(|error| format!("{number}: {error}"))
        });
        if number % 200 == 100 {
            // As on a node: the program dies first, the word of it comes later, the successor after that.
            drop(server);
            let (old, new) = (
                format!("pod{}", number / 200),
                format!("pod{}", number / 200 + 1),
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
            stage.pods.pod("web", &old, false);
            tokio::time::sleep(Duration::from_millis(100)).await;
            stage.pods.remove(&old);
            server = Server::new("next", Manner::Http).await;
            stage.ready(&new, &server);
        }
    }
    let answers = requests.join_all().await;
    let failed: Vec<_> = answers.into_iter().filter_map(Result::err).collect();
    assert!(failed.is_empty(), "{failed:?}");
}

/// One request on a connection of its own.
async fn get(port: u16) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let status = answer.get(9..12).unwrap_or_default();
    if status == b"200" {
        return Ok(());
    }
    Err(std::io::Error::other(format!(
        "answered {:?}",
        String::from_utf8_lossy(&answer)
    )))
}

/// A web server that is killed without a word, and never answers faster than it must.
fn web(space: &Space) {
    let program = "
import http.server
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b'hello')
    def log_message(self, *a): pass
http.server.ThreadingHTTPServer.request_queue_size = 128
http.server.ThreadingHTTPServer(('', 8000), Answer).serve_forever()
";
    let labels = json!({"app": "web", llmdev::owner::SERVICE: "web"});
    space.apply(&json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": labels}, "spec": {
                "terminationGracePeriodSeconds": 1,
                "containers": [{
                    "name": "web", "image": "python:3.13-slim", "imagePullPolicy": "Never",
                    "command": ["python", "-c", program],
                    "readinessProbe": {"httpGet": {"port": 8000}, "periodSeconds": 1},
                }],
            }},
        },
    }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_a_real_pod_is_replaced() {
    load("python:3.13-slim");
    let space = Space::new().await;
    web(&space);
    space
        .until("the server is ready", |view| {
            !view.ready_pods_of("web").is_empty()
        })
        .await;
    let dialer = Dialer::Api(space.client.clone());
    let forwards = Forwards::new(space.views(), dialer, |_| (), CancellationToken::new());
    let spec = |remote| ForwardSpec {
        local: 0,
        remote,
        address: None,
    };
    let wanted = vec![
        ("web".to_owned(), spec(8000)),
        ("web".to_owned(), spec(8001)),
    ];
    let port = forwards.set(wanted).await[0].local;
    let pod = space.views().borrow().ready_pods_of("web")[0]
        .metadata
        .name
        .clone()
        .unwrap();

    let mut requests = JoinSet::new();
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    for number in 0..500 {
        tick.tick().await;
        requests.spawn(async move {
            get(port)
                .await
                .map_err(|error| format!("{number}: {error}"))
        });
        if number == 100 {
            space.kubectl(&["delete", "pod", &pod, "--wait=false"]);
        }
    }
    let answers = requests.join_all().await;
    let failed: Vec<_> = answers.into_iter().filter_map(Result::err).collect();
    assert!(failed.is_empty(), "{} failed: {failed:?}", failed.len());
    let now = space.views().borrow().ready_pods_of("web")[0]
        .metadata
        .name
        .clone()
        .unwrap();
    assert_ne!(now, pod, "the pod was replaced");

    let status = forwards.status();
    let problem = |at: usize| status["web"][at].problem.clone();
    assert_eq!(problem(0), None);
    // Nobody connected to it.
    let wait = async {
        while forwards.status()["web"][1].problem.is_none() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait)
        .await
        .expect("the probe finds it out");
    let problem = forwards.status()["web"][1].problem.clone().unwrap();
    assert_eq!(problem, "nothing listens on port 8001 in the container");
}
