"""A server's answer, of which the body is still to be read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import urllib3
from urllib3.exceptions import DecodeError, HTTPError, NewConnectionError, ProtocolError, SSLError, TimeoutError

from dataset_prep.fetch.budget import Budget
from dataset_prep.fetch.errors import FetchError

_BLOCK = 256 * 2**10  # bytes


@contextmanager
def as_fetch_errors() -> Iterator[None]:
    """Turn the library's errors into :class:`FetchError`. None of them is permanent: networks fail and recover."""
    try:
        yield
    except NewConnectionError as error:  # a kind of TimeoutError there
        raise FetchError("no connection", permanent=False, detail=str(error)) from error
    except TimeoutError as error:
        raise FetchError("timed out", permanent=False, detail=str(error)) from error
    except SSLError as error:
        raise FetchError("no secure connection", permanent=False, detail=str(error)) from error
    except ProtocolError as error:
        raise FetchError("connection cut", permanent=False, detail=str(error)) from error
    except DecodeError as error:
        raise FetchError("damaged compression", permanent=False, detail=str(error)) from error
    except HTTPError as error:
        raise FetchError("bad answer", permanent=False, detail=str(error)) from error


class Answer:
    """An answer with a status from 200 to 299.

    Attributes:
        url: where redirects ended.
        status: the HTTP status.
        headers: the answer's headers; names in any case.
        content_type: the media type in lower case without its parameters; empty if the server names none.
    """

    def __init__(self, url: str, response: urllib3.BaseHTTPResponse, budget: Budget) -> None:
        self.url = url
        self.status = response.status
        self.headers = response.headers
        self.content_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        self._response = response
        self._budget = budget

    @property
    def content_length(self) -> int | None:
        """Bytes of the body as it is sent, if the server says so."""
        length = self.headers.get("Content-Length", "")
        return int(length) if length.isdecimal() else None

    def blocks(self, *, decompress: bool) -> Iterator[bytes]:
        """Yield the body in pieces of at most 256 KiB, as they come.

        Raises:
            FetchError: the connection broke, the body is shorter than announced, or the time is over.
        """
        while True:
            with as_fetch_errors():
                block = self._response.read1(_BLOCK, decode_content=decompress)
            if not block:
                return
            yield block
            self._budget.left()

    def read(self, max_bytes: int) -> bytes:
        """The whole body, decompressed.

        Raises:
            FetchError: as :meth:`blocks`; or the body is longer than ``max_bytes``, or empty.
        """
        if (self.content_length or 0) > max_bytes:
            raise FetchError("too large", permanent=True, detail=f"{self.content_length:,} bytes")
        body = bytearray()
        for block in self.blocks(decompress=True):
            body += block
            if len(body) > max_bytes:
                raise FetchError("too large", permanent=True, detail=f"more than {max_bytes:,} bytes")
        if not body:
            raise FetchError("empty body", permanent=False)
        return bytes(body)
