"""From C source to an i386 ELF program: the compiler, the cache, and the bundled guest programs.

A plain `gcc -m32` can translate for i386 without any 32-bit library, so programs are linked with a small runtime of our
own (guest_programs/runtime). Clang will do as well. Where neither exists, the `ziglang` package (the `toolchain` extra)
brings a compiler and musl, which then takes the runtime's place.

    source.c ──cc -E──> text ──hash──> cache/NAME-HASH   there already? answer it
                                            └── no: cc + runtime objects (cached likewise)
                                                ──> link ──> rename into place

Only the standard library is imported: setup.py uses this file before anything is installed.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

GUEST_PROGRAMS = Path(__file__).resolve().parent.parent / "guest_programs"
RUNTIME = GUEST_PROGRAMS / "runtime"
COMMON = GUEST_PROGRAMS / "common"
SHIPPED = GUEST_PROGRAMS / "bin"
MANIFEST = "manifest.json"
SECONDS = 120  # no compilation of ours takes more than a few

REMEDY = 'apt-get install gcc, or pip install "rmapbox[toolchain]"'

# i686: no SSE, as the machines of 2003 had it at most. One section per function lets the linker drop what is unused.
_CODE = (
    "-m32",
    "-march=i686",
    "-O2",
    "-std=gnu11",
    "-nostdinc",
    "-fno-pie",
    "-fno-stack-protector",
    "-fno-asynchronous-unwind-tables",
    "-fcf-protection=none",
    "-ftls-model=local-exec",
    "-ffunction-sections",
    "-fdata-sections",
    "-U_FORTIFY_SOURCE",
)
# 0x08048000 is ld's address for i386 and not lld's; text, constants and data get segments of their own.
_LINK = (
    "-m32",
    "-nostdlib",
    "-static",
    "-no-pie",
    "-Wl,--gc-sections,-z,noexecstack,-z,norelro,-z,separate-code,--build-id=none",
)
_ZIG = (
    "-target",
    "x86-linux-musl",
    "-mcpu=i686",
    "-O2",
    "-std=gnu11",
    "-static",
    "-fno-sanitize=undefined",
    "-fno-stack-protector",
    "-U_FORTIFY_SOURCE",
    "-s",
    "-Wl,--image-base=0x8048000",
)


class CompileError(Exception):
    """A program that cannot be built; the message is the compiler's first error lines, or the remedy for its
    absence."""


def _refuse_shortage(error: Exception) -> None:
    """Raises ConfigError when it is the host that lacks something: no other compiler would help."""
    try:
        from mmcore.errors import ConfigError
        from sandbox.hostlimits import shortage
    except ImportError:  # setup.py: nothing is installed yet
        return
    lacking = shortage(error)
    if lacking is not None:
        raise ConfigError(lacking) from None


@dataclass(frozen=True)
class Compiler:
    """A way to make i386 programs. `kind` is "gcc", "clang" or "zig"; `command` starts its command lines."""

    kind: str
    command: tuple[str, ...]
    version: str

    @property
    def code_flags(self) -> tuple[str, ...]:
        """Flags that translate one C file for the guest, runtime headers included."""
        if self.kind == "zig":
            return (*_ZIG, "-I", str(COMMON))
        extra = ("--target=i386-linux-gnu", "-Wno-unused-command-line-argument") if self.kind == "clang" else ()
        return (*extra, *_CODE, "-I", str(RUNTIME / "include"), "-I", str(COMMON))

    @property
    def runtime_flags(self) -> tuple[str, ...]:
        """Further flags for the runtime's own files: memcpy's loop must not become a call of memcpy."""
        return ("-ffreestanding", *(("-fno-tree-loop-distribute-patterns",) if self.kind == "gcc" else ()))

    @property
    def link_flags(self) -> tuple[str, ...]:
        """Flags that link objects into a static program."""
        if self.kind == "zig":
            return _ZIG
        return (*(("--target=i386-linux-gnu",) if self.kind == "clang" else ()), *_LINK)

    def run(self, arguments: Iterable[str]) -> subprocess.CompletedProcess[bytes]:
        """Runs it; raises CompileError when it cannot be started or hangs."""
        command = [*self.command, *arguments]
        try:
            return subprocess.run(
                command,
                check=False,
                capture_output=True,
                stdin=subprocess.DEVNULL,
                timeout=SECONDS,
                env={**os.environ, "LC_ALL": "C"},
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            _refuse_shortage(error)
            raise CompileError(f"{self.command[0]}: {error}; {REMEDY}") from None


# --- finding a compiler

_PROBE = '__attribute__((noreturn)) void _start(void) { __asm__("movl $1, %eax; int $0x80"); for (;;); }\n'
_PROBE_HOSTED = "int main(void) { return 0; }\n"


def _candidates() -> list[tuple[str, tuple[str, ...]]]:
    """Kinds and commands worth trying, best first; RMAPBOX_CC, when set, is the only one."""
    chosen = os.environ.get("RMAPBOX_CC")
    if chosen:
        command = tuple(shlex.split(chosen))
        kind = "zig" if "zig" in chosen else "clang" if "clang" in chosen else "gcc"
        return [(kind, command)]
    found: list[tuple[str, tuple[str, ...]]] = []
    for kind in ("gcc", "clang"):
        path = shutil.which(kind)
        if path:
            found.append((kind, (path,)))
    if importlib.util.find_spec("ziglang"):
        found.append(("zig", (sys.executable, "-m", "ziglang", "cc")))
    return found


def _probe(kind: str, command: tuple[str, ...]) -> tuple[Compiler, str]:
    """The compiler, and why it does not work ("" when it makes i386 programs)."""
    compiler = Compiler(kind, command, "unknown version")
    try:
        # Every compiler answers --version in its first line; zig's cc speaks as the clang inside it.
        said = compiler.run(["--version"])
        first = said.stdout.decode(errors="replace").partition("\n")[0].strip()
        compiler = Compiler(kind, command, f"zig's {first}" if kind == "zig" else first or "unknown version")
        with tempfile.TemporaryDirectory(prefix="rmapbox-") as directory:
            source = Path(directory, "probe.c")
            source.write_text(_PROBE_HOSTED if kind == "zig" else _PROBE)
            done = compiler.run(
                [*compiler.code_flags, *compiler.link_flags, str(source), "-o", str(Path(directory, "probe"))]
            )
    except CompileError as error:
        return compiler, str(error)
    return compiler, "" if done.returncode == 0 else first_errors(done.stderr)


@functools.cache
def _probed() -> tuple[tuple[Compiler, str], ...]:
    results = []
    for kind, command in _candidates():
        results.append(_probe(kind, command))
        if not results[-1][1]:
            break
    return tuple(results)


def find_compiler() -> Compiler | None:
    """The first compiler of gcc, clang and ziglang (or the one RMAPBOX_CC names) that makes i386 programs, else None.

    Every candidate builds a trial program once per process.
    """
    for compiler, trouble in _probed():
        if not trouble:
            return compiler
    return None


def compiler_report() -> list[dict[str, object]]:
    """What `rmapbox doctor` says of compilers: one entry per candidate tried, with keys `name`, `command`, `version`,
    `works` (bool), `runtime` ("own" or "musl") and `remedy` ("" when it works); one entry named "none" when there is no
    candidate."""
    report: list[dict[str, object]] = []
    for compiler, trouble in _probed():
        report.append(
            {
                "name": compiler.kind,
                "command": " ".join(compiler.command),
                "version": compiler.version,
                "works": not trouble,
                "runtime": "musl" if compiler.kind == "zig" else "own",
                "remedy": f"{trouble}; {REMEDY}" if trouble else "",
            }
        )
    if not report:
        report.append({"name": "none", "command": "", "version": "", "works": False, "runtime": "", "remedy": REMEDY})
    return report


def _need_compiler() -> Compiler:
    compiler = find_compiler()
    if compiler is None:
        report = compiler_report()[0]
        tried = f"{report['name']} cannot make i386 programs: " if report["command"] else "no C compiler: "
        raise CompileError(f"{tried}{report['remedy']}")
    return compiler


# --- the cache


def cache_directory() -> Path:
    """The first of $XDG_CACHE_HOME/rmapbox, ~/.cache/rmapbox and a private directory under the temporary one that can
    be written."""
    places = [
        Path(base, "rmapbox")
        for base in (os.environ.get("XDG_CACHE_HOME", ""), os.path.expanduser("~/.cache"))
        if os.path.isabs(base)
    ]
    places.append(Path(tempfile.gettempdir(), f"rmapbox-{os.getuid()}"))
    for place in places:
        try:
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError:
            continue
        # What another user could have put there would be run in our name.
        if place.stat().st_uid == os.getuid() and os.access(place, os.W_OK | os.X_OK):
            return place
    raise CompileError(f"no directory to keep compiled programs in: make {places[0]} writable or set XDG_CACHE_HOME")


def _digest(*parts: object) -> str:
    digest = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode()
        digest.update(b"%d:" % len(data))
        digest.update(data)
    return digest.hexdigest()[:24]


def _tree_digest(*roots: Path) -> str:
    parts: list[object] = []
    for root in roots:
        for path in sorted(root.rglob("*.[ch]")):
            parts += (path.relative_to(root).as_posix(), path.read_bytes())
    return _digest(*parts)


@functools.cache
def _support_digest() -> str:
    """Of everything but its own text that decides a program: runtime, common headers, flags."""
    return _digest(_tree_digest(RUNTIME, COMMON), _CODE, _LINK, _ZIG)


def first_errors(stderr: bytes, limit: int = 3) -> str:
    """The compiler's first error lines, directories cut off; its first lines when none says error."""
    lines = [line.strip() for line in stderr.decode(errors="replace").splitlines() if line.strip()]
    telling = [line for line in lines if re.search(r"\berror\b|undefined (reference|symbol)", line)] or lines
    return (
        "\n".join(re.sub(r"(?<!\S)/(?:[^/\s:]+/)+", "", line) for line in telling[:limit])
        or "the compiler failed without a word"
    )


