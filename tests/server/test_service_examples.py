"""The examples of a service are held to the programs that read them, as far as these are on this machine."""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from nni_hyperfd.cli import serve

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "service"
UNIT = FOLDER / "hyperfd.service"


def parsed(arguments: list[str]) -> argparse.Namespace:
    """Options of ``hyperfd serve``; exits where one of them does not exist."""
    parser = argparse.ArgumentParser()
    serve.add_to(parser.add_subparsers())
    return parser.parse_args(arguments)


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("there is no systemd-analyze on this machine")
    # The command must exist for it to be content.
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/opt/hyperfd/bin/hyperfd", sys.executable))
    run = subprocess.run([analyze, "verify", copy], capture_output=True, text=True, check=False)
    if "Operation not permitted" in run.stderr or "Failed to initialize manager" in run.stderr:
        pytest.skip("systemd-analyze does not run here")
    assert (run.returncode, run.stderr) == (0, "")


def test_the_units_command_is_one(tmp_path: Path) -> None:
    text = UNIT.read_text().replace("\\\n", " ")
    (command,) = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
    program, *arguments = shlex.split(command)
    assert Path(program).name == "hyperfd"
    options = parsed(arguments)
    assert options.run is serve.run
    assert {options.tls_cert.name, options.tls_key.name} == set(
        re.findall(r"^LoadCredential=([^:]+):", text, re.MULTILINE)
    )


def test_compose_builds_what_is_there() -> None:
    file = FOLDER / "docker-compose.yml"
    services = yaml.safe_load(file.read_text())["services"]
    build = services["platform"]["build"]
    context = (FOLDER / build["context"]).resolve()
    assert context == ROOT
    docker = (context / build["dockerfile"]).read_text()
    sources = [word for line in re.findall(r"^COPY (.*) \S+$", docker, re.MULTILINE) for word in line.split()]
    assert sources
    assert all((context / source).exists() for source in sources)
    entry, arguments = (
        yaml.safe_load(re.search(rf"^{word} (.*)$", docker, re.MULTILINE)[1])
        for word in ("ENTRYPOINT", "CMD")
    )
    assert entry == ["hyperfd"]
    port = parsed(arguments).port
    assert f"EXPOSE {port}" in docker
    assert f"platform:{port}" in (FOLDER / "Caddyfile").read_text()
    assert services["platform"]["environment"]["HYPERFD_PLATFORM"].startswith("postgresql://")
    assert "ports" not in services["platform"], "only the proxy is reachable"


def test_docker_takes_the_compose_file() -> None:
    docker = shutil.which("docker")
    if (
        docker is None
        or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode
    ):
        pytest.skip("there is no docker compose on this machine")
    environment = {
        "POSTGRES_PASSWORD": "x",
        "PLATFORM_HOST": "localhost",
        "PATH": "/usr/bin:/bin:/usr/local/bin",
    }
    command = [docker, "compose", "-f", FOLDER / "docker-compose.yml", "config", "--quiet"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
