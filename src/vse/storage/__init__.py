"""Storage elements: what they are, which protocol to use, and the drivers that speak it.

Storage never asks the catalogue.
"""
