"""Which runs a command asks for, what each of them will take, and what `--dry-run` shows."""
