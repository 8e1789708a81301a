"""Files that are downloaded once: whole, resumed after a break, and checked by their SHA-256."""

from __future__ import annotations

import http.client
import os
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

from anthrotap_hf.utils.atomic_files import atomic_write, file_sha256
from anthrotap_hf.utils.errors import AnthroTapError, one_line

OnBytes = Callable[[int, int | None], object]
"""Called with how many bytes of a file there are, and how many there will be (None if the server does not say)."""

# Seconds without an answer after which a connection is given up.
TIMEOUT = 60
# How often a download that broke is taken up again in vain, and seconds before each time.
ATTEMPTS = 3
PAUSE = 2.0
CHUNK = 1 << 20
# What a server answers when it is busy or fails for the moment.
TRANSIENT = (408, 429, 500, 502, 503, 504)
MOVED = (404, 410)


class DownloadError(AnthroTapError):
    """A file can't be downloaded, or is not what it should be; `path` is its address or where it lies."""


class _BrokenError(Exception):
    """The connection broke, or the server is busy: what has arrived is kept."""


def cache_dir() -> Path:
    """Return the folder of downloaded and converted networks: $ANTHROTAP_CACHE, else ~/.cache/anthrotap."""
    return Path(os.environ.get("ANTHROTAP_CACHE") or Path.home() / ".cache" / "anthrotap").expanduser()


def download(
    address: str,
    path: Path,
    sha256: str | None = None,
    headers: Mapping[str, str] | None = None,
    on_bytes: OnBytes = lambda done, total: None,
) -> None:
    """Download a file. It gets its name once it is whole and right.

    What has arrived when the connection breaks or the program ends lies in `NAME.part`. The same call resumes there, if
    the server still has the same file. One process at a time may download to a path.

    Args:
        address: http or https.
        path: of the file; its folder is made.
        sha256: that the file must have; None: that which `pin_sha256` kept of an earlier download to this path, if any.
        headers: for the first server, not for one that it redirects to.
        on_bytes: see `OnBytes`.

    Raises:
        DownloadError: the file is not there, can't be reached, or is another one than expected.
        OSError: the file can't be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    failures, received = 0, False
    while True:
        before = _size(part)
        try:
            _continue(address, part, headers or {}, on_bytes, resumable_without_validator=sha256 is not None)
            break
        except _BrokenError as error:
            failures = 0 if _size(part) > before else failures + 1
            received = received or failures == 0
            # Who was never reached is not asked again.
            if failures >= (ATTEMPTS if received else 1):
                hint = "check the network; the same command resumes" if _size(part) else "check the network"
                raise DownloadError(f"can't be downloaded ({error})", path=address, hint=hint) from error
            time.sleep(PAUSE)
    try:
        check_sha256(part, sha256, pin=pin_of(path))
    except DownloadError as error:
        part.unlink()
        raise DownloadError(error.reason, path=address, hint=error.hint) from error
    finally:
        _validator_of(part).unlink(missing_ok=True)
    part.replace(path)


def pin_of(path: Path) -> Path:
    """Return where the SHA-256 of a download's first version is kept: the form of `sha256sum`."""
    return path.with_name(f"{path.name}.sha256")


def check_sha256(file: Path, sha256: str | None, pin: Path) -> None:
    """Check a file's SHA-256: if it is None, against the one in `pin`, if that is there.

    Raises:
        DownloadError: it is another file.
    """
    found = file_sha256(file)
    pinned = pin.read_text("utf-8").split()[0] if sha256 is None and pin.is_file() else None
    expected = sha256 or pinned
    if expected is not None and found != expected:
        replaced = f"it was replaced since the first download: to accept the new one, delete {pin}"
        hint = None if pinned is None else replaced
        raise DownloadError(f"its SHA-256 is {found}, expected {expected}", path=file, hint=hint)


def pin_sha256(file: Path, pin: Path) -> None:
    """Keep a file's SHA-256 in `pin`, for later downloads. To be called when the file has proved to be what it should.

    Raises:
        OSError: the file can't be read, or `pin` can't be written.
    """
    with atomic_write(pin) as tmp_path:
        tmp_path.write_text(f"{file_sha256(file)}  {pin.name.removesuffix('.sha256')}\n", encoding="utf-8")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _validator_of(part: Path) -> Path:
    """Return where the server's name of the version is kept that a part belongs to."""
    return part.with_name(f"{part.name}.etag")


def _continue(
    address: str, part: Path, headers: Mapping[str, str], on_bytes: OnBytes, resumable_without_validator: bool
) -> None:
    """Take one connection's worth of a file. Raises _BrokenError if it ends early, and DownloadError for good."""
    if not address.startswith(("http://", "https://")):
        raise DownloadError("not an address that begins with http:// or https://", path=address)
    kept = _validator_of(part)
    validator = kept.read_text("utf-8") if kept.is_file() else ""
    start = _size(part)
    if start and not (validator or resumable_without_validator):
        # Nobody could tell whether the rest belongs to it.
        part.unlink()
        start = 0
    request = urllib.request.Request(address)
    for name, value in headers.items():
        request.add_unredirected_header(name, value)
    request.add_header("User-Agent", "anthrotap")
    if start:
        request.add_header("Range", f"bytes={start}-")
        if validator:
            request.add_header("If-Range", validator)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            start, total = _place(answer, start)
            if start == 0:
                # The server sends the whole file: it is new, or another one than before.
                version = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
                kept.write_text("" if version.startswith("W/") else version, encoding="utf-8")
            _receive(answer, part, start, total, on_bytes)
    except urllib.error.HTTPError as error:
        if error.code == 416 and start:
            if error.headers.get("Content-Range", "").endswith(f"/{start}"):
                # There is no rest: it was all there.
                return
            part.unlink(missing_ok=True)
            raise _BrokenError("the part that was kept is not of this file") from error
        if error.code in TRANSIENT:
            raise _BrokenError(f"the server answers {error.code}") from error
        gone = "it is no longer there" if error.code in MOVED else "the server does not give it"
        raise DownloadError(f"{gone} (it answers {error.code})", path=address) from error
    except (urllib.error.URLError, ssl.SSLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
        reason = getattr(error, "reason", None) or error
        raise _BrokenError(one_line(reason) or type(error).__name__) from error
    except ValueError as error:
        raise DownloadError(f"not an address ({one_line(error)})", path=address) from error


def _place(answer: http.client.HTTPResponse, start: int) -> tuple[int, int | None]:
    """Return which byte an answer begins with, and how many bytes the whole file has."""
    if answer.status == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
        if found is None or int(found[1]) != start:
            raise _BrokenError("the server sends another part than was asked for")
        return start, None if found[2] == "*" else int(found[2])
    length = answer.headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() else None


def _receive(answer: http.client.HTTPResponse, part: Path, start: int, total: int | None, on_bytes: OnBytes) -> None:
    done = start
    with open(part, "ab" if start else "wb") as file:
        on_bytes(done, total)
        while chunk := answer.read(CHUNK):
            file.write(chunk)
            done += len(chunk)
            on_bytes(done, total)
    if total is not None and done != total:
        raise _BrokenError(f"the connection ended after {done} of {total} bytes")
