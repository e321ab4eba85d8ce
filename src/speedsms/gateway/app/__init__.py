"""The composition root: builds the parts of each process, and the supervisor of them all."""
