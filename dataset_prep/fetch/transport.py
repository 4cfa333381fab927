"""From a URL to a connection: proxies, addresses, certificates, and a pool of connections for each host."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from functools import cached_property
from urllib.request import getproxies, proxy_bypass

import certifi
from urllib3 import BaseHTTPResponse, PoolManager, ProxyManager
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import ConnectTimeoutError, LocationParseError, NewConnectionError, ProxySchemeUnknown
from urllib3.util import Timeout, Url, make_headers, parse_url

from dataset_prep.fetch.addresses import is_address, is_public, resolve
from dataset_prep.fetch.answer import as_fetch_errors
from dataset_prep.fetch.budget import Budget
from dataset_prep.fetch.connections import use_prompt_connections
from dataset_prep.fetch.errors import FetchError
from recbole_msm4sr.core.errors import UserError

PORTS = {"http": 80, "https": 443}


class Transport:
    """Sends single GET requests, without redirects and retries.

    Proxies are taken from the environment (``http_proxy``, ``https_proxy``, ``no_proxy``). A proxy resolves names
    itself, so behind one the check for private addresses covers those that are spelled out, and the rest is the
    proxy's.

    Args:
        per_host: connections to a host that are kept open.
        timeout: seconds to connect, and to read.
        allow_private: connect to addresses that are not on the public internet too.

    Raises:
        UserError: the environment names a proxy of an unknown kind.
    """

    def __init__(self, per_host: int, timeout: tuple[float, float], *, allow_private: bool) -> None:
        self.timeout = timeout
        self.allow_private = allow_private
        self._per_host = per_host
        self._direct = PoolManager(num_pools=64, maxsize=per_host)
        self._proxies = {scheme: self._proxy(url) for scheme, url in getproxies().items() if scheme in PORTS}
        for manager in (self._direct, *self._proxies.values()):
            use_prompt_connections(manager)

    def close(self) -> None:
        """Close the connections that are idle."""
        for manager in (self._direct, *self._proxies.values()):
            manager.clear()

    def get(self, url: Url, headers: Mapping[str, str], budget: Budget) -> BaseHTTPResponse:
        """The answer to a GET, whatever its status, with its body still to be read.

        Raises:
            FetchError: there is no connection or no answer, or the address is private.
        """
        scheme, host = str(url.scheme), str(url.host).strip("[]")
        proxy = self._proxies.get(scheme)
        if proxy is not None and not proxy_bypass(host):
            if not self.allow_private and (host == "localhost" or (is_address(host) and not is_public(host))):
                raise FetchError("private address", permanent=True, detail=host)
            with as_fetch_errors():
                return self._send(proxy, url.url, headers, budget)
        port = url.port or PORTS[scheme]
        tls = {"server_hostname": host, "ssl_context": self._tls} if scheme == "https" else {}
        *others, last = resolve(host, port, allow_private=self.allow_private)
        with as_fetch_errors():
            for address in others:
                try:
                    pool = self._direct.connection_from_host(address, port, scheme, tls)
                    return self._send(pool, url.request_uri, headers, budget)
                except (NewConnectionError, ConnectTimeoutError):
                    continue  # such as an IPv6 address where the network has none
            pool = self._direct.connection_from_host(last, port, scheme, tls)
            return self._send(pool, url.request_uri, headers, budget)

    def _send(
        self, via: HTTPConnectionPool | ProxyManager, target: str, headers: Mapping[str, str], budget: Budget
    ) -> BaseHTTPResponse:
        connect, read = (min(limit, budget.left()) for limit in self.timeout)
        return via.urlopen(
            "GET",
            target,
            headers=headers,
            timeout=Timeout(connect=connect, read=read),
            redirect=False,
            retries=False,
            preload_content=False,
        )

    @cached_property  # it takes longer than a request, and many clients need none
    def _tls(self) -> ssl.SSLContext:
        """The system's certificates and certifi's: some Pythons come without the former, some networks need them."""
        context = ssl.create_default_context()
        context.load_verify_locations(certifi.where())
        return context

    def _proxy(self, url: str) -> ProxyManager:
        try:
            parts = parse_url(url if "://" in url else f"http://{url}")
            return ProxyManager(
                parts.url,
                num_pools=64,
                maxsize=self._per_host,
                ssl_context=self._tls,
                proxy_headers=make_headers(proxy_basic_auth=parts.auth) if parts.auth else None,
            )
        except (ProxySchemeUnknown, LocationParseError) as error:
            raise UserError(
                f"the proxy in the environment cannot be used ({error}): http and https ones can"
            ) from error
