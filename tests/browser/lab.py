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

    def get(self, path: str) -> Any:
        """The JSON that the server answers."""
        request = f"{self.address}/{path}?token={self.token}"
        with urllib.request.urlopen(request, timeout=5) as answer:
            return json.load(answer)


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
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), **own, **environment},
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
def kernel_of(lab: Lab) -> Iterator[Callable[[str], Any]]:
    """A connection of our own to the notebook's kernel; gives `evaluate(expression)`.

    It uses a subshell, which answers while a cell is awaiting.
    """
    kernel_id = lab.get("api/sessions")[0]["kernel"]["id"]
    runtime = lab.root / ".jupyter_runtime_dir"
    client = BlockingKernelClient(connection_file=str(runtime / f"kernel-{kernel_id}.json"))
    client.load_connection_file()
    client.start_channels()
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
        return bool(lab.get("api/status"))
    return False


def _end(process: subprocess.Popen) -> None:
    """End the server's process group, kernels included."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
            return
