"""What a user types: one file a command, with ``HELP`` and ``main(argv) -> int``."""
