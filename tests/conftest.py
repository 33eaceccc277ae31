"""Settings of every test run."""

from hypothesis import settings

# The machine may be busy with other tests: how long an example takes says nothing.
settings.register_profile("book", deadline=None)
settings.load_profile("book")