def _explain(stderr: bytes, compiler: Compiler) -> str:
    """first_errors(), with a hint where the reason is that our runtime is small."""
    message = first_errors(stderr)
    if compiler.kind == "zig":
        return message
    missing = re.search(r"undefined (?:reference to [`']|symbol: )(\w+)", message)
    header = re.search(r"fatal error: '?([\w./]+\.h)'?(?:: No such file| file not found)", message)
    if missing or header:
        what = f"no {missing[1]}()" if missing else f"no <{header[1]}>"  # type: ignore[index]
        message += (
            f"\nthe guest runtime has {what}: give a static i386 ELF file instead, linked with the C library you need"
        )
    return message


def _runtime_objects(compiler: Compiler) -> list[Path]:
    """The runtime compiled by `compiler`, from the cache if it was before; none for zig, which brings musl."""
    if compiler.kind == "zig":
        return []
    sources = sorted(RUNTIME.glob("*.c"))
    directory = cache_directory() / f"runtime-{_digest(_support_digest(), compiler)}"
    objects = [directory / f"{source.stem}.o" for source in sources]
    if directory.is_dir():
        return objects
    building = Path(tempfile.mkdtemp(prefix="building-", dir=directory.parent))

    def build(source: Path) -> subprocess.CompletedProcess[bytes]:
        return compiler.run(
            [*compiler.code_flags, *compiler.runtime_flags, "-c", str(source), "-o", str(building / f"{source.stem}.o")]
        )

    try:
        with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
            for source, done in zip(sources, pool.map(build, sources), strict=True):
                if done.returncode:
                    raise CompileError(
                        f"the guest runtime does not compile ({source.name}): {first_errors(done.stderr)}"
                    )
        try:
            building.rename(directory)
        except OSError:
            if not directory.is_dir():  # no other process was faster: a real failure
                raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return objects


