"""What may be asked: commands, policies, the bus, and the log they append to."""
