"""What turns a configuration into a run: reading it, the stage language, run folders, signals."""
