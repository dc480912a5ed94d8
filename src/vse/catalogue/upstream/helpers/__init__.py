"""Scripts that other Pythons run, with a client of their own; nothing here is imported by VSE."""
