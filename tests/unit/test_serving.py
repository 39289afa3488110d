"""The page of a run as a real server on the loopback interface gives it, while cells are added to a real run folder."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from terminal import Type

from robustcodec.errors import StoreError, UserError
from robustcodec.execution.pace import Notice, Pace
from robustcodec.execution.runner import Runner
from robustcodec.page import serving
from robustcodec.page.serving import Pages, Server, listen, served
from robustcodec.running.grid import Grid
from robustcodec.running.store import Result, Store

GRID = Grid("tiny", ({"codec": ["jpeg:quality=20"], "attack": ["noise"], "seed": [0, 1, 2], "limit": 1,
                      "data": ["photos:size=64"]},))  # fmt: skip


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a finished run: path in the folder → bytes."""
    store = Store(tmp_path_factory.mktemp("whole"))
    store.put_grid(GRID)
    assert Runner(store).run(GRID.cells()).ran == 3
    return {p.relative_to(store.root).as_posix(): p.read_bytes() for p in store.root.rglob("*") if p.is_file()}


@pytest.fixture
def folder(tmp_path: Path, results: dict[str, bytes]) -> Path:
    """A run of three cells, none of which has finished."""
    for name, data in results.items():
        if not name.startswith("cells/"):
            (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "mine" / name).write_bytes(data)
    return tmp_path / "mine"


def cells(results: dict[str, bytes]) -> list[str]:
    return sorted(name for name in results if name.startswith("cells/"))


