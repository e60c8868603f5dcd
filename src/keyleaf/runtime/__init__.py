"""Where the children run: local processes."""
