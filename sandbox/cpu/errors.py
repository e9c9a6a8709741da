"""How the emulated CPU fails: for good, or for one program."""


class CpuError(Exception):
    """The CPU cannot start, or stopped in a state that must not be continued. One line."""


class CpuGap(CpuError):
    """The program did what this CPU does not emulate: its state is lost, and only its. One line."""
