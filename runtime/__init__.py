"""What belongs to no layer: settings, wiring, processes, the command line."""
