"""One module per contender, each with ``prepare(job)``.

``prepare`` opens what is read and returns a function without arguments; that
function, which writes and closes ``job.output``, is what is timed.
"""
