"""From a URL to an answer: proxies, checked addresses, certificates, and urllib3's pools of connections."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.request import getproxies, proxy_bypass

import certifi
from urllib3 import BaseHTTPResponse, HTTPConnectionPool, HTTPSConnectionPool, PoolManager, ProxyManager, Timeout
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import LocationParseError, NewConnectionError, ProxySchemeUnknown
from urllib3.response import HTTPResponse
from urllib3.util import Url, make_headers, parse_url
from urllib3.util.connection import create_connection

from dataset_prep.fetch.addresses import public_addresses, refuse_private_name
from dataset_prep.fetch.errors import as_fetch_errors
from recbole_msm4sr.core.errors import UserError


class _Connection(HTTPConnection):
    """A connection that checks the address it goes to, and does not wait forever for the head of an answer."""

    public_only: bool
    sockets: set[socket.socket | None]  # open ones, of all threads

    def _new_conn(self) -> socket.socket:
        if not self.public_only:
            return super()._new_conn()
        failure: OSError | None = None
        for address in public_addresses(self.host, self.port):
            try:
                return create_connection((address, self.port), self.timeout, socket_options=self.socket_options)
            except OSError as error:  # such as an IPv6 address where the network has none
                failure = error
        raise NewConnectionError(self, str(failure)) from failure

    def connect(self) -> None:
        super().connect()
        self.sockets.add(self.sock)

    def close(self) -> None:
        self.sockets.discard(self.sock)
        super().close()

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]
        """Let the read timeout limit the whole head: ``http.client`` applies it to every single read."""
        start, seconds = time.monotonic(), self.timeout or threading.TIMEOUT_MAX
        timer = threading.Timer(seconds, _shut_down, (self.sock,))
        timer.daemon = True
        timer.start()
        try:
            return super().getresponse()
        finally:
            timer.cancel()
            if time.monotonic() - start >= seconds:  # whatever the interrupted read made of it
                self.close()
                raise TimeoutError(f"no complete answer within {seconds:g} s")


class Transport:
    """Sends single GET requests, without redirects and retries.

    Proxies are taken from the environment (``http_proxy``, ``https_proxy``, ``no_proxy``). A proxy resolves names
    itself, so behind one only addresses that the URL spells out are checked here.

    Args:
        per_host: connections to a host that are kept open.
        allow_private: connect to addresses that are not on the public internet, too.

    Raises:
        UserError: the environment names a proxy of an unknown kind.
    """

    def __init__(self, per_host: int, *, allow_private: bool) -> None:
        self._allow_private = allow_private
        self._sockets: set[socket.socket | None] = set()
        # The system's certificates and certifi's: some Pythons come without the former, some networks need them.
        tls = ssl.create_default_context()
        tls.load_verify_locations(certifi.where())
        options: dict[str, Any] = {"num_pools": 64, "maxsize": per_host, "ssl_context": tls}
        self._direct = PoolManager(**options)
        self._direct.pool_classes_by_scheme = self._pools(public_only=not allow_private)
        self._proxies = {scheme: _proxy(url, options) for scheme, url in getproxies().items() if scheme in _KINDS}
        for proxy in self._proxies.values():
            proxy.pool_classes_by_scheme = self._pools(public_only=False)

    def get(self, url: Url, headers: Mapping[str, str], timeout: Timeout) -> BaseHTTPResponse:
        """The answer to a GET, whatever its status, with its body still to be read.

        Raises:
            FetchError: there is no connection or no answer, or the address is private.
        """
        host = str(url.host).strip("[]")
        proxy = None if proxy_bypass(host) else self._proxies.get(str(url.scheme))
        if proxy is not None and not self._allow_private:
            refuse_private_name(host)
        with as_fetch_errors():
            return (proxy or self._direct).urlopen(
                "GET",
                url.url,
                headers=headers,
                timeout=timeout,
                redirect=False,
                retries=False,
                preload_content=False,
            )

    def close(self) -> None:
        """Close all connections; threads that wait for a server wake up, and get a :class:`FetchError`."""
        for connection in list(self._sockets):
            _shut_down(connection)
        for manager in (self._direct, *self._proxies.values()):
            manager.clear()

    def _pools(self, *, public_only: bool) -> dict[str, Any]:
        """urllib3's pools by scheme, with :class:`_Connection` for a connection."""
        attributes = {"public_only": public_only, "sockets": self._sockets}
        return {
            scheme: type(pool.__name__, (pool,), {"ConnectionCls": type("Connection", (_Connection, kind), attributes)})
            for scheme, (pool, kind) in _KINDS.items()
        }


_KINDS = {"http": (HTTPConnectionPool, HTTPConnection), "https": (HTTPSConnectionPool, HTTPSConnection)}


def _shut_down(connection: socket.socket | None) -> None:
    """Wake the thread that reads from a connection, if it is still open."""
    with suppress(OSError):
        if connection is not None:
            connection.shutdown(socket.SHUT_RDWR)


def _proxy(url: str, options: Mapping[str, Any]) -> ProxyManager:
    try:
        parts = parse_url(url if "://" in url else f"http://{url}")
        credentials = make_headers(proxy_basic_auth=parts.auth) if parts.auth else None
        return ProxyManager(parts.url, proxy_headers=credentials, **options)
    except (ProxySchemeUnknown, LocationParseError) as error:
        raise UserError(f"the proxy in the environment cannot be used ({error}): use an http or https proxy") from error
