"""A stand-in for the CRM service: python3 service.py ADDRESS, where ADDRESS is a port of 127.0.0.1 or unix:PATH."""

import json
import os
import socketserver
import sys
from http.server import BaseHTTPRequestHandler


class Service(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        # Saltgate asks for a segment before it lets a deletion through. The path ends in the segment's id.
        segment = self.path.rsplit("/", 1)[-1]
        self.answer({"segmentId": segment, "accountId": "account-1", "ownerId": "member-1"})

    def do_DELETE(self):
        # Saltgate says who the caller is. Nothing else may reach this service.
        self.answer({"deleted": True, "by": self.headers.get("X-Saltgate-Member")})

    def log_message(self, *_):
        pass


class Tcp(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


class Unix(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


address = sys.argv[1]
if address.startswith("unix:"):
    path = address.removeprefix("unix:")
    if os.path.exists(path):
        os.unlink(path)
    server = Unix(path, Service)
else:
    server = Tcp(("127.0.0.1", int(address)), Service)
server.serve_forever()
