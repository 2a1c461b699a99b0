"""The app of the figures: says its version, a file's content, and sends zeros. Ends as a good server does: what it has
accepted it answers."""

import os
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from version import VERSION

ZEROS = bytes(1 << 20)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body in one packet

    def do_GET(self):
        if self.path.startswith("/zeros/"):
            self.zeros(int(self.path.removeprefix("/zeros/")))
        elif self.path == "/content":
            with open("/app/content/page.txt", "rb") as file:
                self.answer(file.read())
        else:
            self.answer(VERSION.encode())
        self.server.answered(self.request)

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def zeros(self, megabytes):
        self.send_response(200)
        self.send_header("Content-Length", str(megabytes << 20))
        self.end_headers()
        for _ in range(megabytes):
            self.wfile.write(ZEROS)
        self.wfile.flush()

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 1024
    daemon_threads = True

    def __init__(self):
        super().__init__(("", 18090), Handler)
        self.owed = set()
        self.changed = threading.Condition()

    def process_request(self, request, client_address):
        with self.changed:
            self.owed.add(request)
        super().process_request(request, client_address)

    def answered(self, request):
        with self.changed:
            self.owed.discard(request)
            self.changed.notify()

    def shutdown_request(self, request):
        self.answered(request)  # closed by the client without a question
        super().shutdown_request(request)

    def finish(self):
        self.server_close()
        with self.changed:
            self.changed.wait_for(lambda: not self.owed, timeout=10)
        os._exit(0)


server = Server()
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
server.serve_forever(poll_interval=0.01)
server.finish()
