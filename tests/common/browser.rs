//! Chromium without a window, told what to do by its own protocol: messages of JSON that end with a zero byte, by pipe.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::journey::PATIENCE;

/// Remembers that the page was told something by a WebSocket, as by Vite's server that it listens to.
const LISTENS: &str = "window.WebSocket = class extends WebSocket {
    constructor(...words) {
        super(...words);
        this.addEventListener('message', () => window.listens = true);
    }
}";

/// A page that is open.
pub struct Page {
    browser: Child,
    to: File,
    from: BufReader<File>,
    session: Option<String>,
    asked: u64,
    _dir: TempDir,
}

impl Page {
    /// Opens it in a browser of its own.
    pub fn open(url: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (to, from) = (dir.path().join("to"), dir.path().join("from"));
        let made = Command::new("mkfifo").args([&to, &from]).status().unwrap();
        assert!(made.success());
        let browser = Command::new("sh")
            .args(["-c", "exec chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run \
                --disable-background-networking --disable-component-update --disable-sync --user-data-dir=\"$0/profile\" \
                --remote-debugging-pipe about:blank 3<\"$0/to\" 4>\"$0/from\""])
            .arg(dir.path())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut page = Page {
            browser,
            to: OpenOptions::new().write(true).open(to).unwrap(),
            from: BufReader::new(File::open(from).unwrap()),
            session: None,
            asked: 0,
            _dir: dir,
        };
        let blank = json!({"url": "about:blank"});
        let target = page.tell("Target.createTarget", blank)["targetId"].clone();
        let attach = json!({"targetId": target, "flatten": true});
        let session = page.tell("Target.attachToTarget", attach)["sessionId"].clone();
        page.session = session.as_str().map(str::to_owned);
        page.tell("Page.enable", json!({})); // else no script is added
        page.tell(
            "Page.addScriptToEvaluateOnNewDocument",
            json!({"source": LISTENS}),
        );
        page.tell("Page.navigate", json!({"url": url}));
        page
    }

    /// What an expression is in the page.
    pub fn eval(&mut self, expression: &str) -> Value {
        let what = json!({"expression": expression, "returnByValue": true});
        self.tell("Runtime.evaluate", what)["result"]["value"].clone()
    }

    /// Looks until an expression is this in the page.
    pub fn until(&mut self, expression: &str, wanted: &Value) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let is = self.eval(expression);
            if is == *wanted {
                return;
            }
            assert!(Instant::now() < deadline, "{expression} is {is}");
            // The page tells nobody outside of it.
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn tell(&mut self, method: &str, params: Value) -> Value {
        self.asked += 1;
        let mut message = json!({"id": self.asked, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        write!(self.to, "{message}\0").unwrap();
        loop {
            let mut answer = Vec::new();
            self.from.read_until(0, &mut answer).unwrap();
            let answer = answer.strip_suffix(&[0]).expect("the browser goes on");
            let mut answer: Value = serde_json::from_slice(answer).unwrap();
            if answer["id"] == self.asked {
                return answer["result"].take();
            }
        }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let _ = self.browser.kill();
        let _ = self.browser.wait();
    }
}
