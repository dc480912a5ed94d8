"""root://: a redirector that stages what is missing, and the configuration of an xrootd beside it."""
