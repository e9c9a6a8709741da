"""What programs ask of the memory management, one module per call. Errors are SysError; a call that may wait is a
generator, or raises MustWait before it changes anything."""
