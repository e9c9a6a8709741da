"""Finding schemes: by name (entry points of the group `rmapbox.schemes`) or as `path/to/file.py:Class`."""

from __future__ import annotations

import difflib
import functools
import importlib
import importlib.util
import inspect
import pkgutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mmcore.errors import PluginError
from mmcore.rmap.scheme import Card, RmapScheme, ScanScheme, WalkScheme

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint
    from types import ModuleType

GROUP = "rmapbox.schemes"
_BUNDLED = "rmap_plugins"
FILE_MODULE = "rmapbox_scheme_"
"""How the modules of schemes given as a file are named."""


@functools.cache
def _bundled() -> dict[str, str]:
    """module:Class of the schemes beside us, for a checkout that is run without being installed."""
    spec = importlib.util.find_spec(_BUNDLED)
    if spec is None or spec.submodule_search_locations is None:
        return {}
    names = sorted(m.name for m in pkgutil.iter_modules(spec.submodule_search_locations) if not m.name.startswith("_"))
    return {name: f"{_BUNDLED}.{name}" for name in names}


def _installed() -> list[EntryPoint]:
    """What other packages offer. Asked only when no bundled scheme has the name: reading every package's metadata takes
    as long as booting."""
    from importlib.metadata import entry_points

    return sorted(entry_points(group=GROUP), key=lambda e: e.value)


def scheme_names() -> list[str]:
    """Every scheme that can be had by name, sorted."""
    return sorted({*(e.name for e in _installed()), *_bundled()})


def names_file(name: str) -> bool:
    """Does `name` stand for a file, not for a scheme that is known by its name?"""
    return name.endswith(".py") or ".py:" in name or "/" in name


def load_scheme(name: str) -> type[RmapScheme]:
    """The class of a scheme. Raises PluginError with the remedy in it."""
    if names_file(name):
        return _from_file(name)
    module = _bundled().get(name)
    if module is not None:
        return _checked(_only_scheme(importlib.import_module(module), name), name)
    for entry in _installed():
        if entry.name == name:
            try:
                return _checked(entry.load(), name)
            except (PluginError, KeyboardInterrupt):
                raise
            except BaseException as error:
                raise PluginError(
                    f"scheme {name!r}: its package cannot be loaded ({entry.value}): {_one_line(error)}"
                ) from error
    raise _unknown(name)


def check_name(name: str) -> None:
    """Raises the PluginError of `load_scheme` for a name that no scheme has. A file is left to `load_scheme`."""
    if not names_file(name) and name not in _bundled() and name not in scheme_names():
        raise _unknown(name)


def _unknown(name: str) -> PluginError:
    known = scheme_names()
    base, colon, rest = name.partition(":")
    if colon and base in known:
        return PluginError(f"scheme {name!r}: {rest!r} is not an option: write {base}:key=value")
    close = difflib.get_close_matches(name, known, 1, 0.6)
    hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"
    return PluginError(f"no reverse-mapping scheme is called {name!r}; {hint}")


def _from_file(name: str) -> type[RmapScheme]:
    path_text, _, class_name = name.partition(".py:")
    if name.endswith(".py"):
        path_text = name
    elif ".py:" not in name:
        raise PluginError(f"scheme {name!r}: not a Python file; give path/to/file.py:Class")
    path = Path(path_text if path_text.endswith(".py") else path_text + ".py")
    if not path.is_file():
        raise PluginError(f"scheme {name!r}: there is no file {path}; give path/to/file.py:Class")
    module_name = FILE_MODULE + "".join(c if c.isalnum() else "_" for c in str(path.resolve()))
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    directory = str(path.resolve().parent)
    _make_importable(directory)
    try:
        spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except (
        BaseException
    ) as error:  # SystemExit too: a scheme file that ends the command must not look like a run that went well
        why = _earlier_card(error) or _one_line(error)
        raise PluginError(f"scheme {name!r}: {path} cannot be loaded: {why}") from error
    if not class_name:
        return _checked(_only_scheme(module, name), name)
    found = getattr(module, class_name, None)
    if found is None:
        classes = [n for n, c in inspect.getmembers(module, inspect.isclass) if c.__module__ == module_name]
        close = difflib.get_close_matches(class_name, classes, 1, 0.3)
        raise PluginError(
            f"scheme {name!r}: {path} has no class {class_name}" + (f"; did you mean {close[0]}?" if close else "")
        )
    return _checked(found, name)


