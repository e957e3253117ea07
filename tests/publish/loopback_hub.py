"""A Hugging Face Hub on the loopback, for the real clients of huggingface_hub and timm.

It speaks what they use to create a model repository, upload into it and download from it: repositories, commits,
branches, tags, the LFS protocol in one piece or in parts, and files with ETag, commit and ranges. Everything is in
memory. What a test wants to go wrong is put into `LoopbackHub.faults`.
"""

import base64
import hashlib
import json
import re
import threading
import uuid
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

USER, TOKEN = "someone", "hf_PsnTestsSecretToken0123456789abcdef"  # who may write, and nothing of theirs is real

REPO = r"(?P<repo>[^/]+/[^/]+)"
MODEL = rf"/api/models/{REPO}"
ROUTES = [  # method, path, the handler's method, whether it needs the right to write
    ("GET", r"/api/whoami-v2", "whoami", False),
    ("POST", r"/api/validate-yaml", "validate_yaml", False),
    ("POST", r"/api/repos/create", "create_repo", False),
    ("GET", rf"{MODEL}/refs", "refs", False),
    ("GET", rf"{MODEL}(?:/revision/(?P<rev>[^/]+))?", "info", False),
    ("GET", rf"{MODEL}/tree/(?P<rev>[^/]+)", "tree", False),
    ("POST", rf"{MODEL}/branch/(?P<name>[^/]+)", "create_branch", True),
    ("POST", rf"{MODEL}/tag/(?P<rev>[^/]+)", "create_tag", True),
    ("POST", rf"{MODEL}/preupload/(?P<rev>[^/]+)", "preupload", True),
    ("POST", rf"{MODEL}/commit/(?P<rev>[^/]+)", "commit", True),
    ("POST", rf"/{REPO}\.git/info/lfs/objects/batch", "lfs_batch", True),
    ("PUT", r"/storage/(?P<oid>\w+)(?:/(?P<part>\d+))?", "store", False),
    ("POST", r"/storage/(?P<oid>\w+)/complete", "complete", False),
    ("GET", r"/cdn/(?P<oid>\w+)", "cdn", False),
    ("GET", rf"/{REPO}/resolve/(?P<rev>[^/]+)/(?P<path>.+)", "resolve", False),
]


@dataclass(frozen=True)
class Blob:
    """The content of a file, kept by git or by LFS."""

    data: bytes
    is_lfs: bool

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @cached_property
    def oid(self) -> str:
        """What the Hub calls the file: git's hash, or the sha256 of one in LFS."""
        return self.sha256 if self.is_lfs else hashlib.sha1(b"blob %d\0" % len(self.data) + self.data).hexdigest()


def goes_to_lfs(path: str, content: bytes) -> bool:
    """Whether the Hub keeps a file in LFS: weights, and what is binary at its beginning."""
    return path.endswith(".safetensors") or b"\0" in content[:512]


