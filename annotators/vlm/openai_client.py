"""Requests to an OpenAI-compatible server: tried again, paused and given up as the server's answers ask for."""

from __future__ import annotations

import asyncio
import io
import math
import random
import time
from email.utils import parsedate_to_datetime

import aiohttp

from annotators.vlm.backend import Refusal, Reply
from annotators.vlm.openai_messages import BrokenReplyError, answer_in, words_of
from annotators.vlm.openai_settings import OpenAISettings
from schemas.errors import ConfigError, OutageError

FIRST_WAIT = 0.5
"""Seconds, at most, before the second try; each further wait may be twice as long. The wait is drawn between 0 and that
("full jitter"; M. Brooker, Exponential Backoff and Jitter, AWS Architecture Blog, 2015)."""
CONNECT_SECONDS = 15.0
KEPT_SECONDS = 4.0
"""Idle connections are let go before uvicorn, which vLLM and SGLang run on, closes them after five."""
MOST_TURNED_AWAY = 10
"""A request that the server turns away this many times `tries` while it answers others is given up."""
MOST_LATE = 2
"""Answers to one request that may come too late: tries of this kind cost most."""

TOO_MANY = 429
_TURNED_AWAY = {TOO_MANY, 502, 503}
_NOBODY_BEHIND = {502, 503, 504}  # proxies say so
_FAILED = {408, 409, 425}
_DENIED = {401, 403}
_NOT_SERVED = {402, 404, 405, 407, 410}


class _FailedTryError(Exception):
    """A try brought no answer, maybe because of the request itself."""

    retry_after: float | None = None


class _LateError(_FailedTryError):
    """The answer did not come in time."""


class _TurnedAwayError(_FailedTryError):
    """The server is not there, or takes nothing at the moment: no fault of the request."""


class _RefusedError(Exception):
    """The server will never answer this request."""


