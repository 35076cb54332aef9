"""What each command does: read, one call of the library, an outcome to print."""
