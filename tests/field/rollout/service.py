"""A CRM service: service.py PORT DONE. Each deletion takes a while, and is a line of the file DONE in the middle of it. SIGTERM
ends it at once, as it ends most programs."""
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BEFORE, AFTER = 0.15, 0.15
DONE = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def reply(self, body):
        text = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_GET(self):
        self.reply({"segmentId": self.path.rpartition("/")[2], "accountId": "account-1", "ownerId": "member-1"})

    def do_DELETE(self):
        time.sleep(BEFORE)
        os.write(DONE, self.path.rpartition("/")[2].encode() + b"\n")
        time.sleep(AFTER)
        self.reply({"deleted": True})

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 256


Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
