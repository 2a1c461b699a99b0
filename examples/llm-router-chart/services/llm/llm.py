"""Small models for development, behind OpenAI's protocol: they need no key and no network, and answer from the question."""

import json
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def say(model: str, question: str) -> str:
    sentences = [one.strip() for one in question.replace("?", ".").split(".") if one.strip()]
    match model:
        case "dev-coder":
            return f"```python\ndef answer():\n    return {question!r}\n```"
        case "dev-summarizer":
            return f"{len(question.split())} words in {len(sentences)} sentences, beginning with: {sentences[0] if sentences else ''}"
        case _:
            return f"You said: {question}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.reply(200 if self.path == "/health" else 404, {"status": "ok"} if self.path == "/health" else {"error": "not found"})

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path != "/v1/chat/completions":
            return self.reply(404, {"error": "there is only /v1/chat/completions"})
        try:
            request = json.loads(body)
            model, question = request["model"], request["messages"][-1]["content"]
        except (ValueError, KeyError, IndexError, TypeError) as error:
            return self.reply(400, {"error": f"not as it should be: {error!r}"})
        self.reply(200, {
            "id": f"chatcmpl-{time.time_ns()}", "object": "chat.completion", "created": int(time.time()), "model": model,
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": say(model, question)}}],
        })

    def reply(self, status: int, body: dict):
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format, *args):
        pass


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    ThreadingHTTPServer(("", 8000), Handler).serve_forever()
