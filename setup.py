"""Build: the C trap loop (cffi), and the guest programs when a compiler is there. Everything else stands in
pyproject.toml."""

import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent


class BuildPrograms(build_py):
    """Ships the bundled guest programs compiled, so that a host without a compiler can run them; never fails the
    build."""

    def run(self):
        super().run()
        if self.editable_mode:
            return  # a checkout compiles them when they are first run
        sys.path.insert(0, str(ROOT))
        try:
            from sandbox import toolchain

            if toolchain.find_compiler() is None:
                self.announce("no compiler for i386: the guest programs are compiled when they are first run", level=3)
                return
            toolchain.build_all(Path(self.build_lib) / "guest_programs" / "bin")
        except Exception as error:  # whatever the compiler does, the package itself is whole
            self.announce(f"the guest programs were not compiled: {error}", level=3)
        finally:
            sys.path.remove(str(ROOT))


setup(cffi_modules=["sandbox/cpu/build_trap.py:ffi"], cmdclass={"build_py": BuildPrograms})
