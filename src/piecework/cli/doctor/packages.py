"""What is installed of what piecework needs and of what it can use."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib import metadata

from piecework.cli.doctor.finding import Finding, ok, wrong

OPTIONAL = ("numpy", "joblib", "psutil", "threadpoolctl")


def findings() -> Iterator[Finding]:
    yield from _needed()
    found = [f"{name} {version}" for name in OPTIONAL if (version := _version(name))]
    yield ok("packages", f"of use where installed: {', '.join(found) or 'none is'}")
    yield ok("nats-server", _server())


def _needed() -> Iterator[Finding]:
    try:
        wanted = metadata.requires("piecework") or []
    except metadata.PackageNotFoundError:
        yield ok("packages", "piecework runs from its source, without being installed")
        return
    there = []
    for line in wanted:
        if "extra ==" in line:
            continue
        name, least = _least(line)
        version = _version(name)
        if not version:
            yield wrong("packages", f"{name} is missing", f"pip install '{name}>={least}'")
        elif _numbers(version) < _numbers(least):
            text = f"{name} {version} is older than {least}"
            yield wrong("packages", text, f"pip install '{name}>={least}'")
        else:
            there.append(f"{name} {version}")
    yield ok("packages", f"piecework {_version('piecework')} with {', '.join(there)}")


def _least(requirement: str) -> tuple[str, str]:
    """The name and the oldest version that will do."""
    match = re.match(r"\s*([\w.-]+)[^>]*(?:>=\s*([\w.]+))?", requirement)
    return (match[1], match[2] or "0") if match else (requirement, "0")


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)[:3]]


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _server() -> str:
    path = shutil.which("nats-server")
    if path is None:
        return "not installed, and not needed on one machine"
    try:
        done = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        return f"{path}, which does not say its version: {error}"
    return f"{done.stdout.strip().removeprefix('nats-server: ')} at {path}"
