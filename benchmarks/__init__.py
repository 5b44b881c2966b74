"""What lazyio costs beside its peers, and beside doing no more than necessary.

``python -m benchmarks`` times writing; ``planning``, ``reads``, ``chunks`` and
``memory`` after it measure the rest. ``--help`` goes with each.

Every run is a process of its own that imports and warms up before its clock
starts; contenders take turns; nobody fsyncs; what is written is read back.
"""
