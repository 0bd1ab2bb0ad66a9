"""Where tables go, what it takes in bytes and time, and what to do where it fails."""
