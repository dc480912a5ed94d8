"""The soak: real daemons under load while everything around them breaks, judged from outside.

``python -m soak --minutes 60`` with ``tests`` on the path; `make soak` does so on both databases.
"""
