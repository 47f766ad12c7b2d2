"""Build the package, look at what was built, and run tests on it as a user has it: installed, and not the tree.

The wheel is built from the sdist, and the tests run in the unpacked sdist: so it holds all that they need. With
`--oldest` every dependency has the oldest version that `pyproject.toml` allows.

    python tools/check_wheel.py                      # a part of the suite
    python tools/check_wheel.py tests                # all of it
    python tools/check_wheel.py --oldest tests/plan  # with the oldest dependencies
"""

from __future__ import annotations

import argparse
import configparser
import email
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
# What is run when nothing is said: every primitive in both worlds, and all that needs no server.
PART = ("tests/plan", "tests/aio", "tests/blocking")
# What users have no need for: it belongs to the repository.
NOT_IN_SDIST = (".ci/", ".github/", ".gitignore")
SCRIPTS = {
    "console_scripts": {"mongopatterns": "mongopatterns.cli:main"},
    "pytest11": {"mongopatterns": "mongopatterns.testing.plugin"},
}


def lowest(project: dict[str, Any]) -> list[str]:
    """Return the oldest version of each dependency and extra that is allowed, as constraints of an installer.

    Args:
        project: The table `project` of `pyproject.toml`.

    Raises:
        ValueError: If a dependency has no lower bound.
    """
    extras = [each for extra in project["optional-dependencies"].values() for each in extra]
    pins: dict[str, str] = {}
    for requirement in map(Requirement, [*project["dependencies"], *extras]):
        if requirement.name == project["name"]:
            continue
        bounds = [each.version for each in requirement.specifier if each.operator in (">=", "==")]
        if len(bounds) != 1:
            raise ValueError(f"{requirement} has no lower bound, so nobody knows whether it works")
        marker = f" ; {requirement.marker}" if requirement.marker else ""
        pins[f"{requirement.name}{marker}"] = f"{requirement.name}=={bounds[0]}{marker}"
    return list(pins.values())


def wheel_problems(wheel: Path, package: Path, project: dict[str, Any]) -> list[str]:
    """Say what a wheel lacks, and what it has too much of.

    Args:
        wheel: The file.
        package: The folder of the package that it was built from.
        project: The table `project` of `pyproject.toml`.
    """
    with zipfile.ZipFile(wheel) as opened:
        names = [name for name in opened.namelist() if not name.endswith("/")]
        info = f"{project['name']}-{project['version']}.dist-info"
        texts = {name: opened.read(name).decode() for name in names if name.startswith(f"{info}/")}
    wanted = {
        f"{package.name}/{each.relative_to(package).as_posix()}"
        for each in package.rglob("*")
        if each.is_file() and "__pycache__" not in each.parts
    }
    found = {name for name in names if not name.startswith(f"{info}/")}
    problems = [f"the wheel lacks {name}" for name in sorted(wanted - found)]
    problems += [f"the wheel holds {name}" for name in sorted(found - wanted)]
    problems += [
        f"{name} is not there" for name in ("py.typed", "__init__.pyi") if f"{package.name}/{name}" not in found
    ]
    if not wheel.name.endswith("-py3-none-any.whl"):
        problems.append(f"{wheel.name} is not for every machine")
    if not texts.get(f"{info}/licenses/LICENSE", "").strip():
        problems.append("the wheel has no licence")
    scripts = configparser.ConfigParser()
    scripts.read_string(texts.get(f"{info}/entry_points.txt", ""))
    if {name: dict(section) for name, section in scripts.items() if section} != SCRIPTS:
        problems.append("the entry points are not those of the command and the plugin")
    return problems + _metadata_problems(texts.get(f"{info}/METADATA", ""), project)


def _metadata_problems(text: str, project: dict[str, Any]) -> list[str]:
    metadata = email.message_from_string(text)
    wanted = {
        "Name": project["name"],
        "Version": project["version"],
        "Requires-Python": project["requires-python"],
        "License-Expression": project["license"],
    }
    problems = [f"{key} is {metadata[key]!r}" for key, value in wanted.items() if metadata[key] != value]
    if set(metadata.get_all("Provides-Extra", [])) != set(project["optional-dependencies"]):
        problems.append("the extras are not those of the project")
    if not str(metadata.get_payload()).startswith(f"# {project['name']}"):
        problems.append("the long description is not the README")
    return problems


