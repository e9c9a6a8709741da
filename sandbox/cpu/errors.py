class CpuError(Exception):
    """The CPU cannot start, or stopped in a state that must not be continued. One line."""
