"""``examples/loopback_only.cjs`` in the Node.js that NNI itself runs on."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LISTEN = "const s = require('http').createServer(); s.listen({arguments}, () => {{ console.log(JSON.stringify(s.address())); s.close(); }});"


def address(arguments: str, guarded: bool) -> str:
    """Address of a server that Node.js opens with ``listen(arguments)``."""
    package = importlib.util.find_spec("nni_node")
    assert package is not None
    assert package.submodule_search_locations is not None
    node = Path(package.submodule_search_locations[0]) / "node"
    options = f'--require "{ROOT / "examples" / "loopback_only.cjs"}"' if guarded else ""
    run = subprocess.run(
        [node, "-e", LISTEN.format(arguments=arguments)],
        env={**os.environ, "NODE_OPTIONS": options},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    return json.loads(run.stdout)["address"]


def test_nni_would_listen_everywhere_without_it() -> None:
    assert address("0", guarded=False) in ("::", "0.0.0.0")


@pytest.mark.parametrize(("arguments", "expected"), [("0", "127.0.0.1"), ("0, '127.0.0.9'", "127.0.0.9")])
def test_a_server_stays_on_this_machine_unless_it_names_an_address(arguments: str, expected: str) -> None:
    assert address(arguments, guarded=True) == expected
