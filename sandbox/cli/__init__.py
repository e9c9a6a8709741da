"""The command `rmapbox`: a module per subcommand. An error of the user's is one line on stderr and exit status 2."""