def sdist_problems(names: Iterable[str], tracked: Iterable[str]) -> list[str]:
    """Say which files of the repository a sdist lacks.

    Args:
        names: What is in it, below its first folder.
        tracked: What is in the repository.
    """
    there = set(names)
    return [
        f"the sdist lacks {name}" for name in sorted(tracked) if not name.startswith(NOT_IN_SDIST) and name not in there
    ]


def _run(*command: str | Path, cwd: Path = ROOT, env: dict[str, str] | None = None) -> None:
    subprocess.run(command, cwd=cwd, env=env, check=True)


def _tracked() -> list[str]:
    """List what is in the repository, and is there; nothing where there is none."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    return [name for name in done.stdout.split("\0") if name and (ROOT / name).exists()]


def _install(python: Path, *what: str | Path) -> None:
    """Install with uv where it is, which is quicker, and else with pip."""
    installer = ["uv", "pip", "install", "--python", python] if shutil.which("uv") else [python, "-m", "pip", "install"]
    _run(*installer, "--quiet", *what)


def build(target: Path, project: dict[str, Any]) -> tuple[Path, Path]:
    """Build the sdist, and from it the wheel; return both."""
    _run(sys.executable, "-m", "build", "--outdir", target)
    stem = f"{project['name']}-{project['version']}"
    return target / f"{stem}.tar.gz", target / f"{stem}-py3-none-any.whl"


def unpacked(sdist: Path, target: Path) -> Path:
    """Unpack a sdist, and return its folder."""
    with tarfile.open(sdist) as opened:
        for member in opened.getmembers():
            if PurePosixPath(member.name).is_absolute() or ".." in PurePosixPath(member.name).parts:
                raise ValueError(f"{member.name} leads out of the sdist")
        opened.extractall(target)  # noqa: S202  # (it was built a moment ago, and looked at)
    return target / sdist.name.removesuffix(".tar.gz")


def main(arguments: Sequence[str] | None = None) -> int:
    """Build, look, install and test; return the status of the process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--oldest", action="store_true", help="install the oldest dependencies that are allowed")
    parser.add_argument("--python", default=sys.executable, help="the interpreter that runs the tests")
    told, rest = parser.parse_known_args(arguments)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    with tempfile.TemporaryDirectory(prefix="mongopatterns-wheel-") as folder:
        place = Path(folder)
        sdist, wheel = build(ROOT / "dist", project)
        tree = unpacked(sdist, place)
        names = [each.relative_to(tree).as_posix() for each in tree.rglob("*") if each.is_file()]
        problems = sdist_problems(names, _tracked()) + wheel_problems(wheel, tree / "src" / "mongopatterns", project)
        if problems:
            print(*problems, sep="\n", file=sys.stderr)
            return 1
        print(f"{sdist.name} and {wheel.name} hold what they should ({len(names)} files in the sdist)", flush=True)
        return _test(place / "venv", tree, wheel, told, rest)


def _test(venv: Path, tree: Path, wheel: Path, told: argparse.Namespace, rest: list[str]) -> int:
    _run(told.python, "-m", "venv", venv)
    python = venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    constraints = tree / "constraints.txt"
    project = tomllib.loads((tree / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    # (an old typing-extensions goes with an old anyio only, and its plugin with an old pytest)
    constraints.write_text("\n".join([*lowest(project), "pytest<9"] if told.oldest else []))
    # (the whole group of developers: the suite also runs the tools that check the types and build the pages)
    group = f"{tree / 'pyproject.toml'}:dev"
    _run(python, "-m", "pip", "install", "--quiet", "--upgrade", "pip>=25.1")
    _install(python, "--constraint", constraints, f"{wheel}[demo]", "--group", group)
    named = {_normal(re.split(r"[^\w.-]", pin)[0]) for pin in lowest(project)}
    installed = _output_of(python, "-m", "pip", "freeze").splitlines()
    versions = [line for line in installed if _normal(line.partition("==")[0]) in named]
    print(_output_of(python, "--version"), *versions, sep=", ", flush=True)
    where = rest if any((tree / each.partition("::")[0]).exists() for each in rest) else [*rest, *PART]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"MONGOPATTERNS_INSTALLED_IN": str(venv), "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"}
    if told.oldest:
        # Old releases use what newer ones of others have deprecated since.
        environment["PYTEST_ADDOPTS"] = "-W ignore::DeprecationWarning"
    command = [python, "-m", "pytest", "-q", "--numprocesses=4", "--dist=worksteal", *where]
    return subprocess.run(command, cwd=tree, env=environment, check=False).returncode


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _output_of(*command: str | Path) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
