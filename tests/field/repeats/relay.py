"""A TCP relay between a client and the gateway. It cuts the connection of each salt's first deletion, and of no other."""
import socket
import threading
import time

from rig import PATIENCE, Listener, read_message, salt_of

# When it cuts. By then the gateway has nothing of the request yet, a deletion in progress, or its answer.
HOWS = ["at once", "under way", "answered"]


class Relay(Listener):
    def __init__(self, gate, service):
        self.gate, self.service = gate, service
        self.cut, self.came, self.lock = {}, {}, threading.Lock()
        super().__init__()

    def serve(self, client):
        gate = socket.create_connection(("127.0.0.1", self.gate), PATIENCE)
        asked, said = client.makefile("rb"), gate.makefile("rb")
        with client, gate, asked, said:
            try:
                while request := read_message(asked):
                    gate.sendall(request)
                    if how := self.cuts(request):
                        if how == "under way":
                            self.until_it_is_sent(request.split(b" ", 2)[1].decode())
                        elif how == "answered":
                            read_message(said)
                        return
                    client.sendall(read_message(said))
            except OSError:
                return

    def cuts(self, request):
        head = request.decode("latin-1")
        if not head.startswith("DELETE "):
            return None
        salt = salt_of(head)
        with self.lock:
            self.came[salt] = self.came.get(salt, 0) + 1
            if salt in self.cut:
                return None
            self.cut[salt] = HOWS[len(self.cut) % len(HOWS)]
            return self.cut[salt]

    def until_it_is_sent(self, target):
        end = time.monotonic() + PATIENCE
        while not any(one.method == "DELETE" and one.target == target for one in self.service.requests[-200:]):
            assert time.monotonic() < end, "the deletion never reached the service"
            time.sleep(0.002)
