"""Files of strangers, read by a process of their own that may crash, hang or fill up.

The caller starts one helper (:mod:`~lazyio.untrusted.helper`), which imports
lazyio once and forks a child for each file (:mod:`~lazyio.untrusted.server`).
What they say to each other cannot carry code (:mod:`~lazyio.untrusted.messages`).
"""
