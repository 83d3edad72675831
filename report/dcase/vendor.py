"""Copies modules of the project into a package, with all modules that they import."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[2]
PACKAGES = ("audio", "students")
"""Packages whose modules may be copied; their `__init__` is left behind."""
_IMPORT = re.compile(rf"^(\s*from )({'|'.join(PACKAGES)})\.", re.MULTILINE)


def copy_modules(modules: list[str], prefix: str) -> dict[PurePosixPath, str]:
    """Return the text of each module by its path, with imports that begin with a prefix.

    Args:
        modules: Names of modules of `PACKAGES`, such as `students.isotropic`.
        prefix: The package that they become a part of: `Doe_UNI_task1.models`.

    Raises:
        ValueError: A module imports something of the project that cannot be copied.
    """
    found: dict[str, str] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = find_file(name).read_text(encoding="utf-8")
            waiting += _list_project_modules(name, found[name])
    return {
        PurePosixPath(*name.split(".")).with_suffix(".py"): rewrite_imports(text, prefix)
        for name, text in sorted(found.items())
    }


def rewrite_imports(text: str, prefix: str) -> str:
    """Return the text of a module whose imports of the project begin with a prefix."""
    return _IMPORT.sub(rf"\g<1>{prefix}.\g<2>.", text)


def find_file(name: str) -> Path:
    """Return the file of a module of the project."""
    return ROOT.joinpath(*name.split(".")).with_suffix(".py")


def list_requirements(texts: list[str], package: str) -> list[str]:
    """Return the packages that modules of a package import and that are not Python's own, sorted."""
    names = {name.partition(".")[0] for text in texts for name, _ in _list_imports(text)}
    return sorted(names - set(sys.stdlib_module_names) - {package, *PACKAGES})


def _list_project_modules(importer: str, text: str) -> Iterator[str]:
    for name, is_from in _list_imports(text):
        if name.partition(".")[0] not in PACKAGES:
            continue
        if not is_from or not find_file(name).is_file():
            raise ValueError(
                f"{importer} imports {name}, expected `from {name}.MODULE import`: only modules can be copied"
            )
        yield name


def _list_imports(text: str) -> Iterator[tuple[str, bool]]:
    """Yield what a module imports, and whether it does so by `from`."""
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Import(names=names):
                yield from ((each.name, False) for each in names)
            case ast.ImportFrom(module=str(module)):
                yield module, True
