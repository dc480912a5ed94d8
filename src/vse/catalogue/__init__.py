"""Names: entries, replicas, queries, and the cached answers of the world's catalogues."""