def compile_c(source: Path, output: Path | None = None, *, flags: Sequence[str] = ()) -> Path:
    """Compiles the C file `source` into a static i386 ELF program and answers its path.

    The result lies in the cache under a name made of everything that decides it: preprocessed text, flags, runtime,
    compiler. With `output` it is put there too. Nobody sees a half-written file. Raises CompileError.
    """
    source = Path(source)
    try:
        source.read_bytes()
    except OSError as error:
        raise CompileError(f"{source}: {error.strerror}") from None
    compiler = _need_compiler()
    text = compiler.run([*compiler.code_flags, *flags, "-E", str(source)])
    if text.returncode:
        raise CompileError(_explain(text.stderr, compiler))
    key = _digest(text.stdout, compiler, flags, _support_digest())
    program = cache_directory() / f"{source.stem}-{key}"
    if not program.exists():
        _link(compiler, source, flags, program)
    if output is None:
        return program
    _place(program, Path(output))
    return Path(output)


def _link(compiler: Compiler, source: Path, flags: Sequence[str], program: Path) -> None:
    objects = _runtime_objects(compiler)
    handle, name = tempfile.mkstemp(prefix="building-", dir=program.parent)
    os.close(handle)
    try:
        done = compiler.run(
            [*compiler.code_flags, *compiler.link_flags, *flags, str(source), *map(str, objects), "-o", name]
        )
        if done.returncode:
            raise CompileError(_explain(done.stderr, compiler))
        os.chmod(name, 0o755)
        os.replace(name, program)
    finally:
        if os.path.exists(name):
            os.unlink(name)