_plugin_directories: list[str] = []
"""Directories of schemes given as a file, which stand at the end of sys.path; the newest comes first."""


def _make_importable(directory: str) -> None:
    """The file may import modules beside it, now and while it runs. Ours and installed ones of the same name come
    first.

    What an earlier scheme's file imported from its own directory does not stand for a module of that name here.
    """
    if directory in sys.path and directory not in _plugin_directories:
        return
    others = [other for other in _plugin_directories if other != directory]
    sys.path[:] = [*(place for place in sys.path if place not in _plugin_directories), directory, *others]
    _plugin_directories[:] = [directory, *others]
    for top in [name for name in sys.modules if "." not in name and not name.startswith(FILE_MODULE)]:
        if _directory_of(sys.modules[top]) in others and (
            Path(directory, top + ".py").is_file() or Path(directory, top).is_dir()
        ):
            for name in [name for name in sys.modules if name.partition(".")[0] == top]:
                del sys.modules[name]


def _directory_of(module: object) -> str:
    """Where the file of a module, or the directory of a package, stands."""
    file = Path(getattr(module, "__file__", None) or "")
    return str(file.parent.parent if file.stem == "__init__" else file.parent)


def _one_line(error: BaseException) -> str:
    return type(error).__name__ + (f": {error}" if str(error) else "")


def _only_scheme(module: ModuleType, name: str) -> object:
    classes = [
        c
        for _, c in inspect.getmembers(module, inspect.isclass)
        if issubclass(c, RmapScheme)
        and c is not RmapScheme
        and c.__module__ == module.__name__
        and not c.__name__.startswith("_")
    ]
    if len(classes) != 1:
        raise PluginError(f"scheme {name!r}: the file holds {len(classes)} schemes; name one as path/to/file.py:Class")
    return classes[0]


_EARLIER_HOOKS = {
    "layout": "the bytes it answered are fields of the Setup that configure(machine, options) answers",
    "variant": "the class it answered is the field scheme of the Setup that configure(machine, options) answers",
    "file_index": "it is a field of the Setup that configure(machine, options) answers",
    "nonlinear_areas": "it is a field of the Setup that configure(machine, options) answers",
    "remove_one": "remove(vma, pfns, ptes) is called for one PTE and for many",
    "released_one": "released(pfns) is called for one frame and for many",
    "file_released": "released(pfns) is called for pages of files too",
    "vma_linked": "an area without pages needs no record: make it in reserve or vma_copied",
    "vma_merged": "vma_unlinked(vma, into) names the area that took it over",
    "mm_forked": "mm_created(mm, parent) names the parent",
}
_EARLIER_ARGUMENTS = {
    ("walk", "pfn", "purpose", "visit"): "walk(walk) is given the question: walk.pfn, walk.purpose, and "
    "walk.visit(mm, address, vma, pte) to offer a place",
    ("nonlinear_addresses", "pfn", "purpose"): "nonlinear_addresses(walk) is given the walk: walk.pfn, walk.purpose",
}
_BEFORE_SETUP = (
    "file_index",
    "capabilities",
    "unmap_checks_young",
    "unmap_needs_vma",
    "unmaps_nonlinear",
    "incomplete",
)


def _refuse_earlier_contract(found: type, name: str) -> None:
    """A scheme that waits for a hook which is called no more would be told half of what happens."""
    for hook, instead in _EARLIER_HOOKS.items():
        if callable(getattr(found, hook, None)):
            raise PluginError(
                f"scheme {name!r}: class {found.__name__} is written for an earlier contract: {hook} is no hook: "
                f"{instead}"
            )
    for (hook, *given), instead in _EARLIER_ARGUMENTS.items():
        own = getattr(found, hook, None)
        if callable(own) and list(inspect.signature(own).parameters)[1:] == given:
            raise PluginError(
                f"scheme {name!r}: class {found.__name__} is written for an earlier contract: "
                f"{hook}({', '.join(given)}) takes other arguments: {instead}"
            )


