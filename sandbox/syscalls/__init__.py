"""System calls, one module per subject. Importing a module enters its calls into the table."""

import pkgutil
from importlib import import_module


def load_all() -> None:
    """Fills the table from every module of the package. Done once, before the kernel boots; repeating it changes
    nothing."""
    for module in sorted(info.name for info in pkgutil.iter_modules(__path__)):
        import_module(f"{__name__}.{module}")
