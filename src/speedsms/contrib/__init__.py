"""Glue for web frameworks and queues, one module each; a framework is loaded by its own module only."""