@pytest.fixture
def server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Answers at once to a change: what rests between two pages has a test of its own."""
    monkeypatch.setattr(serving, "EVERY", 0.0)
    monkeypatch.setattr(serving, "SHARE", 0.0)
    made = Server(listen(), Pages(Store(folder)))
    thread = threading.Thread(target=made.run)
    thread.start()
    yield made
    made.shutdown()
    thread.join(10)
    assert not thread.is_alive()


def ask(
    server: Server, path: str = "/", method: str = "GET", host: str | None = "localhost"
) -> tuple[int, bytes, dict[str, str]]:
    """Status, body and headers."""
    name, port = server.socket.getsockname()
    connection = http.client.HTTPConnection(name, port, timeout=60)
    connection.putrequest(method, path, skip_host=True)
    if host is not None:
        connection.putheader("Host", host)
    connection.endheaders()
    answer = connection.getresponse()
    found = answer.status, answer.read(), dict(answer.getheaders())
    connection.close()
    return found


def state(server: Server) -> tuple[str, str]:
    """Version and status."""
    status, body, _ = ask(server, "/version")
    assert status == 200
    found = json.loads(body)
    return found["version"], found["status"]


def test_the_page_follows_the_cells(server: Server, folder: Path, results: dict[str, bytes]) -> None:
    first, status = state(server)
    assert status == "0 of 3 cells done, 0 failed"
    text = ask(server)[1].decode()
    assert "No cell has finished yet." in text and "robustcodec: mine" in text and status in text
    versions = [first]
    for i, name in enumerate(cells(results)[:2], 1):
        (folder / "cells").mkdir(exist_ok=True)
        (folder / name).write_bytes(results[name])
        version, status = state(server)
        assert status == f"{i} of 3 cells done, 0 failed"
        versions.append(version)
        text = ask(server)[1].decode()
        assert f'data-version="{version}"' in text and f"<output>{status}</output>" in text
        assert "jpeg:quality=20" in text and "No cell has finished yet." not in text
    assert len(set(versions)) == 3
    assert state(server)[0] == versions[-1]


def test_only_two_paths_and_two_methods(server: Server) -> None:
    status, body, headers = ask(server)
    assert status == 200 and headers["Content-Type"] == "text/html; charset=utf-8" and b"</html>" in body
    assert headers["Cache-Control"] == "no-store" and headers["X-Content-Type-Options"] == "nosniff"
    for path in ("/x", "/index.html", "/../grid.toml", "/cells/", "http://127.0.0.1/", "/version/"):
        assert ask(server, path)[0] == 404, path
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert ask(server, method=method)[0] == 501, method


@pytest.mark.parametrize("path", ["/", "/version", "/x"])
def test_head_is_get_without_the_body(server: Server, path: str) -> None:
    (status, body, headers), (of_head, nothing, same) = ask(server, path), ask(server, path, "HEAD")
    assert (of_head, nothing) == (status, b"")
    assert int(same["Content-Length"]) == int(headers["Content-Length"]) == len(body)


def test_other_names_are_refused(server: Server) -> None:
    """A page elsewhere whose name is made to point here cannot read the results (DNS rebinding)."""
    port = server.socket.getsockname()[1]
    for host in ("localhost", "LOCALHOST", "127.0.0.1", f"localhost:{port}", f"127.0.0.1:{port}", "localhost:80"):
        assert ask(server, "/version", host=host)[0] == 200, host
    for foreign in (None, "", "evil.example", f"evil.example:{port}", "localhost.evil.example",
                 "127.0.0.1.evil.example", "localhost:80:80", "evil@localhost", "0.0.0.0", "localhost:"):  # fmt: skip
        assert ask(server, "/version", host=foreign)[0] == 403, foreign


def test_only_this_machine_is_listened_to(server: Server) -> None:
    assert server.socket.getsockname()[0] == "127.0.0.1"
    taken = server.socket.getsockname()[1]
    with pytest.raises(UserError, match=f"cannot listen on 127.0.0.1:{taken}.*--port"):
        listen(taken)


def test_half_a_file_breaks_nothing(server: Server, folder: Path, results: dict[str, bytes]) -> None:
    one, two, three = cells(results)
    (folder / "cells").mkdir(exist_ok=True)
    (folder / one).write_bytes(results[one])
    first, _ = state(server)
    (folder / two).write_bytes(results[two][:100])
    (folder / "cells" / ".x.json.1.part").write_bytes(b"{")
    version, status = state(server)
    assert status == "1 of 3 cells done, 0 failed, 1 unreadable"
    assert ask(server)[0] == 200
    (folder / two).write_bytes(results[two])
    (folder / three).write_bytes(results[three])
    whole, status = state(server)
    assert status == "3 of 3 cells done, 0 failed" and whole not in (first, version)


def test_what_cannot_be_shown_is_said_and_the_old_page_stays(
    server: Server, folder: Path, results: dict[str, bytes]
) -> None:
    (folder / "cells").mkdir(exist_ok=True)
    for name in cells(results)[:1]:
        (folder / name).write_bytes(results[name])
    before, _ = state(server)
    log = (folder / "log.jsonl").read_text()
    (folder / "log.jsonl").write_text(log + '{"cell": "ab')  # a line that is being written
    (folder / cells(results)[1]).write_bytes(results[cells(results)[1]])
    version, status = state(server)
    if "cannot be shown" in status:  # whether a page needs the log is its own affair
        assert version == before and ask(server)[0] == 200
    (folder / "log.jsonl").write_text(log)
    (folder / "grid.toml").rename(folder / "away.toml")
    _, status = state(server)
    assert "cannot be shown" in status and "no grid.toml" in status and ask(server)[0] == 200
    (folder / "away.toml").rename(folder / "grid.toml")
    version, status = state(server)
    assert status == "2 of 3 cells done, 0 failed" and version != before


def test_failures_are_counted_and_shown(server: Server, folder: Path, results: dict[str, bytes]) -> None:
    store = Store(folder)
    for cell in store.grid().cells()[:2]:
        store.put(Result(cell.id, cell, "error", error="Traceback\nValueError: <img src=x>\n"))
    version, status = state(server)
    assert status == "0 of 3 cells done, 2 failed"
    text = ask(server)[1].decode()
    assert text.count("ValueError: &lt;img src=x&gt;") == 2 and "<img" not in text
    done = store.grid().cells()[0]
    (folder / "cells" / f"{done.id}.json").write_bytes(results[f"cells/{done.id}.json"])
    assert state(server)[1] == "1 of 3 cells done, 1 failed"


def test_a_grid_that_grows_is_noticed(server: Server, folder: Path, results: dict[str, bytes]) -> None:
    assert state(server)[1] == "0 of 3 cells done, 0 failed"
    Store(folder).put_grid(replace(GRID, blocks=({**GRID.blocks[0], "seed": [0, 1, 2, 3, 4]},)))
    assert state(server)[1] == "0 of 5 cells done, 0 failed"


def test_pages_are_not_made_more_often_than_that(
    folder: Path, results: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "EVERY", 1000.0)
    pages = Pages(Store(folder))
    before = pages.current()
    (folder / "cells").mkdir(exist_ok=True)
    for name in cells(results):
        (folder / name).write_bytes(results[name])
    assert pages.current() is before
    monkeypatch.setattr(serving, "EVERY", 0.0)
    pages._next = 0.0
    assert pages.current() is not before and pages.status == "3 of 3 cells done, 0 failed"
    last = pages.current()
    pages._next = 0.0
    assert pages.current() is last  # nothing changed


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="not a run folder"):
        Pages(Store(tmp_path))


POLICY = (
    "<html><head><meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; script-src 'sha256-abc=' "
    "blob:; connect-src 'none'; img-src data:\"></head><body><script>'</body>'</script>text</body></html>"
)


def policy(text: str) -> dict[str, list[str]]:
    (found,) = re.findall('Content-Security-Policy" content="([^"]*)"', text)
    parts = [part.split() for part in found.replace("&#x27;", "'").split(";")]
    return {name: sources for name, *sources in parts}


def test_the_policy_allows_the_script_and_this_server_alone() -> None:
    text = served(serving._version(POLICY), "1 < 2").decode()
    ours = text[text.rindex("<script>") + len("<script>") : text.rindex("</script>")]
    digest = base64.b64encode(hashlib.sha256(ours.encode()).digest()).decode()
    assert policy(text) == {
        "default-src": ["'none'"],
        "script-src": ["'sha256-abc='", "blob:", f"'sha256-{digest}'"],
        "connect-src": ["'self'"],
        "img-src": ["data:"],
    }
    assert text.index("'</body>'") < text.index('text<p id="served"')
    assert "<output>1 &lt; 2</output>" in text and text.endswith("</body></html>")
    lax = POLICY.replace("'sha256-abc='", "'unsafe-inline'")  # which a hash beside it would switch off
    assert policy(served(serving._version(lax), "").decode())["script-src"] == ["'unsafe-inline'", "blob:"]
    assert b"Content-Security" not in served(serving._version("<body>x</body>"), "")


@contextmanager
def started(*words: str | Path) -> Iterator[subprocess.Popen[str]]:
    """A command in a process of its own, which is gone at the end."""
    command = [sys.executable, "-u", "-X", "faulthandler", "-m", "robustcodec", *map(str, words)]
    wide = os.environ | {"COLUMNS": "200"}
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell starts what is in its background deaf to it
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=wide, preexec_fn=heard
    ) as process:
        try:
            yield process
        except (TimeoutError, ConnectionError):
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            for pid in [*map(int, children.read_text().split()), process.pid] if children.exists() else ():
                os.kill(pid, signal.SIGABRT)  # faulthandler then says where each of its threads is
                time.sleep(1)
            process.kill()
            raise AssertionError(f"it does not answer; it said: {process.communicate()[0]}") from None
        finally:
            process.kill()


def address(process: subprocess.Popen[str]) -> tuple[str, int]:
    """Where the command says that it listens."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if found := re.search(r"http://([\d.]+):(\d+)/", line):
            return found[1], int(found[2])
    raise AssertionError(f"no address was printed: {lines}")


