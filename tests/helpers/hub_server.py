"""A small Hub on loopback, for tests: real HTTP, repositories in memory, written from what huggingface_hub asks for.

It knows accounts by their tokens, private and gated repositories, main, tags and commits, LFS uploads, and can break
an upload in the middle. What it does not know it answers with 404.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

LFS_SUFFIXES = (".parquet", ".safetensors", ".mp4", ".bin")
WRITER, READER = "hf_writer", "hf_reader"  # tokens: of the account "me", which may write, and of "you"
ACCOUNTS = {WRITER: "me", READER: "you"}


@dataclass
class Repository:
    """One repository: its commits hold every file's bytes."""

    private: bool
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def head(self) -> str:
        return self.order[-1]

    def commit(self, files: dict[str, bytes]) -> str:
        listed = sorted((name, hashlib.sha1(content).hexdigest()) for name, content in files.items())
        sha = hashlib.sha1(f"{len(self.order)} {listed}".encode()).hexdigest()
        self.commits[sha] = files
        self.order.append(sha)
        return sha

    def resolve(self, revision: str | None) -> str | None:
        if revision in (None, "main", "refs/heads/main"):
            return self.head
        revision = self.tags.get(revision, revision)
        return revision if revision in self.commits else None

    def files(self) -> dict[str, bytes]:
        """What main holds."""
        return self.commits[self.head]


class Hub:
    """The server's state, which tests may inspect or break.

    Attributes:
        repositories: by ("model" or "dataset", "me/name").
        objects: LFS contents by SHA-256.
        requests: (method, path) of all that was asked.
        break_after: so many LFS uploads get through, the next ones are cut off in the middle; None: all get through.
    """

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.break_after: int | None = None
        self.lock = threading.RLock()
        self.url = ""

    def uploads(self) -> list[str]:
        """SHA-256 of the LFS objects whose upload was tried, in order."""
        return [path.removeprefix("/lfs/") for method, path in self.requests if path.startswith("/lfs/")]


