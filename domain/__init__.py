"""What happened and what follows from it: events, states, invariants."""
