"""Writes Python code for a task, checks it, and sends it to where it can run."""
