"""A real JupyterLab on 127.0.0.1 behind a token, its kernel, and a way to wait."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jupyter_client import BlockingKernelClient

REPOSITORY = Path(__file__).parents[2]
START_SECONDS = 60


@dataclass(frozen=True)
class Lab:
    """A running server: where it listens, its token, and the folder it serves."""

    address: str
    token: str
    root: Path

    def page(self, notebook: str) -> str:
        """The address of a notebook, token included."""
        return f"{self.address}/lab/tree/{notebook}?token={self.token}&reset"

    def ask(self, path: str, method: str = "GET", content: Any = None) -> Any:
        """The JSON that the server answers, or None where it has nothing to say."""
        data = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(f"{self.address}/{path}", data, method=method)
        request.add_header("Authorization", f"token {self.token}")
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.loads(answer.read() or "null")

    def session(self, notebook: str) -> Any:
        """What the server knows of a notebook's session; None where it has none."""
        found = (each for each in self.ask("api/sessions") if each["path"] == notebook)
        return next(found, None)

    def begin(self, notebook: str, code: str) -> BlockingKernelClient:
        """Start the kernel that a notebook will have, and let it run some code; waits for neither.

        The connection that is returned has to be kept until the code has run.
        """
        kernel = {"kernel": {"name": "python3"}, "path": notebook, "name": "", "type": "notebook"}
        self.ask("api/sessions", "POST", kernel)
        client = self.client(notebook)
        client.execute(code, silent=True, store_history=False)
        return client

    def end(self, notebook: str) -> None:
        """End a notebook's kernel, without waiting for it."""
        path = f"api/sessions/{self.session(notebook)['id']}"

        def delete() -> None:
            with contextlib.suppress(OSError):  # the server may have ended before
                self.ask(path, "DELETE")

        threading.Thread(target=delete, daemon=True).start()

    def client(self, notebook: str) -> BlockingKernelClient:
        """A connection of our own to a notebook's kernel."""
        name = f"kernel-{self.session(notebook)['kernel']['id']}.json"
        file = self.root / ".jupyter_runtime_dir" / name
        client = BlockingKernelClient(connection_file=str(file))
        client.load_connection_file()
        client.start_channels()
        return client


@contextlib.contextmanager
def running_lab(root: Path, **environment: str) -> Iterator[Lab]:
    """Start JupyterLab with settings of its own, and end it and its kernels afterwards."""
    port, token = _free_port(), secrets.token_hex(16)
    own = {name: str(root / f".{name.lower()}") for name in _FOLDERS}
    settings = Path(own["JUPYTERLAB_SETTINGS_DIR"], "@jupyterlab", "apputils-extension")
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text(
        '{"fetchNews": "false", "checkForUpdates": false}'
    )
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1"]
    command += [f"--port={port}", "--ServerApp.port_retries=0", "--expose-app-in-browser"]
    command += [f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={root}"]
    command += ["--ServerApp.terminals_enabled=False"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")
    log = root / ".lab.log"
    with open(log, "w") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **own, **environment},
            start_new_session=True,
        )
    lab = Lab(f"http://127.0.0.1:{port}", token, root)
    try:
        wait_until("JupyterLab answers", lambda: _answers(lab, process, log), START_SECONDS)
        yield lab
    finally:
        _end(process)


_FOLDERS = (
    "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "JUPYTERLAB_SETTINGS_DIR",
    "JUPYTERLAB_WORKSPACES_DIR", "IPYTHONDIR",
)  # fmt: skip


@contextlib.contextmanager
def kernel_of(lab: Lab, notebook: str) -> Iterator[Callable[[str], Any]]:
    """A connection of our own to a notebook's kernel; gives `evaluate(expression)`.

    It uses a subshell, which answers while a cell is awaiting.
    """
    client = lab.client(notebook)
    try:
        client.control_channel.send(client.session.msg("create_subshell_request"))
        subshell = client.get_control_msg(timeout=20)["content"]["subshell_id"]

        def evaluate(expression: str) -> Any:
            content = {"code": "", "silent": True, "store_history": False, "allow_stdin": False}
            content["user_expressions"] = {"value": f"__import__('json').dumps({expression})"}
            message = client.session.msg("execute_request", content)
            message["header"]["subshell_id"] = subshell
            client.shell_channel.send(message)
            while True:
                reply = client.get_shell_msg(timeout=30)
                if reply["parent_header"]["msg_id"] == message["header"]["msg_id"]:
                    break
            value = reply["content"]["user_expressions"]["value"]
            assert value["status"] == "ok", value
            return json.loads(ast.literal_eval(value["data"]["text/plain"]))

        yield evaluate
    finally:
        client.stop_channels()


def wait_until(what: str, holds: Callable[[], Any], seconds: float = 30.0) -> Any:
    """What `holds` returns, as soon as it is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := holds():
            return found
        time.sleep(0.05)
    raise AssertionError(f"{what}: not seen within {seconds:g} s")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _answers(lab: Lab, process: subprocess.Popen, log: Path) -> bool:
    assert process.poll() is None, f"JupyterLab ended:\n{log.read_text()[-2000:]}"
    with contextlib.suppress(OSError):
        return bool(lab.ask("api/status"))
    return False


def _end(process: subprocess.Popen) -> None:
    """End the server's process group, kernels included."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
            return
