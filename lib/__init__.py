"""The code of the book: one file a paper, and what the chapters need around them."""

__version__ = "0.1.0"
BOOK = "Where AI Images Come From"  # by which a chapter knows this package from another one called lib