@contextmanager
def running_hub() -> Iterator[Hub]:
    """The server, on a free port, until the block ends."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    account: str | None
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        path = unquote(parts.path)
        with self.hub.lock:
            self.hub.requests.append((self.command, path))
        if path.startswith("/lfs/"):
            return self._take_object(path.removeprefix("/lfs/"))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ").strip()
        self.account = ACCOUNTS.get(token)
        if token and self.account is None:
            return self._reject(401, None, "Invalid credentials in Authorization header")
        with self.hub.lock:
            self._route(path, parse_qs(parts.query), body)
        return None

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815

    def _answer(self, status: int, content: Any = b"", **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        if not isinstance(content, bytes):
            self.send_header("Content-Type", "application/json")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _reject(self, status: int, code: str | None, message: str) -> None:
        headers = {"X_Error_Message": message} | ({"X_Error_Code": code} if code else {})
        self._answer(status, {"error": message}, **headers)

    def _route(self, path: str, query: dict[str, list[str]], body: bytes) -> None:
        if path == "/api/whoami-v2":
            return self._whoami()
        if path == "/api/validate-yaml":
            return self._answer(200, {"errors": [], "warnings": []})
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path.endswith(".git/info/lfs/objects/batch"):
            return self._offer(json.loads(body))
        found = re.fullmatch(r"/api/(model|dataset)s/([^/]+/[^/]+)(?:/(.*))?", path)
        if found:
            return self._api(found[1], found[2], found[3] or "", query, body)
        found = re.fullmatch(r"/(?:(datasets)/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        if found:
            repository = self._find("dataset" if found[1] else "model", found[2], files=True)
            return None if repository is None else self._file(repository, found[3], found[4])
        return self._reject(404, "RepoNotFound", "Repository not found")

    def _whoami(self) -> None:
        if self.account is None:
            return self._reject(401, None, "Invalid credentials in Authorization header")
        role = "write" if self.account == "me" else "read"
        access = {"type": "access_token", "accessToken": {"displayName": "t", "role": role}}
        return self._answer(
            200, {"type": "user", "name": self.account, "fullname": self.account, "orgs": [], "auth": access}
        )

    def _find(self, kind: str, name: str, write: bool = False, files: bool = False) -> Repository | None:
        """The repository, if this account may have it; else the error is sent."""
        repository = self.hub.repositories.get((kind, name))
        owner = name.split("/")[0]
        if repository is None or (repository.private and self.account != owner):
            self._reject(401 if self.account is None else 404, "RepoNotFound", "Repository not found")
        elif write and self.account != owner:
            self._reject(403, None, f"You don't have the rights to write in {name}")
        elif files and repository.gated and self.account != owner:
            self._reject(403 if self.account else 401, "GatedRepo", f"Access to {name} is restricted")
        else:
            return repository
        return None

    def _create(self, asked: dict[str, Any]) -> None:
        if self.account != "me" or asked.get("organization") not in (None, "me"):
            return self._reject(403, None, "You don't have the rights to create a repository there")
        kind, name = asked.get("type") or "model", f"me/{asked['name']}"
        url = f"{self.hub.url}/{'datasets/' if kind == 'dataset' else ''}{name}"
        if (kind, name) in self.hub.repositories:
            return self._answer(409, {"error": "You already created this repository", "url": url})
        private = bool(asked.get("private")) or asked.get("visibility") == "private"
        self.hub.repositories[kind, name] = repository = Repository(private)
        repository.commit({".gitattributes": b""})
        return self._answer(200, {"url": url, "name": name, "id": name})

    def _offer(self, asked: dict[str, Any]) -> None:
        """Git LFS's batch API: where to upload the objects that are missing."""
        objects = []
        for each in asked["objects"]:
            actions = {"upload": {"href": f"{self.hub.url}/lfs/{each['oid']}", "header": {}}}
            here = each["oid"] in self.hub.objects
            objects.append({"oid": each["oid"], "size": each["size"]} | ({} if here else {"actions": actions}))
        self._answer(200, {"transfer": "basic", "objects": objects})

    def _take_object(self, oid: str) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        with self.hub.lock:
            broken = self.hub.break_after == 0
            if self.hub.break_after:
                self.hub.break_after -= 1
        if broken:
            self.rfile.read(size // 2)
            self.close_connection = True
            return None
        content = self.rfile.read(size)
        if hashlib.sha256(content).hexdigest() != oid:
            return self._reject(400, None, "not what was announced")
        self.hub.objects[oid] = content
        return self._answer(200)

    def _api(self, kind: str, name: str, rest: str, query: dict[str, list[str]], body: bytes) -> None:
        operation, _, argument = rest.partition("/")
        writes = operation in ("preupload", "commit", "tag", "settings")
        repository = self._find(kind, name, write=writes, files=operation == "auth-check")
        if repository is None:
            return None
        if operation == "auth-check":
            return self._answer(200, {})
        if operation == "preupload":
            asked = json.loads(body)["files"]
            return self._answer(200, {"files": [self._mode(repository, file["path"]) for file in asked]})
        if operation == "commit":
            return self._commit(repository, name, body)
        if operation == "tag":
            return self._tag(repository, json.loads(body)["tag"], argument)
        if operation == "settings":
            repository.private = json.loads(body)["visibility"] == "private"
            return self._answer(200, {"private": repository.private})
        if operation == "refs":
            branches = [{"name": "main", "ref": "refs/heads/main", "targetCommit": repository.head}]
            tags = [
                {"name": tag, "ref": f"refs/tags/{tag}", "targetCommit": sha} for tag, sha in repository.tags.items()
            ]
            return self._answer(200, {"branches": branches, "converts": [], "tags": tags})
        revision, _, below = argument.partition("/")
        sha = repository.resolve(revision or None)
        if sha is None:
            return self._reject(404, "RevisionNotFound", "Invalid rev id")
        files = repository.commits[sha]
        if operation in ("", "revision"):
            return self._answer(200, _about(name, repository, sha))
        if operation == "paths-info":
            is_json = "json" in self.headers.get("Content-Type", "")
            paths = json.loads(body)["paths"] if is_json else parse_qs(body.decode())["paths"]
            return self._answer(200, [e for path in paths if (e := _entry(files, path.rstrip("/")))])
        if operation == "tree":
            recursive = query.get("recursive", ["false"])[0].lower() in ("true", "1")
            return self._tree(files, below.strip("/"), recursive)
        return self._reject(404, None, f"not known here: {operation}")

    def _tag(self, repository: Repository, tag: str, revision: str) -> None:
        target = repository.resolve(revision)
        if tag in repository.tags:
            return self._reject(409, None, "Tag exists")
        if target is None:
            return self._reject(404, "RevisionNotFound", "Invalid rev id")
        repository.tags[tag] = target
        return self._answer(200, {})

    def _mode(self, repository: Repository, path: str) -> dict[str, Any]:
        lfs, content = path.endswith(LFS_SUFFIXES), repository.files().get(path)
        oid = None
        if content is not None:
            oid = hashlib.sha256(content).hexdigest() if lfs else git_oid(content)
        mode = "lfs" if lfs else "regular"
        return {"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid}

    def _commit(self, repository: Repository, name: str, body: bytes) -> None:
        files = dict(repository.files())
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "header" and value.get("parentCommit", repository.head) != repository.head:
                return self._reject(412, None, "A commit has happened since")
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                if value["oid"] not in self.hub.objects:
                    return self._reject(400, None, f"{value['path']}: its content was never uploaded")
                files[value["path"]] = self.hub.objects[value["oid"]]
            elif entry["key"] == "deletedFile":
                files.pop(value["path"], None)
            elif entry["key"] == "deletedFolder":
                gone = value["path"].rstrip("/") + "/"
                files = {path: content for path, content in files.items() if not path.startswith(gone)}
        sha = repository.commit(files)
        url = f"{self.hub.url}/{name}/commit/{sha}"
        return self._answer(200, {"success": True, "commitOid": sha, "commitUrl": url, "hookOutput": ""})

    def _tree(self, files: dict[str, bytes], below: str, recursive: bool) -> None:
        start = f"{below}/" if below else ""
        inside = [path for path in files if path.startswith(start)]
        if below and not inside:
            return self._reject(404, "EntryNotFound", "Entry not found")
        folders, here = set(), []
        for path in inside:
            parts = path[len(start) :].split("/")
            depth = len(parts) if recursive else min(2, len(parts))
            folders.update(start + "/".join(parts[:n]) for n in range(1, depth))
            if recursive or len(parts) == 1:
                here.append(path)
        return self._answer(200, [_entry(files, path) for path in (*sorted(folders), *here)])

    def _file(self, repository: Repository, revision: str, path: str) -> None:
        sha = repository.resolve(revision)
        if sha is None:
            return self._reject(404, "RevisionNotFound", "Invalid rev id")
        content = repository.commits[sha].get(path)
        if content is None:
            missing = {"X_Error_Code": "EntryNotFound", "X_Repo_Commit": sha}
            return self._answer(404, {"error": "Entry not found"}, **missing)
        lfs = path.endswith(LFS_SUFFIXES)
        headers = {
            "X_Repo_Commit": sha,
            "ETag": f'"{hashlib.sha256(content).hexdigest() if lfs else git_oid(content)}"',
            "Accept_Ranges": "bytes",
            "Content_Type": "application/octet-stream",
        }
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked:
            start, end = int(asked[1]), min(int(asked[2] or len(content) - 1), len(content) - 1)
            headers["Content_Range"] = f"bytes {start}-{end}/{len(content)}"
            return self._answer(206, content[start : end + 1], **headers)
        return self._answer(200, content, **headers)


def _about(name: str, repository: Repository, sha: str) -> dict[str, Any]:
    return {
        "_id": name,
        "id": name,
        "modelId": name,
        "sha": sha,
        "private": repository.private,
        "gated": "auto" if repository.gated else False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": [],
        "lastModified": "2026-01-01T00:00:00.000Z",
        "createdAt": "2026-01-01T00:00:00.000Z",
        "siblings": [{"rfilename": path} for path in repository.commits[sha]],
    }


def _entry(files: dict[str, bytes], path: str) -> dict[str, Any] | None:
    content = files.get(path)
    if content is not None:
        entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": git_oid(content)}
        if path.endswith(LFS_SUFFIXES):
            oid = hashlib.sha256(content).hexdigest()
            entry["lfs"] = {"oid": oid, "size": len(content), "pointerSize": 130}
        return entry
    if any(other.startswith(path + "/") for other in files):
        return {"type": "directory", "path": path, "size": 0, "oid": "0" * 40}
    return None
