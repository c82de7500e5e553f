"""A PostgreSQL server with a table of segments, for the series that ask it whose a segment is."""
import glob
import os
import pwd
import shutil
import subprocess
import tempfile

from .machine import Fault
from .peers import HOST, end, free_port, spawn_logged, wait

SEGMENTS = 100_000
# Whatever segment is asked for, one row of the table is looked up by its key: the load draws ids at random.
QUERY = f"select account_id, owner_id from segment where id = abs(hashtext($1)) % {SEGMENTS}"
TABLE = ("create table segment (id integer primary key, account_id text not null, owner_id text not null);"
         f"insert into segment select n, 'account-1', 'somebody' from generate_series(0, {SEGMENTS - 1}) as n;"
         "analyze segment;")


def program(name):
    """A program of the server; Debian has them in a folder for each version."""
    found = sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"))
    path = found[-1] if found else shutil.which(name)
    if not path:
        raise Fault(f"there is no {name}; on Debian: apt-get install --no-install-recommends postgresql")
    return path


class Database:
    """The server; it runs on the CPUs of load and upstream, and is not part of the gateway's figures."""

    def __init__(self, cpus):
        self.directory = tempfile.mkdtemp(prefix="saltgate-bench-postgres-")
        self.process, self.port = None, free_port()
        # PostgreSQL does not run as root.
        self.user = []
        if os.geteuid() == 0:
            server = pwd.getpwnam("postgres")
            os.chown(self.directory, server.pw_uid, server.pw_gid)
            self.user = ["setpriv", "--reuid", str(server.pw_uid), "--regid", str(server.pw_gid), "--clear-groups"]
        try:
            data = f"{self.directory}/data"
            self._run([*self.user, program("initdb"), "--no-sync", "--username", "postgres", "--auth", "trust", "--encoding", "UTF8",
                       "--locale", "C", "--pgdata", data])
            settings = [f"unix_socket_directories={self.directory}", f"listen_addresses={HOST}", "fsync=off"]
            command = [*self.user, program("postgres"), "-D", data, "-p", str(self.port)]
            self.process = spawn_logged([*command, *(word for one in settings for word in ("-c", one))], cpus,
                                        f"{self.directory}.log")
            wait(lambda: self._psql("select 1").returncode == 0, self.process, "PostgreSQL", pause=0.1)
            if (made := self._psql(TABLE)).returncode != 0:
                raise Fault(f"no table of segments: {made.stderr}")
        except BaseException:
            self.close()
            raise

    @property
    def ownership(self):
        """The section of the configuration."""
        url = f"postgres://postgres@{HOST}:{self.port}/postgres?sslmode=disable"
        return f'[ownership.postgres]\nurl = "{url}"\nquery = "{QUERY}"'

    def close(self):
        if self.process:
            end(self.process)
        shutil.rmtree(self.directory, ignore_errors=True)
        if os.path.exists(f"{self.directory}.log"):
            os.unlink(f"{self.directory}.log")

    def _psql(self, text):
        command = ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-h", HOST, "-p", str(self.port), "-c", text]
        return subprocess.run(command, capture_output=True, text=True, cwd="/")

    @staticmethod
    def _run(command):
        done = subprocess.run(command, capture_output=True, text=True, cwd="/")
        if done.returncode != 0:
            raise Fault(f"{command[0]}: {done.stderr}")
