"""Addresses in lists of strangers: they may not reach into this machine, its network, or its cloud's metadata."""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from anthrotap_hf.utils.errors import AnthroTapError

WEB = ("http", "https")
# Further protocols whose addresses name a host. That is looked up once more when it is used.
WITH_HOST = ("ftp", "sftp", "ssh")
# Those whose addresses name no host: stores with one known service each, archives, copies, this machine's files.
WITHOUT_HOST = (
    *("s3", "s3a", "gs", "gcs", "az", "abfs", "adl", "oci", "oss", "hf"),
    *("zip", "tar", "simplecache", "filecache", "blockcache", "file", "local", "memory"),
)
# The addresses of IPv6 that hold one of IPv4 in their last 32 bits: of translators (NAT64), and an old form.
IPV4_IN_IPV6 = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("::/96"))


class PrivateAddressError(AnthroTapError):
    """An address of this machine, its network, or its cloud."""


def check_host(host: str) -> None:
    """Raise PrivateAddressError if a host, by number or by name, is not a public one. Nobody is asked if it is none."""
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        # Who connects to it says what is wrong.
        return
    for number in found:
        address = ipaddress.ip_address(number.partition("%")[0])
        inner = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None) or address
        if any(address in network for network in IPV4_IN_IPV6):
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if not inner.is_global or inner.is_multicast:
            raise PrivateAddressError(
                f"{host} is an address of this machine or its network",
                hint="it is read only where private addresses are allowed",
            )


def storage_options(address: str, allow_private: bool) -> dict[str, Any]:
    """Return options for fsspec by which an address, and all that it leads to, is reached only if it is public.

    Raises:
        PrivateAddressError: it names a host that is not, or a protocol that may lead anywhere.
    """
    if allow_private:
        return {}
    options: dict[str, Any] = {}
    parts = address.split("::")
    for part in parts:
        protocol, mark, _ = part.partition("://")
        # In a chain, fsspec takes a single word for a protocol.
        is_protocol = mark or (len(parts) > 1 and re.fullmatch("[a-z]+", part))
        if is_protocol and protocol not in (*WEB, *WITH_HOST, *WITHOUT_HOST):
            raise PrivateAddressError(
                f"an address of {protocol}:// may lead to this machine or its network",
                hint="it is read only where private addresses are allowed",
            )
        if mark and protocol in (*WEB, *WITH_HOST) and (host := urlsplit(part).hostname):
            check_host(host)
        if protocol in WEB:
            own = {"get_client": public_client}
            options |= own if len(parts) == 1 else {protocol: own}
    return options


async def public_client(loop: Any = None, **options: Any) -> Any:
    """Return an aiohttp session, as fsspec asks for it, that connects to public addresses only.

    Each connection is checked: a name may stand for another machine a second time, and answers may send elsewhere.
    """
    import aiohttp

    connector = aiohttp.TCPConnector(loop=loop, socket_factory=_public_socket)
    return aiohttp.ClientSession(connector=connector, loop=loop, **options)


def _public_socket(target: tuple[Any, Any, int, str, Any]) -> socket.socket:
    family, kind, protocol, _, address = target
    check_host(str(address[0]))
    return socket.socket(family, kind, protocol)


def without_secrets(address: str) -> str:
    """Return an address without its password, its signature and whatever else stands behind a question mark."""

    def clean(part: str) -> str:
        if "://" not in part:
            return part
        try:
            parts = urlsplit(part)
            user, at, host = parts.netloc.rpartition("@")
            netloc = f"{user.partition(':')[0]}@{host}" if at and ":" not in user else host
            return urlunsplit((parts.scheme, netloc, parts.path, "", ""))
        except ValueError:
            return re.split(r"[?#]", part)[0]

    return "::".join(map(clean, address.split("::")))
