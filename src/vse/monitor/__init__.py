"""What services tell of themselves."""
