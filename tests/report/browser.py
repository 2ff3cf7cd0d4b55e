# SPDX-License-Identifier: Apache-2.0
"""Headless Chromium by its DevTools protocol over a pipe: opens a page, points, clicks, types, tells what it saw."""

import base64
import fcntl
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FRAMES = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
"""Ends when what was asked for has been drawn."""
OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)


class Browser:
    """One browser with one page in it; ``console`` and ``requests`` are those since the page was opened."""

    def __init__(self, folder: Path) -> None:
        program = next(path for name in BROWSERS if (path := shutil.which(name)))
        (reads, self._out), (self._in, writes) = os.pipe(), os.pipe()
        reads, writes = (fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (reads, writes))

        def at_3_and_4() -> None:  # where Chromium looks for its pipe
            os.dup2(reads, 3)
            os.dup2(writes, 4)

        self._process = subprocess.Popen(
            [program, *OPTIONS, f"--user-data-dir={folder}", "about:blank"],
            preexec_fn=at_3_and_4,
            pass_fds=(3, 4),
            stderr=subprocess.DEVNULL,
        )
        os.close(reads)
        os.close(writes)
        self._rest, self._number, self._session = b"", 0, ""
        self.console: list[str] = []
        self.requests: list[str] = []
        self._events: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self._network(on=False)

    def close(self) -> None:
        """End the browser."""
        os.close(self._out)
        os.close(self._in)
        self._process.terminate()
        self._process.wait()

    def call(self, method: str, **parameters: Any) -> Any:
        """What the browser answers to a command."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]

    def _next(self) -> dict[str, Any]:
        """The next message; events among them are noted."""
        while b"\0" not in self._rest:
            more = os.read(self._in, 1 << 20)
            assert more, "the browser has ended"
            self._rest += more
        one, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(one)
        told = message.get("params", {})
        match message.get("method"):
            case "Runtime.consoleAPICalled":
                self.console.append(" ".join(str(each.get("value", "")) for each in told["args"]))
            case "Runtime.exceptionThrown":
                self.console.append(json.dumps(told["exceptionDetails"]))
            case "Log.entryAdded":
                self.console.append(told["entry"]["text"])
            case "Network.requestWillBeSent":
                self.requests.append(told["request"]["url"])
            case None:
                pass
            case other:
                self._events.append(other)
        return message

    def _network(self, *, on: bool) -> None:
        rates = dict.fromkeys(("downloadThroughput", "uploadThroughput"), -1 if on else 0)
        self.call("Network.emulateNetworkConditions", offline=not on, latency=0, **rates)

    def _go(self, url: str) -> None:
        self.console, self.requests, self._events = [], [], []
        self.call("Page.navigate", url=url)
        while "Page.loadEventFired" not in self._events:
            self._next()

    def visit(self, url: str) -> None:
        """Show what a server of this machine has there, and let it ask that server for more."""
        self._network(on=True)
        self._go(url)

    def open(self, page: str, file: Path, *, width: int = 1280, height: int = 900, scripts: bool = True) -> None:
        """Show a page from a file; the network is off."""
        file.write_text(page, encoding="utf-8")
        self.call("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self._go(file.as_uri())

    def look(self, expression: str) -> Any:
        """The value of a JavaScript expression, which may be a promise."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def place(self, selector: str) -> tuple[float, float]:
        """Middle of the first element that matches, in the window, into which it is scrolled."""
        node = f"document.querySelector({json.dumps(selector)})"
        self.look(f"{node}.scrollIntoView({{block: 'center', inline: 'center', behavior: 'instant'}})")
        self.look(FRAMES)
        x, y = self.look(f"(box => [box.x + box.width / 2, box.y + box.height / 2])({node}.getBoundingClientRect())")
        return x, y

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        """One event of the mouse."""
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def point(self, selector: str) -> None:
        """Move the mouse there."""
        self.mouse("mouseMoved", *self.place(selector))

    def click(self, selector: str, times: int = 1) -> None:
        """Click there, or double-click."""
        x, y = self.place(selector)
        for count in range(1, times + 1):
            for kind in ("mousePressed", "mouseReleased"):
                self.mouse(kind, x, y, button="left", clickCount=count)
        self.look(FRAMES)

    def type(self, text: str) -> None:
        """Into what has the focus."""
        self.call("Input.insertText", text=text)

    def picture(self, file: Path, *, whole: bool = True) -> Path:
        """A screenshot as PNG."""
        data = self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        file.write_bytes(base64.b64decode(data))
        return file

    def pdf(self, file: Path) -> Path:
        """The page as it is printed on A4."""
        data = self.call("Page.printToPDF", paperWidth=8.27, paperHeight=11.69, printBackground=True)["data"]
        file.write_bytes(base64.b64decode(data))
        return file
