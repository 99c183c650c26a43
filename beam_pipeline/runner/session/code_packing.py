"""Packs on this machine what workers that lack the user's code need: archives, requirements and the main session."""

from __future__ import annotations

import importlib
import io
import os
import pickle
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.parser import BytesParser
from pathlib import Path, PurePosixPath

from apache_beam.options.pipeline_options import PipelineOptions, SetupOptions

from beam_pipeline.runner.beam_internals import pickler

_PROJECT_FILES = ("setup.py", "pyproject.toml")
_PACKAGE_SUFFIXES = (".whl", ".tar.gz", ".tar", ".zip")
# a dated archive, or one that tells where it was built, would differ for equal code
_EPOCH = (1980, 1, 1, 0, 0, 0)
_UNSTABLE = ("direct_url.json", "RECORD", "INSTALLER", "REQUESTED")
_OUTPUT_CHARS = 2000
_SHELL = b'__path__ = __import__("pkgutil").extend_path(__path__, __name__)\n'
_NESTED = re.compile(r"(?:-r\s*|--requirement(?:\s+|=))(?P<file>.+)")
_PATH_OPTION = re.compile(r"(?:-c|--constraint|-e|--editable)(?:[\s=]|$)")

_built: dict[tuple[str, ...], tuple[frozenset[tuple[str, int, int]], bytes]] = {}


@dataclass(frozen=True)
class PackedCode:
    """What the options ask to ship.

    `archive`: a zip of modules as they lie in site-packages, or None.
    `declared`: requirements that the archive's distributions declare; `requirements`: lines of the requirements file.
    `main_session`: pickled (pickle library, dump of the main session or None), or None where neither is asked for.
    """

    archive: bytes | None = None
    declared: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    main_session: bytes | None = None

    def holds(self, package: str) -> bool:
        """Whether the archive has the package of that dotted name."""
        if self.archive is None:
            return False
        with zipfile.ZipFile(io.BytesIO(self.archive)) as opened:
            return f"{package.replace('.', '/')}/__init__.py" in opened.namelist()


def pack_code(options: PipelineOptions) -> PackedCode:
    """Pack what Beam's options ask: setup_file, extra_package, requirements_file, save_main_session, pickle_library.

    A project is built again only when a file of it has changed. Raises ValueError for a file that is missing or cannot
    be shipped, and RuntimeError where the project cannot be built.
    """
    setup = options.view_as(SetupOptions)
    lines, local = _requirements(setup.requirements_file)
    sources = [_project(setup.setup_file)] if setup.setup_file else []
    sources += [_package(path, "--extra_package") for path in setup.extra_packages or ()]
    sources += [_package(path, f"--requirements_file={setup.requirements_file}, line") for path in local]
    archive = _archive(sources) if sources else None
    return PackedCode(
        archive=archive,
        declared=_declared(archive) if archive else (),
        requirements=tuple(lines),
        main_session=_main_session(setup.save_main_session, setup.pickle_library),
    )


def pack_package(name: str) -> bytes:
    """Zip an imported package alone. The packages around it become shells that take in what workers have of them."""
    [folder] = importlib.import_module(name).__path__
    root = Path(folder)
    place = name.replace(".", "/")
    files = {f"{place}/{path.relative_to(root).as_posix()}": path.read_bytes() for path in _code_files(root)}
    for parent in PurePosixPath(place).parents[:-1]:
        files[f"{parent}/__init__.py"] = _SHELL
    return _zip(files)


def _code_files(root: Path) -> Iterator[Path]:
    return (p for p in root.rglob("*") if p.is_file() and "__pycache__" not in p.parts)


