"""The pictures of the chapters, one module a chapter; each function takes what it needs of the chapter and draws."""
