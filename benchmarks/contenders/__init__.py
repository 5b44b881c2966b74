"""One module per contender, each with ``prepare(job)``.

``prepare`` opens what is read and returns a function without arguments; that
function, which writes and closes ``job.output``, is what is timed. A module
with ``SYNCS_ITSELF`` has an option that forces what it writes to the disk;
what others write is synced after them where that is asked for.
"""
