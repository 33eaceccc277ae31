"""The maintainers' floor: running, storing and checking the chapters.

It imports no model, and no chapter imports it.
"""