def _place(program: Path, destination: Path) -> None:
    """Copies a program to `destination` in one step."""
    handle, name = tempfile.mkstemp(prefix=".building-", dir=destination.parent)
    os.close(handle)
    try:
        shutil.copyfile(program, name)
        os.chmod(name, 0o755)
        os.replace(name, destination)
    finally:
        if os.path.exists(name):
            os.unlink(name)


# --- the bundled programs


@dataclass(frozen=True)
class BundledProgram:
    """A bundled guest program and its card.

    `arguments` is the card's text, "name=default" words; `defaults` the same as a dictionary.
    """

    name: str
    source: Path
    summary: str
    drives: str
    arguments: str
    look_at: str

    @property
    def defaults(self) -> dict[str, str]:
        return dict(re.findall(r"(\w+)=(\S+)", self.arguments))

    @property
    def source_hash(self) -> str:
        """Of its text and all that is compiled into it, but not of the compiler."""
        return _digest(self.source.read_bytes(), _support_digest())


_CARD_KEYS = ("name", "summary", "drives", "arguments", "look at")


def parse_card(source: Path) -> BundledProgram:
    """Reads the card that opens a bundled program: a comment of `key: text` lines in the order of _CARD_KEYS, where a
    line without a key continues the one before. Raises CompileError naming what is wrong."""
    opening = re.match(r"/\*(.*?)\*/", source.read_text(), re.DOTALL)
    card: dict[str, str] = {}
    key = ""
    for line in opening[1].splitlines() if opening else ():
        line = line.strip().lstrip("*").strip()
        entry = re.match(rf"({'|'.join(_CARD_KEYS)}):\s*(.*)", line)
        if entry:
            key = entry[1]
            card[key] = entry[2]
        elif line and key:
            card[key] = f"{card[key]} {line}".strip()
    if tuple(card) != _CARD_KEYS:
        raise CompileError(
            f"{source.name}: its card must have the keys {', '.join(_CARD_KEYS)}, in this order; it has "
            f"{', '.join(card) or 'none'}"
        )
    if card["name"] != source.stem:
        raise CompileError(f"{source.name}: its card is named {card['name']!r}")
    return BundledProgram(card["name"], source, card["summary"], card["drives"], card["arguments"], card["look at"])


@functools.cache
def bundled() -> dict[str, BundledProgram]:
    """The bundled programs by name, sorted."""
    return {source.stem: parse_card(source) for source in sorted(GUEST_PROGRAMS.glob("*.c"))}


def _manifest(directory: Path) -> dict[str, str]:
    try:
        recorded = json.loads((directory / MANIFEST).read_text())
    except (OSError, ValueError):
        return {}
    return recorded if isinstance(recorded, dict) else {}


def program_path(name: str) -> Path:
    """The ELF file of the bundled program `name`: the one shipped if it was built from this source, else one from the
    cache, compiled now if need be. Raises KeyError for an unknown name and CompileError."""
    program = bundled()[name]
    source_hash = program.source_hash
    shipped = SHIPPED / name
    if _manifest(SHIPPED).get(name) == source_hash and shipped.is_file():
        return shipped
    cached = cache_directory() / f"{name}-bundled-{source_hash}"
    if not cached.exists():
        compile_c(program.source, cached)
    return cached


def build_all(destination: Path) -> dict[str, Path]:
    """Compiles every bundled program into `destination`, with a manifest of source hashes, and answers their paths by
    name.

    Without a compiler nothing is made and the answer is empty: the programs are then compiled when first run.
    Raises CompileError for a program that a working compiler refuses.
    """
    destination = Path(destination)
    if find_compiler() is None:
        return {}
    destination.mkdir(parents=True, exist_ok=True)
    built = {name: compile_c(program.source, destination / name) for name, program in bundled().items()}
    manifest = {name: bundled()[name].source_hash for name in built}
    (destination / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    return built
