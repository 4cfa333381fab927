"""Which addresses a URL of a catalogue may lead to: those of the public internet."""

from __future__ import annotations

import ipaddress
import socket

from dataset_prep.fetch.errors import FetchError

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def is_public(address: str) -> bool:
    """Whether an IP address is on the public internet: not private, loopback, link-local, reserved or multicast.

    An IPv6 address that stands for an IPv4 address (mapped, 6to4, NAT64) is judged by that address.
    """
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        embedded = ip.ipv4_mapped or ip.sixtofour
        if ip in _NAT64:
            embedded = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if embedded is not None:
            return is_public(str(embedded))
    return ip.is_global and not ip.is_multicast


def refuse_private_name(host: str) -> None:
    """Raise a FetchError if ``host`` is spelled as a private address; no name is resolved."""
    try:
        private = host == "localhost" or not is_public(host)
    except ValueError:  # a name
        return
    if private:
        raise FetchError("private address", permanent=True, detail=host)


def public_addresses(host: str, port: int) -> list[str]:
    """Public IP addresses of ``host``, in the resolver's order.

    The caller connects to one of them and never to the name, so a name that changes its address between the check and
    the connection (DNS rebinding) gains nothing.

    Raises:
        FetchError: the name is unknown (not permanent: the resolver may be down), or has no public address.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise FetchError("host not found", permanent=False, detail=f"{host}: {error}") from error
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    public = [address for address in addresses if is_public(address)]
    if not public:
        raise FetchError("private address", permanent=True, detail=f"{host} is {', '.join(addresses)}")
    return public
