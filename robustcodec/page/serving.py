"""The page of a run while it runs, on this machine alone: ``http://127.0.0.1:PORT/`` follows the finished cells.

What is served is the page that ``robustcodec report`` writes, with a line about progress and a script that asks
``/version`` whether there is a newer one. Nothing is computed unless somebody looks.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from robustcodec import page
from robustcodec.errors import StoreError, UserError, counted
from robustcodec.execution.children import Child
from robustcodec.execution.pace import lately
from robustcodec.files import Stamp, stamp
from robustcodec.running.grid import Cell
from robustcodec.running.store import Store

HERE = "127.0.0.1"
_NAMES = r"(?i:localhost|127\.0\.0\.1)(:\d+)?"  # any port: a tunnel has its own
EVERY = 3.0  # seconds at least between two pages …
SHARE = 4.0  # … and so many times what the last one took to make, for attacks need the processor more
PAGE = "report/index.html"  # in the run folder: what stays when nobody serves it

_BAR = """<p id="served" data-version="{version}" style="margin:0;padding:.5rem 1rem;border-bottom:1px solid">
<output>{status}</output> <label><input type="checkbox" checked> follow</label></p>
<script>{script}</script>
"""
_SCRIPT = """(() => {
  const bar = document.getElementById("served");
  const [said, follow] = ["output", "input"].map((tag) => bar.querySelector(tag));
  document.body.prepend(bar);
  follow.checked = sessionStorage.getItem("served-still") === null;
  follow.addEventListener("change", () =>
    follow.checked ? sessionStorage.removeItem("served-still") : sessionStorage.setItem("served-still", "yes"));
  const left = sessionStorage.getItem("served-at");
  sessionStorage.removeItem("served-at");
  const back = (tries) => tries && (document.body.dataset.ready ? scrollTo(0, left) : setTimeout(back, 50, tries - 1));
  if (left) back(100);
  async function look() {
    try {
      const now = await (await fetch("/version", { cache: "no-store" })).json();
      said.textContent = now.status;
      if (follow.checked && now.version !== bar.dataset.version) {
        sessionStorage.setItem("served-at", scrollY);
        location.reload();
        return;
      }
    } catch {
      said.textContent = "Nobody serves this page any more; what is known now is in the run folder, %s.";
    }
    setTimeout(look, 2000);
  }
  setTimeout(look, 500);
})();""".replace("%s", PAGE)
_BARE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<style>body {{ font-family: system-ui, sans-serif; margin: 0 }} main {{ margin: 1rem; max-width: 45rem }}</style></head>
<body><main><h1>{title}</h1><p>{message}</p>{failures}</main></body></html>
"""


@dataclass(frozen=True)
class RunProgress:
    """How far a run is, in cells; ``unreadable``: their files are damaged, or of another release."""

    total: int
    done: int
    failed: tuple[str, ...]  # cells, with the last line of their errors
    unreadable: int

    def __str__(self) -> str:
        parts = [f"{self.done} of {counted(self.total, 'cell')} done", f"{len(self.failed)} failed"]
        return ", ".join([*parts, *([f"{self.unreadable} unreadable"] if self.unreadable else [])])


@dataclass(frozen=True)
class Page:
    """What is served: its bytes, and a version that changes with what it shows."""

    data: bytes
    version: str


