"""Who has a class is declared with it: `Any` stands only where nothing better is true, and says why."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PRODUCT = ("sandbox", "mmcore", "rmap_plugins")

HAVE_A_CLASS = frozenset(
    (
        "address_space area auditor cache child clock config console cpu ctx current dentry directory dst ending "
        "env exe_file file files frames fs gen host image info inode into kernel loop machine mapping mem meters "
        "mm mms node nxt owner pages parent pgtables pictures pipe process program queue queues ram reader "
        "recorder regs report result root sb scheme setup sighand signal slab space src stack supers swap table "
        "tables task tasks timer vfs vm_file vm_mm vma vmas vmstat walk world writer zone zones"
    ).split()
)
"""Names of parameters and attributes for which the product has a class (or an array, or a register file)."""

REASONS = {
    "mmcore/rmap/scheme.py": (6, "tokens: the core hands a scheme's own back to it, whatever they are"),
    "sandbox/cli/arguments.py": (1, "passed on to argparse"),
    "sandbox/config.py": (3, "passed on to msgspec, which checks them"),
    "sandbox/cpu/unicorn_api.py": (1, "a handle of cffi"),
    "sandbox/kit/machine.py": (1, "a scheme's options, by name"),
    "sandbox/kit/pictures.py": (1, "a scheme's options, by name"),
    "sandbox/kit/processes.py": (4, "functions to run elsewhere, whatever they answer"),
    "sandbox/kit/watch.py": (11, "a scheme's hooks, whatever they take, and a class made at run time"),
    "sandbox/kit/world.py": (9, "calls into the core, whatever they take; a scheme's options, by name"),
    "sandbox/lab/child.py": (1, "messages between processes, each with its own fields"),
    "sandbox/lab/console.py": (1, "passed on to rich"),
}
"""File -> how many of its parameters say `Any`, and why."""

NAMED_VALUES = "dict[str, Any]"
"""Names with values of any type: a scheme's options, settings, JSON. Nothing better is true of them."""


def _declared(tree: ast.Module) -> Iterator[tuple[str, str, bool]]:
    """(name, its type, is it a parameter) of each parameter and each declared attribute or variable. The type of a
    parameter that has none is "", and `Any` for whoever checks."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            of = node.args
            for one in (*of.posonlyargs, *of.args, *of.kwonlyargs, of.vararg, of.kwarg):
                if one is not None and not (one.annotation is None and one.arg in ("self", "cls")):
                    yield one.arg, ast.unparse(one.annotation) if one.annotation is not None else "", True
        elif isinstance(node, ast.AnnAssign):
            target = node.target
            name = target.attr if isinstance(target, ast.Attribute) else ast.unparse(target)
            yield name, ast.unparse(node.annotation), False


def _says_any(kind: str) -> bool:
    kind = kind.replace(NAMED_VALUES, "dict")
    return not kind or any(isinstance(part, ast.Name) and part.id == "Any" for part in ast.walk(ast.parse(kind)))


def _product() -> Iterator[tuple[str, ast.Module]]:
    for room in PRODUCT:
        for path in sorted((ROOT / room).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def test_declarations_are_found() -> None:
    source = (
        "class C:\n    x: dict[str, Any]\n    def f(self, task, /, mm: Any, *a: int, vma: 'VmArea' = None, **k: Any):\n"
        "        self.zone: list[Any] | None = None\n"
    )
    assert list(_declared(ast.parse(source))) == [
        ("x", "dict[str, Any]", False),
        ("task", "", True),
        ("mm", "Any", True),
        ("vma", "'VmArea'", True),
        ("a", "int", True),
        ("k", "Any", True),
        ("zone", "list[Any] | None", False),
    ]
    assert [_says_any(kind) for kind in ("", "Any", "list[Any] | None", "dict[str, Any]", "int")] == [True] * 3 + [
        False
    ] * 2


def test_what_has_a_class_is_declared_with_it() -> None:
    found, wrong = set(), []
    for file, tree in _product():
        for name, kind, _ in _declared(tree):
            if name in HAVE_A_CLASS:
                found.add(name)
                if _says_any(kind):
                    wrong.append(f"{file}: {name}: {kind or 'no type'}")
    assert {"task", "kernel", "vfs", "mem", "mm", "cpu", "vma", "zone", "file", "inode"} <= found
    assert not wrong


def test_a_parameter_of_any_type_has_a_reason() -> None:
    counts: Counter[str] = Counter()
    for file, tree in _product():
        counts[file] += sum(parameter and _says_any(kind) for _, kind, parameter in _declared(tree))
    assert {file: n for file, n in counts.items() if n} == {file: n for file, (n, _) in REASONS.items()}
