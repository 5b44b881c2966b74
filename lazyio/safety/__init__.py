"""What keeps a target whole: one writer, a hidden place to work, one rename."""
