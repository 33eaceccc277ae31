"""How each model of the book is built at the book's size, prepared for, trained and tested: one module a part.

A chapter's training cell and the command line (`lib.run`) both call these functions, so the weights that ship are made
as the chapter shows it. A loss takes the model, images (B, 1, 28, 28) from 0 to 1 and labels (B,), and answers with a
dict of scalars of which "loss" is trained. A test takes the same and answers with numbers by name.
"""
