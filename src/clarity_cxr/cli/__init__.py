"""The `clarity` command: one file per subcommand, each a few lines over the library."""