class Client:
    """Gets requests answered, `in_flight` at a time, all within one event loop.

    A request keeps its place among those in flight while it waits for another try, so that a server in trouble is asked
    less.

    Args:
        settings: whom to ask, and within which limits.
        key: sent with each request, and kept out of every message; "" for none.

    """

    def __init__(self, settings: OpenAISettings, *, key: str) -> None:
        self._settings, self._key = settings, key
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEPT_SECONDS),
            timeout=aiohttp.ClientTimeout(total=settings.request_seconds, sock_connect=CONNECT_SECONDS),
            headers={"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {key}"} if key else {}),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        self._places = asyncio.Semaphore(settings.in_flight)
        self._url = f"{settings.base_url}/chat/completions"
        self._quiet_until = 0.0
        self._answered = 0

    async def answer(self, key: str, body: bytes) -> Reply | Refusal:
        """The answer to the request `key`, whose `body` is JSON.

        Raises:
            OutageError: the server is away, or turns everything away.
            ConfigError: it refuses whatever it is asked.

        """
        async with self._places:
            try:
                return await self._persist(key, body)
            except _RefusedError as error:
                return Refusal(key=key, why=str(error))

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def _persist(self, key: str, body: bytes) -> Reply | Refusal:
        """Try until there is an answer.

        Being turned away does not count while the server answers others: with a rate limit, many are, for long.
        """
        tries, answered = self._settings.tries, self._answered
        failed = late = away = turned_away = 0
        while True:
            await self._quiet_over()
            try:
                answer = await self._try(key, body)
            except _TurnedAwayError as error:
                away = away + 1 if answered == self._answered else 1
                answered, turned_away = self._answered, turned_away + 1
                if away >= tries:
                    raise self._outage(str(error)) from error
                if turned_away >= MOST_TURNED_AWAY * tries:
                    raise _RefusedError(f"turned away {turned_away} times; the last: {error}") from error
                await self._wait(failed + away, error)
            except _FailedTryError as error:
                away, failed, late = 0, failed + 1, late + isinstance(error, _LateError)
                if failed >= tries or late >= MOST_LATE:
                    if not await self._is_there():
                        raise self._outage(str(error)) from error
                    raise _RefusedError(f"{failed} tries failed; the last: {error}") from error
                await self._wait(failed, error)
            else:
                self._answered += 1
                return answer

    async def _quiet_over(self) -> None:
        """Return when the server wants to be asked again; a little later for each, not all at once."""
        while (left := self._quiet_until - time.monotonic()) > 0:
            await asyncio.sleep(left + random.uniform(0, 0.2 * left))

    async def _wait(self, tried: int, error: _FailedTryError) -> None:
        longest = self._settings.longest_wait
        wait = random.uniform(0, min(longest, FIRST_WAIT * 2 ** min(tried - 1, 30)))
        if error.retry_after is not None:  # for all requests
            self._quiet_until = max(self._quiet_until, time.monotonic() + min(longest, error.retry_after))
        await asyncio.sleep(wait)

    async def _try(self, key: str, body: bytes) -> Reply | Refusal:
        try:
            async with self._session.post(
                self._url,
                data=io.BytesIO(body),
                headers={"Content-Type": "application/json"},
                allow_redirects=False,
            ) as response:
                data = await self._read(response)
        except aiohttp.ClientConnectorCertificateError as error:
            raise ConfigError("the server's certificate is not trusted", where=self._settings.base_url) from error
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise _TurnedAwayError(f"no connection: {error}") from error
        except TimeoutError as error:
            raise _LateError(f"no whole answer within {self._settings.request_seconds:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise _FailedTryError(f"the connection broke: {error or type(error).__name__}") from error
        if not 200 <= response.status < 300:
            raise self._error(response, data)
        try:
            return answer_in(data, key=key)
        except BrokenReplyError as error:
            raise _FailedTryError(str(error)) from error

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        data, limit = bytearray(), self._settings.max_reply_mb * 2**20
        async for piece in response.content.iter_any():
            data += piece
            if len(data) > limit:
                raise _RefusedError(f"the reply is longer than {self._settings.max_reply_mb} MB")
        return bytes(data)

    def _error(self, response: aiohttp.ClientResponse, data: bytes) -> Exception:
        """What an answer of another status than success means."""
        status, said = response.status, f"status {response.status}: {words_of(data, without=[self._key])}"
        if status in _TURNED_AWAY or status in _FAILED or status >= 500:
            error = _TurnedAwayError(said) if status in _TURNED_AWAY else _FailedTryError(said)
            error.retry_after = seconds_of(response.headers.get("Retry-After", ""))
            if status == TOO_MANY and error.retry_after is None:
                error.retry_after = FIRST_WAIT
            return error
        if status in _DENIED:
            variable = self._settings.api_key_env
            remedy = f"Check the key in the environment variable {variable}" if variable else "Set `api_key_env`"
            return ConfigError(f"the server denies access ({said})", where=self._settings.base_url, remedy=remedy)
        if status in _NOT_SERVED or status < 400:
            return ConfigError(
                f"the server does not serve this ({said})",
                where=self._url,
                remedy=f"Check `base_url`, which often ends with /v1, and `model` ({self._settings.model!r}); "
                f"{self._settings.base_url}/models lists what there is",
            )
        return _RefusedError(f"the server refuses it ({said})")

    async def _is_there(self) -> bool:
        """Whether the server answers anything: then what it fails on is the request's fault."""
        try:
            limit = aiohttp.ClientTimeout(total=min(CONNECT_SECONDS, self._settings.request_seconds))
            async with self._session.get(f"{self._settings.base_url}/models", timeout=limit) as response:
                return response.status not in _NOBODY_BEHIND
        except (aiohttp.ClientError, OSError):
            return False

    def _outage(self, cause: str) -> OutageError:
        return OutageError(
            f"the server answers nothing: {cause}",
            where=self._settings.base_url,
            remedy="Check that it is up, and that `base_url` is its address",
        )


def seconds_of(retry_after: str) -> float | None:
    """Seconds that a Retry-After header (RFC 9110, 10.2.3: seconds or a date) asks to wait; None if it says nothing."""
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(retry_after).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return None if math.isnan(seconds) else max(0.0, seconds)
