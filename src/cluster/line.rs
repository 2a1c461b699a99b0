//! The line to the API server, and whether anybody is at its other end.
//!
//! A server that is paused, and a connection that was forgotten on the way, look like one that has nothing to say: a watch
//! may be quiet for minutes. So the server is asked for its version now and then. While it does not answer, all that is
//! under way on the line and all that is asked fails; when it answers again, the line goes on with fresh connections.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{StreamExt, stream};
use http::{Request, Response};
use http_body_util::{BodyStream, StreamBody};
use hyper::body::{Body, Frame};
use kube::Client;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tower::service_fn;

use crate::error::{self, Result};

/// How the server is asked.
struct Pace {
    /// Between two questions.
    every: Duration,
    /// How long the answer may take.
    answer: Duration,
    /// Between two questions to a server that did not answer.
    again: Duration,
}

const PACE: Pace = Pace {
    every: Duration::from_secs(10),
    answer: Duration::from_secs(10),
    again: Duration::from_secs(1),
};

/// How a client is made; each has connections of its own.
type Connect = Box<dyn Fn() -> BoxFuture<'static, Result<Client>> + Send + Sync>;

/// Cheap to clone.
#[derive(Clone)]
pub struct Line {
    connect: Arc<Connect>,
    now: Arc<Mutex<Connections>>,
}

/// The connections from one silence to the next.
#[derive(Clone)]
struct Connections {
    client: Client,
    /// Cancelled when it has begun.
    silence: CancellationToken,
    why: Arc<OnceLock<String>>,
}

/// Why a request fails without having been answered.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Silent(String);

impl Line {
    /// A line whose connections are those of the clients that `connect` makes.
    ///
    /// # Errors
    /// When it makes none.
    pub async fn new<F: Future<Output = Result<Client>> + Send + 'static>(
        connect: impl Fn() -> F + Send + Sync + 'static,
    ) -> Result<Self> {
        let now = Connections::new(connect().await?);
        Ok(Line {
            connect: Arc::new(Box::new(move || Box::pin(connect()))),
            now: Arc::new(Mutex::new(now)),
        })
    }

    /// A client whose requests go over the line.
    pub fn client(&self) -> Client {
        let (line, namespace) = (
            self.clone(),
            self.now().client.default_namespace().to_owned(),
        );
        let send = move |request| {
            let now = line.now();
            async move { now.send(request).await }
        };
        Client::new(service_fn(send), namespace)
    }

    /// Goes on with fresh connections; what is under way on the others fails.
    ///
    /// # Errors
    /// When none are made.
    pub async fn renew(&self) -> Result<()> {
        self.go_on(Connections::new((self.connect)().await?));
        Ok(())
    }

    /// Asks the server whether it is there, again and again.
    pub async fn attend(&self) {
        self.attend_at(&PACE).await
    }

    async fn attend_at(&self, pace: &Pace) {
        loop {
            sleep(pace.every).await;
            let Err(why) = ask(&self.now().client, pace).await else {
                continue;
            };
            tracing::debug!(why, "the API server is silent");
            self.now().end(why);
            let fresh = self.answering(pace).await;
            tracing::debug!("the API server answers again");
            self.go_on(fresh);
        }
    }

    /// Connections on which it answers, as soon as there are any.
    async fn answering(&self, pace: &Pace) -> Connections {
        loop {
            if let Ok(client) = (self.connect)().await
                && ask(&client, pace).await.is_ok()
            {
                return Connections::new(client);
            }
            sleep(pace.again).await;
        }
    }

    fn go_on(&self, fresh: Connections) {
        let before = std::mem::replace(&mut *self.lock(), fresh);
        before.end("it was connected to anew".to_owned());
    }

    fn now(&self) -> Connections {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Connections> {
        self.now.lock().expect("no one panics while holding it")
    }
}

/// Asks for the version; why there is no answer. A refusal is one.
async fn ask(client: &Client, pace: &Pace) -> std::result::Result<(), String> {
    match timeout(pace.answer, client.apiserver_version()).await {
        Err(_) => Err(format!("no answer within {} s", pace.answer.as_secs())),
        Ok(Err(error @ (kube::Error::Service(_) | kube::Error::HyperError(_)))) => {
            Err(error::innermost(&error))
        }
        Ok(_) => Ok(()),
    }
}

impl Connections {
    fn new(client: Client) -> Self {
        Connections {
            client,
            silence: CancellationToken::new(),
            why: Arc::default(),
        }
    }