@dataclass
class Repository:
    """Commits, the files of each, and names for them."""

    owner: str
    private: bool = False
    commits: dict[str, dict[str, Blob]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def add_commit(self, branch: str, files: dict[str, Blob]) -> str:
        sha = uuid.uuid4().hex + uuid.uuid4().hex[:8]
        self.commits[sha] = files
        self.branches[branch] = sha
        return sha

    def find(self, revision: str) -> str | None:
        """The commit of a branch, tag or commit."""
        known = revision if revision in self.commits else None
        return self.branches.get(revision) or self.tags.get(revision) or known

    def files(self, revision: str = "main") -> dict[str, bytes]:
        return {path: blob.data for path, blob in self.commits[self.find(revision)].items()}


@dataclass
class Fault:
    """What goes wrong with the next `times` requests of a method whose path holds `where`.

    Args:
        what: `drop` the connection in the middle of the request; `lose` the answer after doing what was asked; `hang`
            in the middle of the request until the hub stops; `truncate` or `corrupt` the file that is sent; or a
            status code to answer with.
    """

    method: str
    where: str
    what: str | int
    times: int = 1


class LoopbackHub:
    """The server and what it holds.

    Args:
        tokens: token -> name of its user.
        part_size: files in LFS that are longer are uploaded in parts of this size.
    """

    def __init__(self, tokens: dict[str, str], part_size: int = 1 << 40):
        self.tokens, self.part_size = tokens, part_size
        self.repositories: dict[str, Repository] = {}
        self.storage: dict[str, bytes] = {}  # of LFS, by sha256
        self.parts: dict[str, dict[int, bytes]] = {}
        self.faults: list[Fault] = []
        self.requests: list[str] = []  # "METHOD path"
        self.stopping = threading.Event()
        self.hanging = threading.Event()  # a request has been left hanging
        self.lock = threading.Lock()
        hub = self

        class Handler(HubHandler):
            pass

        Handler.hub = hub
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        self.far_address = f"http://localhost:{self.server.server_port}"  # another host, as storage and CDN are

    def stop(self) -> None:
        self.stopping.set()
        self.server.shutdown()
        self.thread.join(30)
        self.server.server_close()

    def seed(self, repo: str, files: dict[str, bytes], **kwargs: Any) -> str:
        """Add a repository with these files."""
        repository = self.repositories[repo] = Repository(repo.partition("/")[0], **kwargs)
        return repository.add_commit(
            "main", {path: Blob(data, goes_to_lfs(path, data)) for path, data in files.items()}
        )

    def fault_for(self, method: str, path: str) -> str | int | None:
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and fault.method == method and fault.where in path:
                    fault.times -= 1
                    return fault.what
        return None

    def count(self, method: str, where: str) -> int:
        """Requests so far of this method with this in their path."""
        return sum(line.startswith(f"{method} ") and where in line for line in self.requests)


class HubHandler(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    timeout = 60  # of each read and write: a client that went quiet must not keep the lock
    hub: LoopbackHub

    def log_message(self, *args: Any) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        self.dispatch("GET")

    def do_HEAD(self) -> None:
        self.dispatch("GET")

    def do_POST(self) -> None:
        self.dispatch("POST")

    def do_PUT(self) -> None:
        self.dispatch("PUT")

    def dispatch(self, method: str) -> None:
        url = urlsplit(self.path)
        path, self.query = unquote(url.path), parse_qs(url.query)
        self.hub.requests.append(f"{self.command} {path}")
        self.fault = self.hub.fault_for(self.command, path)
        if self.fault == "hang":
            self.rfile.read(1)
            self.hub.hanging.set()
            self.hub.stopping.wait()
        if self.fault in ("drop", "hang"):
            self.close_connection = True
            return
        self.body = self.read_body()
        if isinstance(self.fault, int):
            self.refuse(self.fault, "as the test wanted it")
            return
        for route_method, pattern, name, needs_write in ROUTES:
            # The revision of a branch with a slash arrives quoted, so that the quoted path is what is matched.
            match = re.fullmatch(pattern, url.path) if route_method == method else None
            if match:
                arguments = {key: unquote(value) for key, value in match.groupdict().items() if value is not None}
                if self.is_allowed(arguments.get("repo"), needs_write):
                    with self.hub.lock:
                        getattr(self, name)(**arguments)
                return
        self.refuse(404, f"the loopback hub does not know {method} {path}")

    def read_body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def is_allowed(self, repo: str | None, needs_write: bool) -> bool:
        """Whether the token opens the repository; if not, the answer has been sent."""
        header = self.headers.get("Authorization", "")
        if header and self.headers["Host"].startswith("localhost"):
            self.refuse(400, "a token was sent to the storage, which is none of its business")
            return False
        self.user = self.hub.tokens.get(header.removeprefix("Bearer "))
        if header and self.user is None:
            self.refuse(401, "Invalid credentials in Authorization header")
            return False
        if repo is None:
            return True
        repository = self.hub.repositories.get(repo)
        if repository is None or (repository.private and self.user != repository.owner):
            self.refuse(404 if self.user else 401, "Repository not found", "RepoNotFound")
            return False
        if needs_write and self.user != repository.owner:
            self.refuse(403 if self.user else 401, "You do not have the rights to write here")
            return False
        return True

    def answer(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        if self.fault == "lose":
            self.close_connection = True
            return
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status: int, message: str, code: str = "") -> None:
        headers = {"X-Error-Message": message, "Content-Type": "application/json"} | (
            {"X-Error-Code": code} if code else {}
        )
        self.answer({"error": message, "errors": [{"message": message}]}, status, headers)

    def revision(self, repo: str, rev: str) -> str | None:
        """The commit; None if there is none, and the answer has been sent."""
        sha = self.hub.repositories[repo].find(rev)
        if sha is None:
            self.refuse(404, f"Invalid rev id: {rev}", "RevisionNotFound")
        return sha

    # The API

    def whoami(self) -> None:
        if self.user is None:
            self.refuse(401, "Invalid username or password.")
        else:
            self.answer({"type": "user", "name": self.user, "orgs": [], "auth": {"accessToken": {"role": "write"}}})

    def validate_yaml(self) -> None:
        """The rules of the Hub that matter here: metadata are a dict, and names and results have their forms."""
        content = json.loads(self.body)["content"]
        found = re.match(r"---\n(.*?)\n---", content, re.DOTALL)
        data = yaml.safe_load(found[1]) if found else {}
        errors = [
            f'"{key}" must be a string'
            for key in ("license", "library_name", "pipeline_tag")
            if not isinstance(data.get(key, ""), str)
        ]
        for model in data.get("model-index", []):
            for result in model["results"]:
                if not {"task", "dataset", "metrics"} <= result.keys() or "type" not in result["dataset"]:
                    errors.append('"model-index" has a result without task, dataset or metrics')
        if errors:
            self.answer({"errors": [{"message": error} for error in errors], "warnings": []}, 400)
        else:
            self.answer({"errors": [], "warnings": []})

    def create_repo(self) -> None:
        wanted = json.loads(self.body)
        owner = wanted["organization"] or self.user
        repo = f"{owner}/{wanted['name']}"
        if self.user is None:
            self.refuse(401, "Invalid username or password.")
        elif owner != self.user:
            self.refuse(403, f"You don't have the rights to create a model under the namespace {owner!r}")
        elif repo in self.hub.repositories:
            self.answer({"error": "You already created this model repo", "url": f"{self.hub.address}/{repo}"}, 409)
        else:
            private = wanted.get("visibility") == "private" or bool(wanted.get("private"))
            repository = self.hub.repositories[repo] = Repository(owner, private)
            repository.add_commit("main", {".gitattributes": Blob(b"*.safetensors filter=lfs\n", False)})
            self.answer({"url": f"{self.hub.address}/{repo}", "name": repo, "id": repo})

    def info(self, repo: str, rev: str = "main") -> None:
        repository, sha = self.hub.repositories[repo], self.revision(repo, rev)
        if sha:
            siblings = [{"rfilename": path} for path in repository.commits[sha]]
            self.answer({"id": repo, "sha": sha, "private": repository.private, "tags": [], "siblings": siblings})

    def refs(self, repo: str) -> None:
        repository = self.hub.repositories[repo]
        named = {
            kind: [{"name": name, "ref": f"refs/{ref}/{name}", "targetCommit": sha} for name, sha in names.items()]
            for kind, ref, names in (("branches", "heads", repository.branches), ("tags", "tags", repository.tags))
        }
        self.answer({**named, "converts": []})

    def tree(self, repo: str, rev: str) -> None:
        sha = self.revision(repo, rev)
        if sha:
            entries = []
            for path, blob in self.hub.repositories[repo].commits[sha].items():
                entry = {"type": "file", "path": path, "size": len(blob.data), "oid": blob.oid[:40]}
                lfs = {"oid": blob.sha256, "size": len(blob.data), "pointerSize": 134}
                entries.append(entry | ({"lfs": lfs} if blob.is_lfs else {}))
            self.answer(entries)

    def create_branch(self, repo: str, name: str) -> None:
        repository = self.hub.repositories[repo]
        if name in repository.branches:
            self.refuse(409, f"Reference already exists: {name}")
        else:
            repository.branches[name] = repository.find(json.loads(self.body or b"{}").get("startingPoint", "main"))
            self.answer({})

    def create_tag(self, repo: str, rev: str) -> None:
        repository, tag, sha = self.hub.repositories[repo], json.loads(self.body)["tag"], self.revision(repo, rev)
        if tag in repository.tags:
            self.refuse(409, f"Tag reference exists already: {tag}")
        elif sha:
            repository.tags[tag] = sha
            self.answer({})

    def preupload(self, repo: str, rev: str) -> None:
        sha = self.revision(repo, rev)
        if not sha:
            return
        there, files = self.hub.repositories[repo].commits[sha], []
        for wanted in json.loads(self.body)["files"]:
            path = wanted["path"]
            mode = "lfs" if goes_to_lfs(path, base64.b64decode(wanted["sample"])) else "regular"
            oid = {"oid": there[path].oid} if path in there else {}
            files.append({"path": path, "uploadMode": mode, "shouldIgnore": False, **oid})
        self.answer({"files": files})

    def commit(self, repo: str, rev: str) -> None:
        """All lines, or none of them."""
        repository = self.hub.repositories[repo]
        head = repository.branches.get(rev)
        files = dict(repository.commits.get(head, {}))
        for line in self.body.splitlines():
            key, value = (item := json.loads(line))["key"], item["value"]
            if key == "header" and value.get("parentCommit") not in (None, head):
                self.refuse(412, "A commit has happened since. Please refresh and try again.")
                return
            if key == "file":
                files[value["path"]] = Blob(base64.b64decode(value["content"]), is_lfs=False)
            elif key == "lfsFile":
                if value["oid"] not in self.hub.storage:
                    self.refuse(400, f"LFS object {value['oid']} does not exist")
                    return
                files[value["path"]] = Blob(self.hub.storage[value["oid"]], is_lfs=True)
            elif key == "deletedFile":
                del files[value["path"]]
        sha = repository.add_commit(rev, files)
        url = f"{self.hub.address}/{repo}/commit/{sha}"
        self.answer({"success": True, "commitOid": sha, "commitUrl": url, "hookOutput": ""})

    # LFS

    def lfs_batch(self, repo: str) -> None:
        objects = []
        for wanted in json.loads(self.body)["objects"]:
            oid, size = wanted["oid"], wanted["size"]
            place, actions = f"{self.hub.far_address}/storage/{oid}", {}
            if oid not in self.hub.storage:
                header, href = {}, place
                if size > self.hub.part_size:
                    count = -(-size // self.hub.part_size)
                    header = {"chunk_size": str(self.hub.part_size)}
                    header |= {str(part): f"{place}/{part}" for part in range(1, count + 1)}
                    href = f"{place}/complete"
                actions = {"actions": {"upload": {"href": href, "header": header}}}
            objects.append({"oid": oid, "size": size, **actions})
        self.answer({"transfer": "basic", "objects": objects})

    def store(self, oid: str, part: str = "") -> None:
        if part:
            self.hub.parts.setdefault(oid, {})[int(part)] = self.body
            self.answer({}, headers={"ETag": hashlib.md5(self.body).hexdigest()})
        elif hashlib.sha256(self.body).hexdigest() != oid:
            self.refuse(400, "the content is not what its name says")
        else:
            self.hub.storage[oid] = self.body
            self.answer({})

    def complete(self, oid: str) -> None:
        parts = self.hub.parts.pop(oid)
        self.body = b"".join(parts[item["partNumber"]] for item in json.loads(self.body)["parts"])
        self.store(oid)

    # Downloads

    def resolve(self, repo: str, rev: str, path: str) -> None:
        sha = self.revision(repo, rev)
        if not sha:
            return
        blob = self.hub.repositories[repo].commits[sha].get(path)
        headers = {"X-Repo-Commit": sha}
        if blob is None:
            self.answer({"error": "Entry not found"}, 404, headers | {"X-Error-Code": "EntryNotFound"})
        elif blob.is_lfs:
            self.hub.storage[blob.sha256] = blob.data
            linked = {"X-Linked-Etag": f'"{blob.oid}"', "X-Linked-Size": str(len(blob.data))}
            self.answer(b"", 302, headers | linked | {"Location": f"{self.hub.far_address}/cdn/{blob.sha256}"})
        else:
            self.send_file(blob.data, headers | {"ETag": f'"{blob.oid}"'})

    def cdn(self, oid: str) -> None:
        self.send_file(self.hub.storage[oid], {"ETag": f'"{oid}"'})

    def send_file(self, data: bytes, headers: dict[str, str]) -> None:
        if self.fault == "truncate":
            data = data[: len(data) // 2]
        elif self.fault == "corrupt":
            data = data[:-1] + bytes([data[-1] ^ 1])
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if not found:
            self.answer(data, 200, headers)
            return
        start = int(found[1])
        self.answer(data[start:], 206, headers | {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"})
