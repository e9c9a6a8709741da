"""What is made of a run: its summary, its hash of memory, its comparison with other runs, the report of a crash."""
