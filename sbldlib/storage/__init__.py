"""What lies on disk: files that are whole or absent, locks, checkpoints, lines that only grow."""
