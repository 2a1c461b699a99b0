"""Runs Python code that nobody trusts: small pieces itself, large ones in Kubernetes Jobs."""
