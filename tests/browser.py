"""A headless Chromium, controlled through chromedriver's protocol: reads what a page logs, requests and measures."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

ARGUMENTS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]


def missing() -> str:
    """Return a message that names the programs which this machine lacks, or an empty string."""
    absent = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"there is no {' and no '.join(absent)} here" if absent else ""


class Browser:
    """One window, `width` pixels wide, with a light or dark colour scheme."""

    def __init__(self, width: int, dark: bool) -> None:
        self.driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, text=True)
        assert self.driver.stdout is not None
        line = next(line for line in self.driver.stdout if "started successfully on port" in line)
        self.address = "http://127.0.0.1:" + line.rsplit("port", 1)[1].strip(" .\n")
        options = {
            "binary": shutil.which("chromium"),
            "args": [*ARGUMENTS, f"--blink-settings=preferredColorScheme={0 if dark else 1}"],
            "mobileEmulation": {"deviceMetrics": {"width": width, "height": 900, "pixelRatio": 1}},
        }
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}
        made = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self.session = f"/session/{made['sessionId']}"

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *error: object) -> None:
        self._ask("DELETE", self.session)
        self.driver.terminate()
        self.driver.wait()

    def open(self, page: Path) -> None:
        self._ask("POST", f"{self.session}/url", {"url": page.as_uri()})

    def run(self, script: str) -> Any:
        return self._ask("POST", f"{self.session}/execute/sync", {"script": script, "args": []})

    def console(self) -> list[str]:
        """Return the messages that the page logged, such as errors."""
        return [entry["message"] for entry in self._ask("POST", f"{self.session}/se/log", {"type": "browser"})]

    def requests(self) -> list[str]:
        """Return every URL that the page requested."""
        entries = self._ask("POST", f"{self.session}/se/log", {"type": "performance"})
        events = [json.loads(entry["message"])["message"] for entry in entries]
        return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]

    def screenshot(self) -> bytes:
        """Return a screenshot of the whole page as PNG."""
        params = {"captureBeyondViewport": True, "format": "png"}
        body = {"cmd": "Page.captureScreenshot", "params": params}
        return base64.b64decode(self._ask("POST", f"{self.session}/goog/cdp/execute", body)["data"])

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        data = json.dumps(body or {}).encode() if method == "POST" else None
        request = urllib.request.Request(self.address + path, data, {"Content-Type": "application/json"}, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=60) as answer:
            return json.loads(answer.read())["value"]
