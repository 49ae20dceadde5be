"""A real browser for tests: Chromium without a window, spoken to by its DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

_PATIENCE_S = 60


class Page:
    """One open page."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, loop: asyncio.AbstractEventLoop) -> None:
        self._socket, self._loop, self._number = socket, loop, 0
        self.problems: list[str] = []
        """What the console and the security policy complained of."""

    def run(self, script: str) -> Any:
        """Value of an expression, awaited if it is a promise. Raises `AssertionError` where it throws."""
        found = self._send(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, key: str, *, number: int, text: str = "") -> None:
        """A key down and up, where the focus is: its name, Windows' number of it, and what it types."""
        for kind in ("keyDown", "keyUp"):
            typed = {"text": text} if text and kind == "keyDown" else {}
            self._send("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=number, **typed)

    def picture(self, selector: str) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB of an element, as it is seen."""
        edges = self.run(
            f"(box => [box.x, box.y + window.scrollY, box.width, box.height])"
            f"(document.querySelector({selector!r}).getBoundingClientRect())"
        )
        clip = dict(zip(("x", "y", "width", "height"), edges, strict=True)) | {"scale": 1}
        png = self._send("Page.captureScreenshot", format="png", clip=clip)["data"]
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB"))

    def until(self, script: str) -> Any:
        """Wait until an expression is true, and give its value."""
        ends = time.monotonic() + _PATIENCE_S
        while not (found := self.run(script)):
            assert time.monotonic() < ends, f"never true: {script}; {self.problems}"
            time.sleep(0.05)
        return found

    def _send(self, method: str, **params: Any) -> dict[str, Any]:
        return self._loop.run_until_complete(asyncio.wait_for(self._asked(method, params), _PATIENCE_S))

    async def _asked(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": params})
        while True:
            told = json.loads((await self._socket.receive()).data)
            if told.get("id") == self._number:
                assert "error" not in told, told
                return told["result"]
            if told.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled"):
                self.problems.append(json.dumps(told["params"]))


@contextmanager
def opened(page: Path, profile: Path) -> Iterator[Page]:
    """`page`, opened from the disk with its profile in `profile`; skips the test where there is no Chromium."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("there is no chromium")
    profile.mkdir()
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    options += ["--remote-debugging-port=0", f"--user-data-dir={profile}", "--window-size=1200,900"]
    browser = subprocess.Popen(
        [program, *options, page.as_uri()], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    loop = asyncio.new_event_loop()
    session: aiohttp.ClientSession | None = None
    try:
        port = _port(profile / "DevToolsActivePort", browser)
        session, socket = loop.run_until_complete(_connect(port))
        shown = Page(socket, loop)
        for domain in ("Runtime", "Log", "Page"):
            shown._send(f"{domain}.enable")
        shown.until(f"location.href === {page.as_uri()!r} && document.readyState === 'complete'")
        yield shown
    finally:
        if session:
            loop.run_until_complete(session.close())
        loop.close()
        browser.terminate()
        browser.wait()


def _port(file: Path, browser: subprocess.Popen[bytes]) -> int:
    ends = time.monotonic() + _PATIENCE_S
    while not file.exists() or not file.read_text().strip():
        assert browser.poll() is None, "chromium ended"
        assert time.monotonic() < ends, "chromium does not start"
        time.sleep(0.05)
    return int(file.read_text().splitlines()[0])


async def _connect(port: int) -> tuple[aiohttp.ClientSession, aiohttp.ClientWebSocketResponse]:
    session = aiohttp.ClientSession()
    async with session.get(f"http://127.0.0.1:{port}/json") as answer:
        pages = [each for each in await answer.json() if each["type"] == "page"]
    return session, await session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=2**26)
