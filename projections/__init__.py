"""What readers see: read models folded from the log, and their queries."""
