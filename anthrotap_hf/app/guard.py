"""Who may talk to the page: requests on behalf of other sites are refused, and uploads for which there is no room.

A page that listens on this machine is reachable from every site that its user visits: by a form that is posted to it,
or by a name of that site which suddenly stands for this machine (DNS rebinding). The headers Host and Origin tell.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, MutableMapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

# Seconds.
HOUR = 3600.0
# Requests that change nothing here; a browser keeps their answers from other sites.
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


class HostAndOriginGuard:
    """An ASGI application that passes requests on to another one if they come from the page itself.

    Args:
        app: the other application.
        hosts: names that the page may be called by, without ports. Addresses in numbers are always allowed, since no
            site can have one as its name, and so is localhost.
        any_host: whether all names are allowed, where others are let in and a proxy may stand between.
    """

    def __init__(self, app: Any, hosts: Collection[str] = (), any_host: bool = False) -> None:
        self.app = app
        self.hosts = {"localhost", *(host.lower() for host in hosts)}
        self.any_host = any_host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and (reason := self._reason(scope)):
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
                return
            await _refuse(send, 403, reason)
            return
        await self.app(scope, receive, send)

    def _reason(self, scope: Scope) -> str | None:
        """Why a request is refused, in a sentence; None if it is not."""
        headers: dict[bytes, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.lower(), []).append(value.decode("latin1"))
        hosts = headers.get(b"host", [])
        if len(hosts) != 1:
            return "A request names one host."
        (host,) = hosts
        name = _name(f"//{host}")
        if not self.any_host and not (name in self.hosts or _is_number(name)):
            return "This page is not known by that name: open it by the address that `anthrotap app` prints."
        if scope["type"] == "http" and scope["method"] in SAFE_METHODS:
            return None
        # Browsers say themselves whether it is the page that sends; older ones, and pages without HTTPS, who does.
        if sites := headers.get(b"sec-fetch-site", []):
            is_foreign = any(site not in ("same-origin", "none") for site in sites)
        else:
            # A proxy may have changed the host.
            own = {text.lower() for text in (host, *headers.get(b"x-forwarded-host", []))}
            is_foreign = any(urlsplit(origin).netloc.lower() not in own for origin in headers.get(b"origin", []))
        return "Another site may not send anything to this page." if is_foreign else None


class UploadLimit:
    """An ASGI application that passes requests on to another one, but no upload for which there is no room.

    Args:
        app: the other application.
        folder: of all files of the page.
        total_bytes: of these files, at most.
    """

    def __init__(self, app: Any, folder: Path, total_bytes: int) -> None:
        self.app, self.folder, self.total_bytes = app, folder, total_bytes
        # Bytes that uploads have announced that are on their way.
        self._coming = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or not scope["path"].rstrip("/").endswith("/upload"):
            await self.app(scope, receive, send)
            return
        length = dict(scope["headers"]).get(b"content-length", b"").decode("latin1")
        if not length.isdecimal():
            await _refuse(send, 411, "An upload says how long it is.")
            return
        self._coming += int(length)
        try:
            used = await asyncio.to_thread(_bytes_below, self.folder)
            if used + self._coming > self.total_bytes:
                await _refuse(send, 507, "This page has no room for more videos now: come back in a few minutes.")
                return
            await self.app(scope, receive, send)
        finally:
            self._coming -= int(length)


def visitor_address(peer: str, forwarded: Sequence[str], is_space: bool) -> str:
    """Return the address that a visitor comes from.

    A Space is reached through the Hub's proxy alone, which adds the address that it was called from to the header
    X-Forwarded-For; what stands to the left of that is the visitor's word. For other proxies uvicorn does the same, if
    the variable FORWARDED_ALLOW_IPS names them: `peer` is the visitor then.

    Args:
        peer: who called, by the server.
        forwarded: the lines of the header X-Forwarded-For, in their order.
        is_space: whether this page is a Space.
    """
    if not is_space:
        return peer
    for part in reversed(",".join(forwarded).split(",")):
        address = _without_port(part.strip())
        if not _is_number(address):
            # No proxy wrote this: what stands to the left of it is worth no more.
            return peer
        # The proxy may have several stages, with addresses of their own network.
        number = ipaddress.ip_address(address)
        if (getattr(number, "ipv4_mapped", None) or number).is_global:
            return address
    return peer


def _without_port(part: str) -> str:
    """Return the address of 192.0.2.1:80, [2001:db8::1]:80 or [2001:db8::1]; other texts as they are."""
    if match := re.fullmatch(r"\[([^\[\]]*)\](:\d+)?|([^:]*):\d+", part):
        return match[1] or match[3] or ""
    return part


def is_loopback(host: str) -> bool:
    """Return whether a page that listens at a host can be opened on this machine only."""
    return host.lower() == "localhost" or (_is_number(host) and ipaddress.ip_address(host).is_loopback)


class JobQuota:
    """Counts the jobs of each address that visitors come from: so many within an hour are taken.

    A job counts from when its work begins, also if it is canceled later: until then it has cost as much as any other.
    One that is canceled while it waits does not count.

    Addresses of IPv6 count by their first 64 bits, which one subscriber has.

    Args:
        jobs: how many.
        clock: seconds.
    """

    def __init__(self, jobs: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.jobs, self._clock = jobs, clock
        self._lock = threading.Lock()
        # When jobs of the last hour began, by address.
        self._begun: dict[str, deque[float]] = {}

    def take(self, address: str) -> float | None:
        """Count a job, and return None; if there were too many, count none, and return the seconds to wait."""
        now, address = self._clock(), _network(address)
        with self._lock:
            for other, times in list(self._begun.items()):
                while times and times[0] <= now - HOUR:
                    times.popleft()
                if not times:
                    del self._begun[other]
            begun = self._begun.setdefault(address, deque())
            if len(begun) >= self.jobs:
                return begun[0] + HOUR - now
            begun.append(now)
            return None


async def _refuse(send: Send, status: int, reason: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": reason.encode()})


def _bytes_below(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        # Files go while they are counted.
        with suppress(OSError):
            total += path.lstat().st_size
    return total


def _name(address: str) -> str:
    try:
        return (urlsplit(address).hostname or "").lower()
    except ValueError:
        return ""


def _network(address: str) -> str:
    """Return what an address counts as: of IPv6, its first 64 bits; of IPv4 within IPv6, the IPv4 address."""
    if not _is_number(address):
        return address
    number = ipaddress.ip_address(address)
    if not isinstance(number, ipaddress.IPv6Address):
        return str(number)
    return str(number.ipv4_mapped or ipaddress.ip_network((number.packed[:8] + bytes(8), 64)))


def _is_number(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
