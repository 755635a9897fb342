"""A Prometheus of the tests' own: the real program, scraping what a test names, several times a second."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import httpx2

from tests import monitoring
from tests.services import PrivateServer, find_program
from tests.web import web_client

SCRAPES_PER_S = 4


class PrivatePrometheus(PrivateServer):
    """Prometheus with our own configuration and alerts, changed only in whom it scrapes and how often."""

    def __init__(self, target: str) -> None:
        """Scrape ``target`` (HOST:PORT); nothing is started."""
        super().__init__("prometheus")
        text = monitoring.CONFIGURATION.read_text(encoding="utf-8").replace("127.0.0.1:8080", target)
        text = re.sub(r"_interval: 15s", f"_interval: {1_000 // SCRAPES_PER_S}ms", text)
        self._write("prometheus.yml", text)
        shutil.copyfile(monitoring.ALERTS, self.folder / "alerts.yml")

    def command(self) -> list[str]:
        """Return the command that runs the server in the foreground."""
        return [
            find_program("prometheus"),
            f"--config.file={self.folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.folder / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--log.level=warn",
        ]

    def answers(self) -> bool:
        """Say whether the server takes queries."""
        try:
            return httpx2.get(f"{self._url}/-/ready", trust_env=False, timeout=1.0).status_code == 200
        except httpx2.HTTPError:
            return False

    def check(self) -> None:
        """Have promtool check the rules and the configuration; raise ``ServerError`` with what is wrong."""
        self.run(find_program("promtool"), "check", "rules", str(self.folder / "alerts.yml"))
        self.run(find_program("promtool"), "check", "config", str(self.folder / "prometheus.yml"))

    async def query(self, expression: str) -> list[dict[str, Any]]:
        """Evaluate an expression now; return the samples."""
        async with web_client() as client:
            answer = await client.get(f"{self._url}/api/v1/query", params={"query": expression})
        told: dict[str, Any] = answer.json()
        if told["status"] != "success":
            raise ValueError(f"{expression}: {told.get('error')}")
        found: list[dict[str, Any]] = told["data"]["result"]
        return found

    async def alerts(self) -> dict[str, str]:
        """Return how each alert's last evaluation went (``health``), by name."""
        async with web_client() as client:
            answer = await client.get(f"{self._url}/api/v1/rules")
        rules = [rule for group in answer.json()["data"]["groups"] for rule in group["rules"]]
        return {rule["name"]: rule["health"] for rule in rules}

    @property
    def _url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _write(self, name: str, text: str) -> None:
        Path(self.folder / name).write_text(text, encoding="utf-8")
