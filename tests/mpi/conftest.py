"""Programs that mpiexec starts are no tests, nor can they be imported without MPI."""

collect_ignore = ["program.py", "killed.py", "collective.py"]
