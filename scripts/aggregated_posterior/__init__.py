"""Exact statistics of the aggregated posterior Q(z) = (1/N) Σ_n N(z; μ_n, diag s_n) of a variational autoencoder.

This file imports nothing on purpose: the pipeline keys its cache by the modules that a script imports, so an import
here would make every result depend on every module, and would load torch where only NumPy is needed.
"""