def ended(process: subprocess.Popen[str], by: signal.Signals) -> str:
    """Its output. A Ctrl-C that arrives inside a destructor is lost, as everywhere in Python: people press it again."""
    for _ in range(12):
        process.send_signal(by)
        try:
            return process.communicate(timeout=10)[0]
        except subprocess.TimeoutExpired:
            continue
    raise AssertionError(f"{by.name} did not end it")


def status_at(at: tuple[str, int]) -> str:
    with closing(http.client.HTTPConnection(*at, timeout=60)) as connection:
        connection.request("GET", "/version")
        return str(json.loads(connection.getresponse().read())["status"])


def test_the_page_says_how_fast_a_run_goes(server: Server) -> None:
    notice = Notice(server.pages.store.paces)
    notice.put_up(Pace(12, {"cpu": 34.0}, 40.0))
    said = "0 of 3 cells done, 0 failed; 12 units, cpu 34 samples/min, about 40 s left"
    assert state(server)[1] == said and said in ask(server)[1].decode()
    notice.take_down()
    assert state(server)[1] == "0 of 3 cells done, 0 failed"


def test_watch_ends_cleanly_with_ctrl_c(folder: Path) -> None:
    with started("report", folder, "--watch") as process:
        assert status_at(address(process)) == "0 of 3 cells done, 0 failed"
        out = ended(process, signal.SIGINT)
        assert process.returncode == 0 and "Traceback" not in out, out


RUN = ("run", "--codec", "jpeg:quality=20", "--data", "photos:size=64", "--limit", "1", "--serve")


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_a_run_serves_itself_until_it_ends(tmp_path: Path, end: signal.Signals) -> None:
    """Also when it is killed: nobody is left to listen."""
    with started(*RUN, "--attack", "random-search:queries=1000000", "--out", tmp_path) as process:
        at = address(process)
        assert status_at(at).startswith("0 of 1 cell done, 0 failed")
        out = ended(process, end)
        assert process.returncode == (130 if end is signal.SIGINT else -end), out
        assert "Traceback" not in out
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(at, timeout=5).close()
            except ConnectionRefusedError:
                break
            assert time.monotonic() < deadline, "somebody still listens"
            time.sleep(0.2)


def test_a_run_that_served_itself_says_where_its_page_is(robust: Type, tmp_path: Path) -> None:
    done = robust(*RUN, "--attack", "noise", "--out", tmp_path)
    assert done.code == 0, done.err
    said = "".join(done.out.split())
    assert "watchathttp://127.0.0.1:" in said and f"itspagestays:{tmp_path / serving.PAGE}" in said
    assert (tmp_path / serving.PAGE).is_file()


def test_a_port_in_use_is_said(robust: Type, folder: Path) -> None:
    with listen() as taken:
        done = robust("report", folder, "--watch", "--port", str(taken.getsockname()[1]))
    assert done.code == 2 and "cannot listen" in done.err
    done = robust("report", folder, "--watch", "--json")
    assert done.code == 2 and "exclude each other" in done.err