def _zip(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, _EPOCH)
            info.external_attr = 0o755 << 16
            archive.writestr(info, files[name], zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _project(file: str) -> Path:
    path = Path(file)
    if path.name not in _PROJECT_FILES:
        raise ValueError(
            f"--setup_file={file} is no project file; name the project's {' or '.join(_PROJECT_FILES)}, "
            "or give a built package with --extra_package"
        )
    if not path.is_file():
        raise ValueError(
            f"--setup_file={file} does not exist (looked in {Path.cwd()}); give the path of the project's {path.name}"
        )
    return path.resolve().parent


def _package(file: str, place: str) -> Path:
    path = Path(file)
    if not path.is_file() or not path.name.endswith(_PACKAGE_SUFFIXES):
        raise ValueError(
            f"{place} {file} is no package file (looked in {Path.cwd()}); "
            f"give the path of a {', '.join(_PACKAGE_SUFFIXES)} on this machine"
        )
    return path.resolve()


def _archive(sources: Sequence[Path]) -> bytes:
    """The sources installed together in a folder, zipped."""
    key = tuple(map(str, sources))
    state = frozenset(_state(source) for root in sources for source in _sources_of(root))
    if key not in _built or _built[key][0] != state:
        _built[key] = (state, _build(sources))
    return _built[key][1]


def _sources_of(root: Path) -> Iterator[Path]:
    if root.is_file():
        yield root
        return
    for folder, folders, files in os.walk(root):
        folders[:] = [f for f in folders if not f.startswith(".") and f != "__pycache__"]
        yield from (Path(folder, name) for name in files)


def _state(path: Path) -> tuple[str, int, int]:
    found = path.lstat()
    return str(path), found.st_mtime_ns, found.st_size


def _build(sources: Sequence[Path]) -> bytes:
    with tempfile.TemporaryDirectory(prefix="beam-ray-code-") as temp:
        target = Path(temp, "site")
        # setuptools would leave its own files in the project, and take in what an earlier build left there
        config = Path(temp, "distutils.cfg")
        config.write_text(f"[build]\nbuild_base={temp}/build\n[egg_info]\negg_base={temp}\n", encoding="utf-8")
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
                *("--no-deps", "--no-index", "--no-build-isolation", "--use-pep517", "--no-compile"),
                *("--target", str(target), *map(str, sources)),
            ],
            env={**os.environ, "DIST_EXTRA_CONFIG": str(config)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(
                f"pip could not build {', '.join(map(str, sources))} for the workers (exit code {done.returncode}); "
                "it must install in this environment with `pip install --no-deps --no-build-isolation`, "
                f"which needs its build backend installed here:\n{(done.stdout + done.stderr)[-_OUTPUT_CHARS:].strip()}"
            )
        files = (path for path in _code_files(target) if path.name not in _UNSTABLE)
        return _zip({path.relative_to(target).as_posix(): path.read_bytes() for path in files})


def _declared(archive: bytes) -> tuple[str, ...]:
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        metadata = [
            BytesParser().parsebytes(opened.read(name), headersonly=True)
            for name in opened.namelist()
            if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)
        ]
    return tuple(line for found in metadata for line in found.get_all("Requires-Dist", ()))


def _requirements(file: str | None) -> tuple[list[str], list[str]]:
    """Lines of a requirements file and those that it includes, and the package files of this machine that they name."""
    if not file:
        return [], []
    path = Path(file)
    if not path.is_file():
        raise ValueError(
            f"--requirements_file={file} does not exist (looked in {Path.cwd()}); give the path of a requirements file"
        )
    lines: list[str] = []
    local: list[str] = []
    for line in re.sub(r"\\\n", "", path.read_text(encoding="utf-8")).splitlines():
        line = re.sub(r"(^|\s)#.*", "", line).strip()
        nested = _NESTED.fullmatch(line)
        if nested:
            more = _requirements(str(path.parent / nested["file"]))
            lines += more[0]
            local += more[1]
        elif _PATH_OPTION.match(line):
            raise ValueError(
                f"--requirements_file={file}, line {line!r} names a file of this machine, which workers lack; "
                "write the versions into the requirements, and give a project with --setup_file"
            )
        elif line.endswith(_PACKAGE_SUFFIXES) and "://" not in line and " @ " not in line:
            local.append(line)
        elif line:
            lines.append(line)
    return lines, local


def _main_session(save: bool | None, library: str) -> bytes | None:
    if not save and library in ("default", pickler.DEFAULT_PICKLE_LIB):
        return None
    pickler.set_library(library)
    if not save:
        return pickle.dumps((library, None))
    with tempfile.TemporaryDirectory(prefix="beam-ray-code-") as temp:
        path = Path(temp, "main_session")
        pickler.dump_session(str(path))
        return pickle.dumps((library, path.read_bytes()))