def _earlier_card(error: BaseException) -> str:
    """What to say of a card with a field that is now in the Setup; "" where that is not the error."""
    for field in _BEFORE_SETUP:
        if isinstance(error, TypeError) and f"unexpected keyword argument '{field}'" in str(error):
            if field == "capabilities":
                return (
                    "it is written for an earlier contract: a card has no capabilities: derive from WalkScheme or "
                    "ScanScheme, and answer Setup(files=True) in configure(machine, options) for FILES"
                )
            return (
                f"it is written for an earlier contract: {field} is no field of the card, but of the Setup that "
                "configure(machine, options) answers"
            )
    for old, now in (
        ("Layout", "is part of Setup, which configure(machine, options) answers"),
        ("Visit", "is walk.visit(mm, address, vma, pte) of the Walk that walk(walk) is given"),
    ):
        if isinstance(error, ImportError) and f"cannot import name '{old}'" in str(error):
            return f"it is written for an earlier contract: {old} {now}"
    return ""


def _checked(found: object, name: str) -> type[RmapScheme]:
    """The contract, as far as it can be seen before a run: a card, a walk (or a scan), hooks with the arguments the
    core gives."""
    if not inspect.isclass(found):
        raise PluginError(f"scheme {name!r} is not a class")
    _refuse_earlier_contract(found, name)
    if not issubclass(found, (WalkScheme, ScanScheme)):
        missing = [hook for hook in ("card", "walk", "reserve", "add_anon") if not hasattr(found, hook)]
        lacks = f" and lacks {', '.join(missing)}" if missing else ""
        raise PluginError(
            f"scheme {name!r}: class {found.__name__} does not derive from mmcore.rmap.WalkScheme or ScanScheme{lacks}"
        )
    walks = issubclass(found, WalkScheme)
    base, other, hook = (WalkScheme, ScanScheme, "walk") if walks else (ScanScheme, WalkScheme, "swap_out")
    if walks and issubclass(found, ScanScheme):
        raise PluginError(
            f"scheme {name!r}: class {found.__name__} derives from both WalkScheme and ScanScheme: keep one"
        )
    card = getattr(found, "card", None)
    if not isinstance(card, Card):
        raise PluginError(
            f"scheme {name!r}: class {found.__name__} lacks its card (card = Card(name=..., title=..., ...))"
        )
    if getattr(found, hook) is getattr(base, hook):
        arguments = ", ".join(list(inspect.signature(getattr(base, hook)).parameters)[1:])
        raise PluginError(f"scheme {name!r}: class {found.__name__} lacks the hook {hook}({arguments})")
    for hook in ("swap_out",) if walks else ("walk", "nonlinear_addresses"):
        if hasattr(found, hook):
            raise PluginError(
                f"scheme {name!r}: class {found.__name__} gives {hook}, which is asked of a {other.__name__} "
                f"only: drop "
                f"{hook}, or derive from {other.__name__}"
            )
    if found.add_anon is RmapScheme.add_anon and walks:
        raise PluginError(
            f"scheme {name!r}: class {found.__name__} lacks the hook add_anon(pfn, vma, address, pte, exclusive, token)"
        )
    for hook, given_by_base in inspect.getmembers(base, inspect.isfunction):
        own = getattr(found, hook)
        if own is given_by_base or hook.startswith("_"):
            continue
        wanted = [p for p in inspect.signature(given_by_base).parameters if p != "self"]
        parameters = inspect.signature(own).parameters
        if any(p.kind is p.VAR_POSITIONAL for p in parameters.values()):
            continue
        given = [p for p in parameters if p != "self"]
        required = [p for p in given if parameters[p].default is parameters[p].empty]
        if len(given) < len(wanted) or len(required) > len(wanted):
            raise PluginError(f"scheme {name!r}: hook {hook}({', '.join(given)}) must take ({', '.join(wanted)})")
    return found
