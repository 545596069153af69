"""Figures: functions from tidy tables to matplotlib figures."""
