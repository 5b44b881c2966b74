"""What lazyio costs beside its peers, and beside doing no more than necessary.

``python -m benchmarks`` compares writing and reading; ``planning``, ``reads``,
``chunks`` and ``memory`` after it measure the rest. ``--help`` goes with each.

Every run is a process of its own that imports and warms up before its clock
starts; contenders take turns; nobody fsyncs unless all do; what is written is
read back, and sums of what is read are compared.

``rows`` and ``catalogue`` list what is measured, ``field`` who takes part;
``contenders`` write and ``readers`` read, one module each; ``bare`` is what
the limit is made of.
"""