class Pages:
    """The pages of a run folder, made again when its cells have changed. Threads may share it.

    Raises :class:`UserError` for a folder that holds no run, or whose cells cannot be identified here.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._lock = threading.Lock()
        self._grid: Stamp | None = None
        self._cells: list[Cell] = []
        self._seen: dict[str, Stamp] = {}  # by cell id: of its file
        self._errors: dict[str, str | None] = {}  # by cell id: its error; None: it succeeded
        self._shown: dict[str, Stamp] | None = None
        self._next = 0.0
        self._page: Page | None = None
        self._trouble = ""
        self._look()

    @property
    def progress(self) -> RunProgress:
        """As of when :meth:`current` was last asked."""
        errors = dict(self._errors)
        failed = tuple(f"{cell}: {why}" for cell in self._cells if (why := errors.get(cell.id)) is not None)
        return RunProgress(len(self._cells), len(errors) - len(failed), failed, len(self._seen) - len(errors))

    @property
    def status(self) -> str:
        """:attr:`progress` in words, how fast it goes, and why what is shown is older than that, if it is."""
        pace = lately(self.store.paces)
        return "; ".join(filter(None, [str(self.progress), str(pace or ""), self._trouble]))

    def current(self) -> Page:
        """The newest page, at once if there is one; a newer one is made if cells have changed and it is time."""
        if self._lock.acquire(blocking=self._page is None):
            try:
                self._refresh()
            finally:
                self._lock.release()
        assert self._page is not None, "the first caller waits for it"
        return self._page

    def _refresh(self) -> None:
        started = time.monotonic()
        if self._page is not None and started < self._next:
            return
        try:
            self._look()
            if self._seen != self._shown:
                shown = dict(self._seen)
                self._page = self._newest()
                self._shown = shown
            self._trouble = ""
        except Exception as error:  # half a file of who copies the folder, or any other: a server goes on, and says so
            self._trouble = f"the newest results cannot be shown ({error or type(error).__name__})"
            self._page = self._page or self._bare("There is nothing to show yet.")
        self._next = time.monotonic() + max(EVERY, SHARE * (time.monotonic() - started))

    def _look(self) -> None:
        """Note which cells have finished."""
        if (grid := stamp(self.store.root / "grid.toml")) != self._grid or grid is None:
            self._cells, self._grid = self.store.grid().cells(), grid
        seen = {
            cell.id: now
            for cell in self._cells
            if (now := stamp(self.store.root / "cells" / f"{cell.id}.json")) is not None
        }
        errors: dict[str, str | None] = {}
        for cell_id in seen:
            try:
                summary = self.store.summary(cell_id)
            except StoreError:  # half written by who copies it, or damaged; looked at again next time
                continue
            if summary is not None:
                errors[cell_id] = (summary.why or "no reason given") if summary.status != "ok" else None
        self._seen, self._errors = seen, errors

    def _newest(self) -> Page:
        if None not in self._errors.values():
            return self._bare("No cell has finished yet.")
        readable = [cell for cell in self._cells if cell.id in self._errors or cell.id not in self._seen]
        return _version(page.render([page.of_run(self.store, readable)], self._title))

    def _bare(self, message: str) -> Page:
        failures = "".join(f"<li>{html.escape(line)}</li>" for line in self.progress.failed)
        failures = f"<h2>Failed</h2><ul>{failures}</ul>" if failures else ""
        return _version(_BARE.format(title=html.escape(self._title), message=html.escape(message), failures=failures))

    @property
    def _title(self) -> str:
        return f"robustcodec: {self.store.root.resolve().name}"


def _version(text: str) -> Page:
    data = text.encode()
    return Page(data, hashlib.sha256(data).hexdigest()[:16])


def served(whole: Page, status: str) -> bytes:
    """A page as it is served: with the line about progress and the script that follows it, which its content security
    policy then allows to run and to ask this server.
    """
    text = whole.data.decode()
    bar = _BAR.format(version=whole.version, status=html.escape(status), script=_SCRIPT)
    head, end, tail = text.rpartition("</body>")
    return (_allowing(head) + bar + end + tail).encode()


def _allowing(head: str) -> str:
    """``head`` with a content security policy, if it has one, that also allows the script and connections to us."""
    policy_tag = re.search(r'(<meta http-equiv="Content-Security-Policy" content=")([^"]*)(">)', head)
    if policy_tag is None:
        return head
    digest = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    policy = dict((part.split(None, 1) + [""])[:2] for part in html.unescape(policy_tag[2]).split(";") if part.strip())
    policy["connect-src"] = "'self'"
    if "'unsafe-inline'" not in policy.get("script-src", ""):
        policy["script-src"] = f"{policy.get('script-src', '')} 'sha256-{digest}'".strip()
    allowed = html.escape("; ".join(f"{name} {sources}".strip() for name, sources in policy.items()), quote=True)
    return head[: policy_tag.start(2)] + allowed + head[policy_tag.end(2) :]


class _Handler(BaseHTTPRequestHandler):
    server: Server
    server_version, sys_version = "robustcodec", ""
    protocol_version = "HTTP/1.1"
    timeout = 30  # seconds until an idle connection is closed

    def do_GET(self) -> None:
        if not re.fullmatch(_NAMES, self.headers.get("Host", "")):  # a foreign name that was made to point here
            self._answer(HTTPStatus.FORBIDDEN, "text/plain", b"only for this machine: use http://127.0.0.1\n")
        elif self.path == "/":
            whole = self.server.pages.current()
            self._answer(HTTPStatus.OK, "text/html", served(whole, self.server.pages.status))
        elif self.path == "/version":
            version = self.server.pages.current().version
            state = {"version": version, "status": self.server.pages.status}
            self._answer(HTTPStatus.OK, "application/json", json.dumps(state).encode())
        else:
            self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"nothing is here; the page is at /\n")

    do_HEAD = do_GET

    def _answer(self, status: HTTPStatus, kind: str, data: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a request every two seconds is no news."""


class Server(ThreadingHTTPServer):
    """Answers on a socket of :func:`listen`: ``/`` and ``/version``, GET and HEAD, asked for as this machine."""

    daemon_threads = True

    def __init__(self, listener: socket.socket, pages: Pages) -> None:
        super().__init__(listener.getsockname(), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket, self.pages = listener, pages

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing for a browser that went away; anything else is ours, and is shown."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    def run(self) -> None:
        """Serve until :meth:`shutdown` or Ctrl-C."""
        try:
            self.serve_forever()
        except KeyboardInterrupt:
            pass
        finally:
            self.server_close()


def listen(port: int = 0) -> socket.socket:
    """A socket on the loopback interface that accepts connections; 0: any free port. Raises :class:`UserError`."""
    try:
        return socket.create_server((HERE, port))
    except OSError as error:
        raise UserError(
            f"cannot listen on {HERE}:{port} ({error.strerror}); give another --port, or 0 for any that is free"
        ) from None


def address(listener: socket.socket) -> str:
    """What to type into a browser."""
    return f"http://{HERE}:{listener.getsockname()[1]}/"


@contextmanager
def beside(folder: Path, listener: socket.socket) -> Iterator[None]:
    """Serve a run folder from a process of its own, of low priority, which ends with the block or with this process."""
    child = Child(f"{__name__}:work", folder, listener.fileno(), files=[listener.fileno()])
    listener.close()  # it has its own: should it end, browsers are refused at once rather than kept waiting
    try:
        yield
    finally:
        child.end()


def work(folder: Path, listener: int):  # type: ignore[no-untyped-def]
    """What such a process does: it serves in a thread, and has no answers."""
    import torch

    torch.set_num_threads(1)
    pages = Pages(Store(folder))
    pages.current()
    if hasattr(os, "nice"):  # only now: against attacks on every core it would take minutes to start
        os.nice(5)
    threading.Thread(target=Server(socket.socket(fileno=listener), pages).run, daemon=True).start()
    return lambda message, say: None
