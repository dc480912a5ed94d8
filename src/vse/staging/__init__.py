"""Requests for datasets, the stager that serves them, and the answers to 'where is my file'."""