    fn end(&self, why: String) {
        let _ = self.why.set(why);
        self.silence.cancel();
    }

    fn silent(&self) -> kube::Error {
        let why = self.why.get().cloned().unwrap_or_default();
        kube::Error::Service(Box::new(Silent(why)))
    }

    async fn send(
        self,
        request: Request<kube::client::Body>,
    ) -> kube::Result<Response<impl Body<Data = Bytes, Error = kube::Error> + use<>>> {
        let answer = self.silence.run_until_cancelled(self.client.send(request));
        let answer = answer.await.unwrap_or_else(|| Err(self.silent()))?;
        Ok(answer.map(|body| self.until_silence(body)))
    }

    /// The body, which breaks off when the server falls silent.
    fn until_silence(
        self,
        body: kube::client::Body,
    ) -> impl Body<Data = Bytes, Error = kube::Error> + use<> {
        let frames = stream::unfold((self, BodyStream::new(body)), |(it, mut body)| async move {
            let frame: Option<kube::Result<Frame<Bytes>>> =
                match it.silence.run_until_cancelled(body.next()).await {
                    Some(frame) => frame,
                    None => Some(Err(it.silent())),
                };
            frame.map(|frame| (frame, (it, body)))
        });
        StreamBody::new(frames)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

    use super::*;
    use futures::AsyncReadExt;

    /// An API server that says its version, and nothing more on a watch, unless it is silent.
    #[derive(Default)]
    struct Server {
        silent: AtomicBool,
        clients: AtomicUsize,
    }

    const VERSION: &str = r#"{"major": "1", "minor": "35", "gitVersion": "", "gitCommit": "", "gitTreeState": "",
        "buildDate": "", "goVersion": "", "compiler": "", "platform": ""}"#;

    impl Server {
        fn client(self: &Arc<Self>) -> Client {
            self.clients.fetch_add(1, SeqCst);
            let server = Arc::clone(self);
            let answer = move |request: Request<kube::client::Body>| {
                let server = Arc::clone(&server);
                async move {
                    if server.silent.load(SeqCst) {
                        std::future::pending::<()>().await;
                    }
                    let first = stream::iter([Ok(Frame::data(Bytes::from(VERSION)))]);
                    let body = match request.uri().path() {
                        "/version" => first.left_stream(),
                        _ => stream::pending::<kube::Result<_>>().right_stream(),
                    };
                    kube::Result::<_>::Ok(Response::new(StreamBody::new(body)))
                }
            };
            Client::new(service_fn(answer), "default")
        }
    }

    async fn watch(client: &Client) -> kube::Result<impl futures::AsyncBufRead + use<>> {
        client
            .request_stream(Request::get("/watch").body(Vec::new()).unwrap())
            .await
    }

    #[tokio::test]
    async fn a_silent_server_ends_what_is_under_way_and_fresh_connections_follow() {
        // A busy machine may be late with an answer that costs nothing.
        let (pace, a_while) = (
            Pace {
                every: Duration::from_millis(10),
                answer: Duration::from_secs(1),
                again: Duration::from_millis(10),
            },
            Duration::from_millis(100),
        );
        let server: Arc<Server> = Arc::default();
        let connect = Arc::clone(&server);
        let line = Line::new(move || std::future::ready(Ok(connect.client())));
        let line = line.await.unwrap();
        let client = line.client();
        let attended = line.clone();
        tokio::spawn(async move { attended.attend_at(&pace).await });

        let (mut quiet, mut said) = (Box::pin(watch(&client).await.unwrap()), Vec::new());
        let more = timeout(a_while, quiet.read_to_end(&mut said)).await;
        assert!(more.is_err(), "a watch may have nothing to say");
        assert_eq!(server.clients.load(SeqCst), 1);

        server.silent.store(true, SeqCst);
        let end = timeout(Duration::from_secs(60), quiet.read_to_end(&mut said));
        let error = end.await.expect("it breaks off").unwrap_err();
        assert_eq!(error::innermost(&error), "no answer within 1 s");
        let error = client.apiserver_version().await.unwrap_err();
        assert_eq!(error::innermost(&error), "no answer within 1 s");

        server.silent.store(false, SeqCst);
        while client.apiserver_version().await.is_err() {
            tokio::task::yield_now().await;
        }
        let mut quiet = Box::pin(watch(&client).await.unwrap());
        assert!(
            timeout(a_while, quiet.read_to_end(&mut said))
                .await
                .is_err()
        );
        assert!(server.clients.load(SeqCst) > 1, "by fresh connections");
    }
}
