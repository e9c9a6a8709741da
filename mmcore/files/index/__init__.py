"""Which areas map a range of a file: three indexes that answer the same, at different cost (see list.py)."""
